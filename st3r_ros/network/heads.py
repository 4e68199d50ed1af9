# SPDX-License-Identifier: Apache-2.0
"""The heads: from the tokens of a view to raw values for every pixel.

Each head has two parts: `image_part` depends only on the encoder output, is the same for every pair of the image and can be
cached; `forward` computes the rest for one pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from st3r_ros.network.blocks import Mlp
from st3r_ros.network.config import NetworkConfig

DPT_CHANNELS = (96, 192, 384, 768)
DPT_WIDTH = 256
DPT_LAST_WIDTH = 128
POINT_CHANNELS = 4
STRIP_ROWS = 64
HIDDEN_RATIO = 4

Grid = tuple[int, int]


def conv3x3(channels_in: int, channels_out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=bias)


def as_picture(tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(B, rows * columns, C) tokens as (B, C, rows, columns), channels last in memory."""
    return tokens.unflatten(1, grid).permute(0, 3, 1, 2)


def twice_as_large(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def rows_of_twice_as_large(x: torch.Tensor, first: int, end: int) -> torch.Tensor:
    """Rows [first, end) of `twice_as_large(x)`."""
    height, width = x.shape[-2:]
    y = torch.arange(first, end, device=x.device) * ((height - 1) / (2 * height - 1))
    upper = y.long()
    share = (y - upper).to(x.dtype)[:, None]
    rows = torch.lerp(x[..., upper, :], x[..., (upper + 1).clamp(max=height - 1), :], share)
    return F.interpolate(rows, size=(end - first, 2 * width), mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    """ReLU, convolution, ReLU, convolution, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv3x3(width, width), conv3x3(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.relu_(self.conv1(F.relu(x))))


class FusionStage(nn.Module):
    """Adds a finer map to the coarser path and doubles the resolution."""

    def __init__(self, width: int, has_skip: bool = True) -> None:
        super().__init__()
        self.resConfUnit1 = ResidualUnit(width) if has_skip else nn.Identity()
        self.resConfUnit2 = ResidualUnit(width)
        self.out_conv = nn.Conv2d(width, width, 1)

    def forward(self, path: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        """path: (B, width, h, w). skip: the finer map after `resConfUnit1`. Returns (B, width, 2h, 2w)."""
        if skip is not None:
            path = path + skip
        # The published order is upsampling, then 1x1 convolution; the two commute, and this order is four times cheaper.
        return twice_as_large(self.out_conv(self.resConfUnit2(path)))


class Scratch(nn.Module):
    """The fusion network: a projection and a stage for each of the four resolutions, 1 the finest."""

    def __init__(self) -> None:
        super().__init__()
        finest, fine, middle, deepest = DPT_CHANNELS
        self.layer1_rn = conv3x3(finest, DPT_WIDTH, bias=False)
        self.layer2_rn = conv3x3(fine, DPT_WIDTH, bias=False)
        self.layer3_rn = conv3x3(middle, DPT_WIDTH, bias=False)
        self.layer4_rn = conv3x3(deepest, DPT_WIDTH, bias=False)
        self.refinenet1, self.refinenet2, self.refinenet3 = (FusionStage(DPT_WIDTH) for _ in range(3))
        self.refinenet4 = FusionStage(DPT_WIDTH, has_skip=False)

    def skip1(self, x: torch.Tensor) -> torch.Tensor:
        """Prepares the finest map (B, 96, 4 rows, 4 columns) for the addition: (B, 256, 4 rows, 4 columns)."""
        return self.refinenet1.resConfUnit1(self.layer1_rn(x))

    def forward(self, skip1: torch.Tensor, x2: torch.Tensor, x3: torch.Tensor, x4: torch.Tensor) -> torch.Tensor:
        """From the deepest map to the finest: (B, 256, 8 rows, 8 columns)."""
        path = self.refinenet4(self.layer4_rn(x4))
        # With an odd number of patches the upsampled deepest map is one row or column too large.
        path = path[..., : x3.shape[-2], : x3.shape[-1]]
        path = self.refinenet3(path, self.refinenet3.resConfUnit1(self.layer3_rn(x3)))
        path = self.refinenet2(path, self.refinenet2.resConfUnit1(self.layer2_rn(x2)))
        return self.refinenet1(path, skip1)


class DPTHead(nn.Module):
    """Dense prediction transformer (Ranftl et al., ICCV 2021): four layers of tokens to raw points and confidence."""

    def __init__(self, enc_dim: int, dec_dim: int) -> None:
        super().__init__()
        a, b, c, d = DPT_CHANNELS
        self.act_postprocess = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(enc_dim, a, 1), nn.ConvTranspose2d(a, a, 4, stride=4)),
                nn.Sequential(nn.Conv2d(dec_dim, b, 1), nn.ConvTranspose2d(b, b, 2, stride=2)),
                nn.Sequential(nn.Conv2d(dec_dim, c, 1)),
                nn.Sequential(nn.Conv2d(dec_dim, d, 1), conv3x3(d, d, stride=2)),
            ]
        )
        self.scratch = Scratch()
        self.head = nn.Sequential(
            conv3x3(DPT_WIDTH, DPT_LAST_WIDTH),
            nn.Identity(),  # replaced by the upsampling in `_last_layers`
            conv3x3(DPT_LAST_WIDTH, DPT_LAST_WIDTH),
            nn.ReLU(inplace=True),
            nn.Conv2d(DPT_LAST_WIDTH, POINT_CHANNELS, 1),
        )

    def image_part(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """The finest skip connection, (B, 256, 4 rows, 4 columns), of encoder tokens (B, n, enc_dim)."""
        return self.scratch.skip1(self.act_postprocess[0](as_picture(tokens, grid)))

    def forward(self, layers: tuple[torch.Tensor, ...], grid: Grid, finest: torch.Tensor) -> torch.Tensor:
        """Raw (B, H, W, 4) from the three hooked decoder layers (B, n, dec_dim) and `finest` from `image_part`."""
        maps = [enter(as_picture(tokens, grid)) for enter, tokens in zip(self.act_postprocess[1:], layers, strict=True)]
        half = self.head[0](self.scratch(finest, *maps))
        height = 2 * half.shape[-2]
        strips = [self._last_layers(half, top, min(top + STRIP_ROWS, height)) for top in range(0, height, STRIP_ROWS)]
        return torch.cat(strips, dim=-2).permute(0, 2, 3, 1)

    def _last_layers(self, half: torch.Tensor, top: int, bottom: int) -> torch.Tensor:
        """Rows [top, bottom) of the result, (B, 4, rows, W), from `half` (B, 128, H/2, W/2).

        At full size these layers would need more memory than all others, so they are computed in strips.
        """
        above, below = int(top > 0), int(bottom < 2 * half.shape[-2])  # the neighbouring rows that the convolution reads
        strip = self.head[2](rows_of_twice_as_large(half, top - above, bottom + below))
        return self.head[4](self.head[3](strip[..., above : strip.shape[-2] - below, :]))


class DescriptorHead(Mlp):
    """An MLP on encoder and decoder tokens to the pixels of each patch: raw descriptors and their confidence (MASt3R)."""

    def __init__(self, enc_dim: int, dec_dim: int, channels: int, patch_size: int) -> None:
        super().__init__(enc_dim + dec_dim, HIDDEN_RATIO * (enc_dim + dec_dim), channels * patch_size**2)
        self.patch_size = patch_size

    def raw(self, enc_tokens: torch.Tensor, dec_tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Raw (B, H, W, channels) from the encoder's output (B, n, enc_dim) and the last decoder layer (B, n, dec_dim)."""
        return patches_to_pixels(self(torch.cat((enc_tokens, dec_tokens), dim=-1)), grid, self.patch_size)


def patches_to_pixels(x: torch.Tensor, grid: Grid, patch_size: int) -> torch.Tensor:
    """(B, rows * columns, C * patch_size^2) -> (B, H, W, C): each token holds the pixels of its patch, channel by channel."""
    x = x.unflatten(-1, (-1, patch_size, patch_size)).unflatten(1, grid)
    return x.permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2)


@dataclass(frozen=True, eq=False)
class ImagePart:
    """The part of a head that is the same for every pair: the encoder output (B, n, enc_dim) and the DPT's finest map.

    finest: (B, 256, 4 rows, 4 columns); None for a linear head or when no points are requested.
    """

    tokens: torch.Tensor
    finest: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class RawOutput:
    """points: (B, H, W, 4) point and confidence. features: (B, H, W, C) descriptor and, with two confidences, its confidence."""

    points: torch.Tensor | None
    features: torch.Tensor | None


class ViewHead(nn.Module):
    """The head of one view: points by a DPT or by one linear layer and, in MASt3R, descriptors by an MLP."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        enc_dim, dec_dim, self.patch_size = config.enc_embed_dim, config.dec_embed_dim, config.patch_size
        self.is_linear = config.head == "linear"
        if self.is_linear:
            self.proj = nn.Linear(dec_dim, POINT_CHANNELS * self.patch_size**2)
        else:
            self.dpt = DPTHead(enc_dim, dec_dim)
        if config.desc_dim:
            self.head_local_features = DescriptorHead(enc_dim, dec_dim, config.desc_dim + config.two_confs, self.patch_size)

    def image_part(self, tokens: torch.Tensor, grid: Grid, points: bool) -> ImagePart:
        """The part of `forward` that depends only on the encoder tokens (B, n, enc_dim)."""
        return ImagePart(tokens, self.dpt.image_part(tokens, grid) if points and not self.is_linear else None)

    def forward(self, layers: tuple[torch.Tensor, ...], grid: Grid, part: ImagePart, points: bool, features: bool) -> RawOutput:
        """Raw values from the hooked decoder layers (B, n, dec_dim), each output only when requested."""
        raw_points, raw_features = None, None
        if points and self.is_linear:
            raw_points = patches_to_pixels(self.proj(layers[-1]), grid, self.patch_size)
        elif points:
            assert part.finest is not None
            raw_points = self.dpt(layers, grid, part.finest)
        if features:
            raw_features = self.head_local_features.raw(part.tokens, layers[-1], grid)
        return RawOutput(raw_points, raw_features)
