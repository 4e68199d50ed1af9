# SPDX-License-Identifier: Apache-2.0
"""The architecture of a MASt3R or DUSt3R network: everything that its checkpoint determines."""

from __future__ import annotations

import math
from dataclasses import dataclass

from st3r_ros.errors import ConfigError

HEADS = ("catmlp+dpt", "dpt", "linear")
DEPTH_MODES = ("exp", "linear", "square")
CONF_MODES = ("exp", "sigmoid")


@dataclass(frozen=True)
class Activation:
    """Mapping from a raw output to a value: a mode and the closed range of the result."""

    mode: str
    low: float
    high: float


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and output conventions of one network. The defaults are the released MASt3R ViT-L/B 512 (688.6 M parameters).

    head: "catmlp+dpt" (MASt3R: pointmap by DPT, descriptors by an MLP), "dpt" or "linear" (DUSt3R).
    desc_dim: channels of the descriptors, 0 without descriptors. two_confs: whether descriptors have their own confidence.
    image_size: (width, height) the network was trained at; the longer side is the working size.
    """

    enc_embed_dim: int = 1024
    enc_depth: int = 24
    enc_num_heads: int = 16
    dec_embed_dim: int = 768
    dec_depth: int = 12
    dec_num_heads: int = 12
    head: str = "catmlp+dpt"
    desc_dim: int = 24
    two_confs: bool = True
    depth_mode: Activation = Activation("exp", -math.inf, math.inf)
    conf_mode: Activation = Activation("exp", 1.0, math.inf)
    desc_conf_mode: Activation = Activation("exp", 0.0, math.inf)
    image_size: tuple[int, int] = (512, 512)
    patch_size: int = 16
    mlp_ratio: int = 4
    rope_base: float = 100.0

    def __post_init__(self) -> None:
        for name in ("enc_embed_dim", "enc_depth", "enc_num_heads", "dec_embed_dim", "dec_depth", "dec_num_heads", "patch_size"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} is {value!r}; it must be a whole number of at least 1.")
        for side in ("enc", "dec"):
            dim, heads = getattr(self, f"{side}_embed_dim"), getattr(self, f"{side}_num_heads")
            if dim % (4 * heads):
                raise ConfigError(
                    f"{side}_embed_dim is {dim} with {heads} heads; the channels of each head must be a multiple of four."
                )
        for name, value, allowed in (
            ("head", self.head, HEADS),
            ("depth_mode", self.depth_mode.mode, DEPTH_MODES),
            ("conf_mode", self.conf_mode.mode, CONF_MODES),
            ("desc_conf_mode", self.desc_conf_mode.mode, CONF_MODES),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} is {value!r}; this package knows {', '.join(allowed)}.")
        if (self.desc_dim > 0) != (self.head == "catmlp+dpt"):
            raise ConfigError(f"head is {self.head!r} with {self.desc_dim} descriptor channels; only catmlp+dpt has descriptors.")
        if self.head != "linear" and self.dec_depth < 4:
            raise ConfigError(f"dec_depth is {self.dec_depth}; the dpt head needs at least 4 decoder blocks.")

    @property
    def kind(self) -> str:
        """The family: "mast3r" has descriptors, "dust3r" has none."""
        return "mast3r" if self.desc_dim else "dust3r"

    @property
    def hooks(self) -> tuple[int, int, int, int]:
        """Layers that the DPT reads: 0 is the encoder output, k the output of decoder block k."""
        depth = self.dec_depth
        return 0, depth // 2, 3 * depth // 4, depth

    @property
    def working_size(self) -> int:
        """Longer side of the working images, pixels; at 224 images are cropped to a square."""
        return max(self.image_size)
