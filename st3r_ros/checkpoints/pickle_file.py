# SPDX-License-Identifier: Apache-2.0
"""Reads files of `torch.save` that contain only tensors, numbers and text; code is never executed."""

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
# How torch's unpickler reports refused names, in versions since 2.4.
_REFUSED = re.compile(r"(?:GLOBAL|[Uu]nsupported class|instantiate class) ([\w.]+)")


@dataclass(frozen=True, eq=False)
class Pickled:
    """The content of the file, and whether its tensors are memory-mapped."""

    content: Any
    mapped: bool


def read_pickle(path: Path) -> Pickled:
    """The content of a `.pth` file: tensors, containers, plain values and `argparse.Namespace`, nothing else.

    Files of the current format are memory-mapped; those from before torch 1.6 are read completely.

    Raises:
        CheckpointError: the file contains anything else (nothing was executed), is damaged, or is not a torch file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP))
        zipped = start == _ZIP
        if zipped and not zipfile.is_zipfile(path):
            raise CheckpointError("it is truncated or damaged; download it again (`st3r download` resumes).")
        if zipped and _is_program(path):
            raise CheckpointError("it is a compiled TorchScript program; give the weights (.pth or .safetensors).")
    except OSError as error:
        raise CheckpointError(f"it cannot be read ({error.strerror or error}).") from error
    if not zipped and not start.startswith(_PICKLE):
        raise CheckpointError("it is not a weight file: neither torch nor safetensors.")
    try:
        with _only_namespaces(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # torch raises many types of errors for a damaged or malicious file
        raise CheckpointError(_explain(str(error) or type(error).__name__)) from error
    return Pickled(content, zipped)


def _is_program(path: Path) -> bool:
    """Whether a zip file is a TorchScript archive, which some versions of torch load regardless of weights_only."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False  # torch reports what is wrong


@contextmanager
def _only_namespaces() -> Iterator[None]:
    """Allows `argparse.Namespace` in a pickle, in addition to what the process allows."""
    before = get_safe_globals()
    clear_safe_globals()
    add_safe_globals([argparse.Namespace])
    try:
        yield
    finally:
        clear_safe_globals()
        add_safe_globals(before)


def _explain(message: str) -> str:
    """A sentence for an error of torch, without torch's advice to disable its protection."""
    refused = _REFUSED.search(message)
    if refused:
        return (
            f"it would run '{refused[1]}' when loaded, which weights do not need. It was refused and nothing was executed; "
            "ask its publisher for a .safetensors file."
        )
    lines = message.partition("Check the documentation")[0].strip().splitlines() or [message]
    reason = lines[-1] if "Weights only" in message else lines[0]
    return f"it is damaged, truncated, or not a torch file ({reason[:200]}); download it again."
