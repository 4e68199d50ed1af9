# SPDX-License-Identifier: Apache-2.0
"""The names of a network's parameters, as the published files spell them and as `PairNetwork` does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]

PATCH_WEIGHT = "patch_embed.proj.weight"
_ALIAS = re.compile(r"\.scratch\.layer_rn\.([0-3])\.")
# Not used at inference: the mask token of training, the reconstruction head of CroCo, and the skip of the deepest stage.
_UNUSED = re.compile(r"mask_token|prediction_head\..*|downstream_head[12]\.dpt\.scratch\.refinenet4\.resConfUnit1\..*")
_LISTED = 4


@dataclass(frozen=True)
class KeyMap:
    """stored: canonical name -> name in the file. unused: names in the file that inference does not need."""

    stored: dict[str, str]
    unused: tuple[str, ...]


@dataclass(frozen=True)
class KeyComparison:
    """Missing and unexpected tensors (the latter by their names in the file), and a sentence for every shape that differs."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]


def resolve(names: Iterable[str]) -> KeyMap:
    """Maps the names in a file to the canonical ones.

    A common prefix (`module.`) is removed, aliases are resolved, and in a file with one decoder it serves as both.
    """
    stored: dict[str, str] = {}
    unused = []
    names = list(names)
    prefix = next((name.removesuffix(PATCH_WEIGHT) for name in names if name.endswith(f".{PATCH_WEIGHT}")), "")
    for name in names:
        canonical = _ALIAS.sub(lambda match: f".scratch.layer{int(match[1]) + 1}_rn.", name.removeprefix(prefix))
        if _UNUSED.fullmatch(canonical):
            unused.append(name)
        elif canonical not in stored or canonical == name:
            stored[canonical] = name
    if not any(name.startswith("dec_blocks2.") for name in stored):
        second = {
            f"dec_blocks2.{name.removeprefix('dec_blocks.')}": stored[name] for name in stored if name.startswith("dec_blocks.")
        }
        stored |= second
    return KeyMap(stored, tuple(unused))


def compare(stored: Shapes, expected: Shapes) -> KeyComparison:
    """Compares the shapes of a file, by canonical name, with those of the network."""
    return KeyComparison(
        missing=tuple(name for name in expected if name not in stored),
        unexpected=tuple(name for name in stored if name not in expected),
        misshapen=tuple(
            f"{name} is {tuple(stored[name])}, expected {tuple(shape)}"
            for name, shape in expected.items()
            if name in stored and tuple(stored[name]) != tuple(shape)
        ),
    )


def listing(names: Iterable[str]) -> str:
    """The first names and the number of further ones; safe to print."""
    names = list(names)
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:_LISTED])
    more = len(names) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown
