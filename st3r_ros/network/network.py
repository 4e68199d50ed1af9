# SPDX-License-Identifier: Apache-2.0
"""The network of DUSt3R (Wang et al., CVPR 2024) and MASt3R (Leroy et al., ECCV 2024): two images in, their pointmaps out.

A siamese encoder processes each image separately; two decoders, one per view, attend to each other's tokens layer by layer; a
head per view turns tokens into a point, a confidence and a descriptor for every pixel. Both pointmaps are in view 0's
coordinates. The names of the modules are those of the published checkpoints; parts that inference does not use are omitted.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import nn

from st3r_ros.network.blocks import DecoderBlock, EncoderBlock, layer_norm
from st3r_ros.network.config import NetworkConfig
from st3r_ros.network.heads import Grid, ImagePart, ViewHead
from st3r_ros.network.outputs import PairOutput, ViewOutput, confidence, pointmap, unit_descriptors
from st3r_ros.network.rope import rope_table


def laid_out(weight: torch.Tensor) -> torch.Tensor:
    """The weight in the memory layout of inference: channels last for convolutions, like the maps that the heads process."""
    return weight.contiguous(memory_format=torch.channels_last if weight.dim() == 4 else torch.contiguous_format)


@dataclass(frozen=True, eq=False)
class Decoded:
    """Decoder layers of both views that the heads read, each (B, n, dec_dim), the last one normalized.

    Three for a DPT head (blocks L/2, 3L/4 and L), only the last for a linear head.
    """

    view0: tuple[torch.Tensor, ...]
    view1: tuple[torch.Tensor, ...]


class PatchEmbed(nn.Module):
    """Converts each patch of an image to a token."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, rows * columns, dim)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class PairNetwork(nn.Module):
    """Encoder, decoders and heads. `forward` runs all stages; they can also be called separately, to cache their results."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        enc, dec, ratio = config.enc_embed_dim, config.dec_embed_dim, config.mlp_ratio
        self.patch_embed = PatchEmbed(config.patch_size, enc)
        self.enc_blocks = nn.ModuleList(EncoderBlock(enc, config.enc_num_heads, ratio) for _ in range(config.enc_depth))
        self.enc_norm = layer_norm(enc)
        self.decoder_embed = nn.Linear(enc, dec)
        self.dec_blocks = nn.ModuleList(DecoderBlock(dec, config.dec_num_heads, ratio) for _ in range(config.dec_depth))
        self.dec_blocks2 = nn.ModuleList(DecoderBlock(dec, config.dec_num_heads, ratio) for _ in range(config.dec_depth))
        self.dec_norm = layer_norm(dec)
        self.downstream_head1, self.downstream_head2 = ViewHead(config), ViewHead(config)
        self._rope_tables: dict[Hashable, torch.Tensor] = {}

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights, tokens and layers; outputs are always float32."""
        return self.enc_norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.enc_norm.weight.device

    def grid(self, images: torch.Tensor) -> Grid:
        """Rows and columns of patches in images (B, 3, H, W)."""
        return images.shape[-2] // self.config.patch_size, images.shape[-1] // self.config.patch_size

    def forward(self, images0: torch.Tensor, images1: torch.Tensor) -> PairOutput:
        """Both views of a batch of pairs: images (B, 3, H, W) in [-1, 1], sides multiples of the patch size; without caching."""
        grid0, grid1 = self.grid(images0), self.grid(images1)
        tokens0, tokens1 = self.encode(images0), self.encode(images1)
        decoded = self.decode(tokens0, tokens1, grid0, grid1)
        return PairOutput(
            self.head(0, decoded.view0, grid0, self.image_part(0, tokens0, grid0)),
            self.head(1, decoded.view1, grid1, self.image_part(1, tokens1, grid1)),
        )

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens (B, n, enc_dim), row-major over the patches, of images (B, 3, H, W) in [-1, 1]."""
        rope = self._rope(self.grid(images), self.config.enc_embed_dim // self.config.enc_num_heads)
        x = self.patch_embed(images.to(self.dtype))
        for block in self.enc_blocks:
            x = block(x, rope)
        return self.enc_norm(x)

    def decode(self, tokens0: torch.Tensor, tokens1: torch.Tensor, grid0: Grid, grid1: Grid) -> Decoded:
        """Decodes the encoder tokens of both views, (B, n, enc_dim) and (B, m, enc_dim), jointly."""
        head_dim = self.config.dec_embed_dim // self.config.dec_num_heads
        rope0, rope1 = self._rope(grid0, head_dim), self._rope(grid1, head_dim)
        x, y = self.decoder_embed(tokens0), self.decoder_embed(tokens1)
        kept = []
        for layer, (block0, block1) in enumerate(zip(self.dec_blocks, self.dec_blocks2, strict=True), start=1):
            x, y = block0(x, y, rope0, rope1), block1(y, x, rope1, rope0)
            if layer in self.config.hooks[1:-1] and self.config.head != "linear":
                kept.append((x, y))
        kept.append((self.dec_norm(x), self.dec_norm(y)))
        views0, views1 = zip(*kept, strict=True)
        return Decoded(views0, views1)

    def needed(self, pointmaps: bool, descriptors: bool) -> tuple[bool, bool]:
        """Whether the heads must compute points and descriptors for a request.

        A network without descriptors returns none; descriptors without their own confidence use that of the points.
        """
        descriptors = descriptors and self.config.desc_dim > 0
        return pointmaps or (descriptors and not self.config.two_confs), descriptors

    def image_part(self, view: int, tokens: torch.Tensor, grid: Grid, *, pointmaps: bool = True) -> ImagePart:
        """The head's `ImagePart` for view 0 or 1 from encoder tokens (B, n, enc_dim); the same for every pair of the image."""
        return self._view_head(view).image_part(tokens, grid, pointmaps)

    def head(
        self,
        view: int,
        layers: tuple[torch.Tensor, ...],
        grid: Grid,
        part: ImagePart,
        *,
        pointmaps: bool = True,
        descriptors: bool = True,
    ) -> ViewOutput:
        """The outputs of view 0 or 1 from its `Decoded` layers and its `image_part`, which must cover the request."""
        points, features = self.needed(pointmaps, descriptors)
        raw = self._view_head(view)(layers, grid, part, points, features)
        X = conf = desc = desc_conf = None
        if raw.points is not None:
            raw_points = raw.points.float()
            X = pointmap(raw_points[..., :3], self.config.depth_mode)
            conf = confidence(raw_points[..., 3], self.config.conf_mode)
        if raw.features is not None:
            desc = unit_descriptors(raw.features[..., : self.config.desc_dim].float())
            own = raw.features[..., -1].float()
            desc_conf = confidence(own, self.config.desc_conf_mode) if self.config.two_confs else conf
        return ViewOutput(X, conf, desc, desc_conf)

    def _view_head(self, view: int) -> ViewHead:
        return (self.downstream_head1, self.downstream_head2)[view]

    def _rope(self, grid: Grid, head_dim: int) -> torch.Tensor:
        """Kept forever, since captured CUDA graphs read it; a working size has at most a few dozen grids."""
        key = grid, head_dim, self.dtype, self.device
        if key not in self._rope_tables:
            self._rope_tables[key] = rope_table(*grid, head_dim, self.config.rope_base, self.dtype, self.device)
        return self._rope_tables[key]
