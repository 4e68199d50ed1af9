# SPDX-License-Identifier: Apache-2.0
"""The transformer blocks of CroCo v2 (Weinzaepfel et al., ICCV 2023): pre-norm, rotary positions, fused attention.

The names of the modules are those of the published checkpoints.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from st3r_ros.network.rope import rotate

NORM_EPS = 1e-6


def layer_norm(dim: int) -> nn.LayerNorm:
    """LayerNorm with the epsilon of this family of networks."""
    return nn.LayerNorm(dim, eps=NORM_EPS)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out or dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., dim) -> (..., out)."""
        return self.fc2(F.gelu(self.fc1(x)))


class SelfAttention(nn.Module):
    """Multi-head self-attention of the tokens of one image."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
        """x: (B, n, dim). rope: (n, 2, dim / heads)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        q, k = rotate(qkv[:, :, :2], rope[:, None, None]).unbind(2)
        return self.proj(attend(q, k, qkv[:, :, 2]))


class CrossAttention(nn.Module):
    """Multi-head cross-attention from the tokens of one image to those of another."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(dim, dim)
        self.projk = nn.Linear(dim, dim)
        self.projv = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, y: torch.Tensor, rope_x: torch.Tensor, rope_y: torch.Tensor) -> torch.Tensor:
        """x: (B, n, dim) queries, y: (B, m, dim) keys and values; rope_x: (n, 2, dim / heads), rope_y: (m, 2, dim / heads)."""
        q, k, v = (
            project(z).unflatten(-1, (self.heads, -1)) for project, z in ((self.projq, x), (self.projk, y), (self.projv, y))
        )
        return self.proj(attend(rotate(q, rope_x[:, None]), rotate(k, rope_y[:, None]), v))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention of (B, n, heads, d) queries to (B, m, heads, d) keys and values -> (B, n, heads * d)."""
    q, k, v = (z.transpose(1, 2) for z in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class EncoderBlock(nn.Module):
    """Self-attention and MLP, each on the normalized input and added to it."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = layer_norm(dim), layer_norm(dim)
        self.attn = SelfAttention(dim, heads)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, x: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
        """x: (B, n, dim). rope: (n, 2, dim / heads)."""
        x = x + self.attn(self.norm1(x), rope)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """An encoder block with cross-attention to the other view's tokens in between."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3, self.norm_y = (layer_norm(dim) for _ in range(4))
        self.attn = SelfAttention(dim, heads)
        self.cross_attn = CrossAttention(dim, heads)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, x: torch.Tensor, y: torch.Tensor, rope_x: torch.Tensor, rope_y: torch.Tensor) -> torch.Tensor:
        """x: (B, n, dim) tokens of this view, y: (B, m, dim) of the other, both from the previous layer."""
        x = x + self.attn(self.norm1(x), rope_x)
        x = x + self.cross_attn(self.norm2(x), self.norm_y(y), rope_x, rope_y)
        return x + self.mlp(self.norm3(x))
