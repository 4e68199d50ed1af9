# SPDX-License-Identifier: Apache-2.0
"""Opens untrusted weight files: torch pickles restricted to tensors, safetensors, Hub folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from st3r_ros.checkpoints.arguments import Arguments, parse_constructor, quote
from st3r_ros.checkpoints.pickle_file import read_pickle
from st3r_ros.checkpoints.sources import CONFIG, INDEX, SINGLE, SUFFIXES
from st3r_ros.errors import CheckpointError

_SNIFFED = 512
_LFS = b"version https://git-lfs"
_STATES = ("model", "state_dict", "model_state_dict")

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """files: read by `read`. arguments: the description of the network, None without one.

    read: returns name -> tensor, reopened with every call. mapped: whether tensors are memory-mapped pages, loaded when touched
    and released with the last tensor of the call.
    """

    files: tuple[Path, ...]
    arguments: Arguments | None
    read: Callable[[], Tensors]
    mapped: bool


def open_weights(path: Path) -> StoredWeights:
    """The weights in a file, or in a folder with the layout of the Hub.

    Raises:
        CheckpointError: nothing usable is found; the message continues "'path' cannot be used: ".
    """
    try:
        if path.is_dir():
            return _open_folder(path)
        if not path.is_file():
            raise CheckpointError("it is neither a file nor a folder.")
        with path.open("rb") as file:
            start = file.read(_SNIFFED)
    except OSError as error:
        raise CheckpointError(f"it cannot be read ({error.strerror or error}).") from error
    _refuse_what_is_no_weights(start)
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        return _open_safetensors((path,), path.parent)
    return _open_pickle(path)


def _refuse_what_is_no_weights(start: bytes) -> None:
    if not start:
        raise CheckpointError("it is empty; download it again.")
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        raise CheckpointError("it is a web page, not a weight file. Use the link to the file itself, or `st3r download`.")
    if start.startswith(_LFS):
        raise CheckpointError("it is a Git LFS pointer, not the weights; run `git lfs pull` in its folder, or `st3r download`.")


def _open_folder(folder: Path) -> StoredWeights:
    if (folder / SINGLE).is_file():
        return _open_safetensors((folder / SINGLE,), folder)
    if (folder / INDEX).is_file():
        return _open_safetensors(_shards(folder), folder)
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if len(files) == 1:
        return open_weights(files[0])
    found = f"{len(files)} weight files ({', '.join(path.name for path in files[:4])}), give one of them" if files else "none"
    raise CheckpointError(f"the folder must contain {SINGLE} and {CONFIG}, but has {found}.")


def _shards(folder: Path) -> tuple[Path, ...]:
    """The files listed in the index; they must be plain names in this folder."""
    names = _read_json(folder / INDEX).get("weight_map", {})
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"its {INDEX} lists no files; download the folder again.")
    shards = sorted(set(names.values()))
    for name in shards:
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"its {INDEX} lists the file {quote(name)}, which is not in the folder; download it again.")
    return tuple(folder / name for name in shards)


def _open_safetensors(files: tuple[Path, ...], folder: Path) -> StoredWeights:
    def read() -> Tensors:
        tensors: Tensors = {}
        for path in files:
            with _open_safe(path) as file:
                names = file.keys()
                tensors |= {name: file.get_tensor(name) for name in names}
        return tensors

    for path in files:
        with path.open("rb") as file:
            _refuse_what_is_no_weights(file.read(_SNIFFED))
    with _open_safe(files[0]) as file:
        arguments = _from_metadata(file.metadata() or {}) or _from_folder(folder)
    return StoredWeights(files, arguments, read, mapped=True)


def _open_safe(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"'{path.name}' is damaged or truncated ({error}); download it again.") from error


def _from_metadata(metadata: dict[str, str]) -> Arguments | None:
    """The arguments in the metadata of the file, which some exports have: a constructor call or JSON."""
    if "model" in metadata:
        return parse_constructor(metadata["model"])
    if "config" in metadata:
        return _from_config(_parse_json(metadata["config"], "the config in its metadata"))
    return None


def _from_folder(folder: Path) -> Arguments | None:
    """The arguments in the config.json next to the weights."""
    return _from_config(_read_json(folder / CONFIG)) if (folder / CONFIG).is_file() else None


def _from_config(config: dict[str, Any]) -> Arguments:
    return Arguments("", {name: _as_literal(value) for name, value in config.items()})


def _as_literal(value: Any) -> Any:
    """Lists as tuples, which JSON does not have."""
    return tuple(map(_as_literal, value)) if isinstance(value, list) else value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"its {path.name} cannot be read ({error}).") from error
    return _parse_json(text, f"its {path.name}")


def _parse_json(text: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not valid JSON ({error}).") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} contains {quote(text)}; it must be an object with arguments.")
    return value


def _open_pickle(path: Path) -> StoredWeights:
    def read() -> Tensors:
        return _state(read_pickle(path).content)

    opened = read_pickle(path)
    _state(opened.content)  # fails early when there are no weights
    arguments = _from_pickle(opened.content) or _from_folder(path.parent)
    return StoredWeights((path,), arguments, read, opened.mapped)


def _state(content: Any) -> Tensors:
    """The weights in the pickled object: under one of the usual keys, or the object itself."""
    if not isinstance(content, dict):
        raise CheckpointError(f"it contains a {type(content).__name__}, not weights; give a checkpoint of MASt3R or DUSt3R.")
    state = next((content[name] for name in _STATES if isinstance(content.get(name), dict)), content)
    if not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(
            f"it contains no weights, only {quote(', '.join(map(str, content)))}; give a checkpoint of MASt3R or DUSt3R."
        )
    return {str(name): value for name, value in state.items()}


def _from_pickle(content: dict[str, Any]) -> Arguments | None:
    """Training scripts store the constructor call in `args.model`; those of CroCo store keyword arguments."""
    arguments = content.get("args")
    model = arguments.get("model") if isinstance(arguments, dict) else getattr(arguments, "model", None)
    if isinstance(model, str):
        return parse_constructor(model)
    kwargs = content.get("croco_kwargs")
    return Arguments("CroCoNet", {str(name): value for name, value in kwargs.items()}) if isinstance(kwargs, dict) else None
