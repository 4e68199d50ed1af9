# SPDX-License-Identifier: Apache-2.0
"""Reading what `torch.save` wrote, such that a file can bring tensors, numbers and text, and never code."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

from st3r_ros.errors import CheckpointError

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
# How torch's unpickler names what it refuses, in its versions since 2.4.
_REFUSED = re.compile(r"(?:GLOBAL|[Uu]nsupported class|instantiate class) ([\w.]+)")


@dataclass(frozen=True, eq=False)
class Pickled:
    """What the file holds, and whether its tensors are mapped from the file rather than in memory."""

    content: Any
    mapped: bool


def read_pickle(path: Path) -> Pickled:
    """The content of a `.pth` file: tensors, containers, plain values and `argparse.Namespace`, nothing else.

    Files of today's format are mapped into memory; those from before torch 1.6 are read whole.

    Raises:
        CheckpointError: the file holds anything else (nothing of it has run), is damaged, or is none of torch.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP))
        zipped = start == _ZIP
        if zipped and not zipfile.is_zipfile(path):
            raise CheckpointError("it is cut off, or damaged; download it again (`st3r download` goes on where it stopped).")
        if zipped and _is_program(path):
            raise CheckpointError("it is a compiled TorchScript program; give the weights themselves (.pth or .safetensors).")
    except OSError as error:
        raise CheckpointError(f"it cannot be read ({error.strerror or error}).") from error
    if not zipped and not start.startswith(_PICKLE):
        raise CheckpointError("it is no file of weights: neither of torch nor safetensors.")
    try:
        with _only_namespaces(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged or hostile file makes torch raise nearly anything
        raise CheckpointError(_explain(str(error) or type(error).__name__)) from error
    return Pickled(content, zipped)


def _is_program(path: Path) -> bool:
    """Whether a zip file is a TorchScript archive, which some versions of torch load whatever they are told."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False  # torch will say what is wrong with it


@contextmanager
def _only_namespaces() -> Iterator[None]:
    """Lets a pickle hold `argparse.Namespace`, whatever else the process has allowed."""
    before = get_safe_globals()
    clear_safe_globals()
    add_safe_globals([argparse.Namespace])
    try:
        yield
    finally:
        clear_safe_globals()
        add_safe_globals(before)


def _explain(message: str) -> str:
    """A sentence for what torch said; the advice to switch its protection off is not passed on."""
    refused = _REFUSED.search(message)
    if refused:
        return (
            f"it asks for '{refused[1]}' to be run while it is read, which weights do not need. It was refused and nothing ran; "
            "if you trust where it is from, ask there for a .safetensors file."
        )
    lines = message.partition("Check the documentation")[0].strip().splitlines() or [message]
    reason = lines[-1] if "Weights only" in message else lines[0]
    return f"it is damaged, cut off, or no file of torch ({reason[:200]}); download it again."
