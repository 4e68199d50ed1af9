# SPDX-License-Identifier: Apache-2.0
"""Derives the configuration of a network from the arguments of its checkpoint and the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from st3r_ros.checkpoints.arguments import Arguments, quote
from st3r_ros.checkpoints.keys import PATCH_WEIGHT, Shapes, listing
from st3r_ros.errors import CheckpointError
from st3r_ros.network.config import HEADS, Activation, NetworkConfig

CROCO = "croco"
CROCO_CLASS = "CroCoNet"
CLASSES = ("AsymmetricMASt3R", "AsymmetricCroCo3DStereo", CROCO_CLASS)
# These affect only training or the layout of portrait images, not the values computed for an image.
WITHOUT_EFFECT = {"freeze", "landscape_only", "patch_embed_cls", "mask_ratio"}
WIDEST, DEEPEST = 65536, 256
USUAL_HEAD_DIM = 64
_OUTPUT = re.compile(r"pts3d(?:\+desc(\d{1,4}))?")
_ROPE = re.compile(r"RoPE(\d{1,6}(?:\.\d{1,6})?)")


@dataclass(frozen=True)
class Architecture:
    """kind: "mast3r", "dust3r" or "croco" (the trunk alone). notes: sentences about assumed or ignored arguments."""

    kind: str
    config: NetworkConfig
    notes: tuple[str, ...]


def read_architecture(arguments: Arguments | None, shapes: Shapes) -> Architecture:
    """The network in a file. shapes: of its tensors, by canonical name.

    Missing arguments are inferred from the shapes.

    Raises:
        CheckpointError: another network, an unknown head or output, or too little information.
        ConfigError: the sizes are invalid.
    """
    if PATCH_WEIGHT not in shapes or "dec_blocks.0.norm1.weight" not in shapes:
        lacking = PATCH_WEIGHT if PATCH_WEIGHT not in shapes else "dec_blocks.0.norm1.weight"
        raise CheckpointError(
            f"it contains no MASt3R, DUSt3R or CroCo network: {lacking} is missing "
            f"among its {len(shapes)} tensors ({listing(shapes)})."
        )
    return _Reader(arguments, shapes).read()


class _Reader:
    def __init__(self, arguments: Arguments | None, shapes: Shapes) -> None:
        self._known = arguments is not None
        self._arguments = arguments or Arguments("", {})
        self._shapes = shapes
        self._notes: list[str] = []
        self._asked = set(WITHOUT_EFFECT)

    def read(self) -> Architecture:
        is_trunk = self._is_trunk()
        head = self._head(is_trunk)
        desc_dim, two_confs = self._descriptors(head)
        config = NetworkConfig(
            enc_embed_dim=self._whole("enc_embed_dim", lambda: self._size(PATCH_WEIGHT, 0)),
            enc_depth=self._whole("enc_depth", lambda: self._depth("enc_blocks"), DEEPEST),
            enc_num_heads=self._heads("enc"),
            dec_embed_dim=self._whole("dec_embed_dim", lambda: self._size("dec_blocks.0.norm1.weight", 0)),
            dec_depth=self._whole("dec_depth", lambda: self._depth("dec_blocks"), DEEPEST),
            dec_num_heads=self._heads("dec"),
            head=head,
            desc_dim=desc_dim,
            two_confs=two_confs,
            depth_mode=self._activation("depth_mode", NetworkConfig.depth_mode),
            conf_mode=self._activation("conf_mode", NetworkConfig.conf_mode),
            desc_conf_mode=self._activation("desc_conf_mode", NetworkConfig.desc_conf_mode),
            image_size=self._image_size(is_trunk, head),
            patch_size=self._whole("patch_size", lambda: self._size(PATCH_WEIGHT, -1)),
            mlp_ratio=self._mlp_ratio(),
            rope_base=self._rope_base(),
        )
        self._note_the_rest()
        return Architecture(CROCO if is_trunk else config.kind, config, tuple(self._notes))

    def _is_trunk(self) -> bool:
        """Whether it is CroCo's encoder and decoder, without heads."""
        name = self._arguments.model
        if name and name not in CLASSES:
            raise CheckpointError(f"its model is {quote(name)}; this package knows {', '.join(CLASSES)}.")
        has_heads = any(key.startswith("downstream_head") for key in self._shapes)
        return name == CROCO_CLASS or not (name or has_heads or "head_type" in self._arguments.values)

    def _head(self, is_trunk: bool) -> str:
        """Type of the head. A trunk without heads is described with the smallest one."""
        if is_trunk:
            return "linear"
        stored = {key.split(".")[1] for key in self._shapes if key.startswith("downstream_head1.")}
        told = {"head_local_features": "catmlp+dpt", "dpt": "dpt", "proj": "linear"}
        head = self._get("head_type", lambda: next((told[part] for part in told if part in stored), None))
        if head not in HEADS:
            raise CheckpointError(f"its head_type is {quote(str(head))}; this package knows {', '.join(HEADS)}.")
        return head

    def _descriptors(self, head: str) -> tuple[int, bool]:
        """Number of descriptor channels, and whether descriptors have their own confidence."""
        output = self._get("output_mode", lambda: None)
        match = _OUTPUT.fullmatch(output) if isinstance(output, str) else None
        if output is not None and match is None:
            raise CheckpointError(f"its output_mode is {quote(str(output))}; this package knows pts3d and pts3d+desc24.")
        two_confs = self._get("two_confs", lambda: None)
        if two_confs not in (None, True, False):
            raise CheckpointError(f"its two_confs is {quote(str(two_confs))}; it must be True or False.")
        if head != "catmlp+dpt":
            return (int(match[1]) if match and match[1] else 0), NetworkConfig.two_confs
        stored = self._size("downstream_head1.head_local_features.fc2.bias", 0) // self._size(PATCH_WEIGHT, -1) ** 2
        if match is not None:
            channels = int(match[1] or 0)
        elif two_confs is not None or stored in (NetworkConfig.desc_dim, NetworkConfig.desc_dim + 1):
            channels = stored - two_confs if two_confs is not None else NetworkConfig.desc_dim
        else:
            raise CheckpointError(
                f"its descriptor head has {stored} channels, and the number of descriptor channels is not given; "
                "put a config.json with output_mode and two_confs next to it."
            )
        return channels, bool(stored > channels if two_confs is None else two_confs)

    def _heads(self, side: str) -> int:
        """Number of attention heads. It does not follow from the shapes; all published networks have 64 channels per head."""
        dim = self._whole(f"{side}_embed_dim", lambda: self._size(f"{side}_blocks.0.norm1.weight", 0))

        def usual() -> int:
            if dim % USUAL_HEAD_DIM:
                raise CheckpointError(f"its {side}_num_heads is not given; put a config.json with that argument next to it.")
            self._notes.append(f"{side}_num_heads is not given: {dim // USUAL_HEAD_DIM} assumed, 64 channels each.")
            return dim // USUAL_HEAD_DIM

        return self._whole(f"{side}_num_heads", usual)

    def _image_size(self, is_trunk: bool, head: str) -> tuple[int, int]:
        default = (224, 224) if is_trunk else NetworkConfig.image_size

        def usual() -> tuple[int, int]:
            if head == "linear" and not is_trunk:
                raise CheckpointError(
                    "its img_size is not given, and networks of this kind exist for 224 and for 512; "
                    'put a config.json with "img_size" next to it.'
                )
            self._notes.append(f"img_size is not given: {default} assumed.")
            return default

        size = self._get("img_size", usual)
        sides = (size, size) if isinstance(size, int) else size
        if isinstance(sides, tuple) and len(sides) == 2 and all(_is_whole(side, WIDEST) for side in sides):
            return sides
        raise CheckpointError(f"its img_size is {quote(str(size))}; it must be two whole numbers of pixels.")

    def _activation(self, name: str, default: Activation) -> Activation:
        value = self._get(name, lambda: (default.mode, default.low, default.high))
        try:
            mode, low, high = value
            if isinstance(mode, str):
                return Activation(mode, float(low), float(high))  # float also parses "-Infinity", which some JSON files contain
        except (TypeError, ValueError):
            pass
        raise CheckpointError(f"its {name} is {quote(str(value))}; it must be a mode and two bounds, such as ('exp', 1, inf).")

    def _rope_base(self) -> float:
        position = self._get("pos_embed", lambda: f"RoPE{NetworkConfig.rope_base:g}")
        match = _ROPE.fullmatch(position) if isinstance(position, str) else None
        if match is None or float(match[1]) == 0 or "enc_pos_embed" in self._shapes:
            found = quote(str(position)) if match is None else "learned (enc_pos_embed)"
            raise CheckpointError(f"its pos_embed is {found}; this package knows rotary positions, such as RoPE100.")
        return float(match[1])

    def _mlp_ratio(self) -> int:
        stored = self._size("enc_blocks.0.mlp.fc1.bias", 0) // max(self._size("enc_blocks.0.norm1.weight", 0), 1)
        ratio = self._get("mlp_ratio", lambda: stored or NetworkConfig.mlp_ratio)
        if isinstance(ratio, float) and ratio.is_integer():
            ratio = int(ratio)
        if not _is_whole(ratio, DEEPEST):
            raise CheckpointError(f"its mlp_ratio is {quote(str(ratio))}; it must be a whole number between 1 and {DEEPEST}.")
        return ratio

    def _whole(self, name: str, told: Callable[[], int], high: int = WIDEST) -> int:
        value = self._get(name, told)
        if not _is_whole(value, high):
            raise CheckpointError(f"its {name} is {quote(str(value))}; it must be a whole number between 1 and {high}.")
        return value

    def _get(self, name: str, told: Callable[[], Any]) -> Any:
        """The argument called `name`; where it is not given, the value that `told` infers from the tensors."""
        self._asked.add(name)
        if name in self._arguments.unread:
            raise CheckpointError(f"its {name} is {quote(self._arguments.unread[name])}, which is not a literal value.")
        return self._arguments.values[name] if name in self._arguments.values else told()

    def _size(self, key: str, axis: int) -> int:
        """A size of a tensor; 0 when the tensor or the axis is missing."""
        shape = self._shapes.get(key, ())
        return shape[axis] if shape and -len(shape) <= axis < len(shape) else 0

    def _depth(self, blocks: str) -> int:
        numbers = {key.split(".")[1] for key in self._shapes if key.startswith(f"{blocks}.")}
        return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1

    def _note_the_rest(self) -> None:
        given = {**self._arguments.values, **self._arguments.unread}
        rest = sorted(set(given) - self._asked)
        if rest:
            shown = listing(f"{name}={quote(str(given[name]))}" for name in rest)
            self._notes.append(f"Unknown arguments were ignored: {shown}.")
        if not self._known:
            self._notes.append("The file does not describe its network; it was inferred from the tensors, output modes assumed.")


def _is_whole(value: Any, high: int) -> bool:
    return type(value) is int and 1 <= value <= high
