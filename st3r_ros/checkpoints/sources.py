# SPDX-License-Identifier: Apache-2.0
"""Locates weights by what a user names (a file, a folder, a published name, or a Hub id), and tells them apart."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from st3r_ros.checkpoints.published import NAMES, find_published, weights_folder
from st3r_ros.errors import CheckpointError, CheckpointNotFoundError
from st3r_ros.io.checksum import file_sha256, recorded_sha256

# Files of a folder from the Hub.
CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
HUB_FILES = (CONFIG, SINGLE, INDEX, "model-*.safetensors")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(source: str | Path) -> Path:
    """The file or folder that `source` denotes.

    A published name ("mast3r") is the file that `st3r download` stored; otherwise an existing path; otherwise "owner/name" is a
    Hub repository, taken from its cache (without network access) or downloaded.

    Raises:
        CheckpointNotFoundError: nothing is found; the message says what to do.
    """
    text = str(source)
    if text in NAMES:
        return _downloaded(text)
    path = Path(text).expanduser()
    if text and path.exists():
        return path
    if text.startswith(("http://", "https://")):
        raise CheckpointNotFoundError(f"'{text}' is a web address; run `st3r download {text}` and give the file.")
    if is_hub_id(text):
        return _from_hub(text)
    raise CheckpointNotFoundError(
        f"There is no checkpoint '{text}': give a file, a folder, a Hub id (owner/name) or one of {', '.join(NAMES)}."
    )


def weights_sha256(checkpoint: str) -> str:
    """The SHA-256 of the weights that `checkpoint` names, "" for "".

    Of a folder with one file of weights it is that file's; with several, that of the lines `sha256sum` would print of them.

    Raises:
        CheckpointError: there are none, or they cannot be read.
    """
    if not checkpoint:
        return ""
    path = locate(checkpoint)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    try:
        found = {file.name: recorded_sha256(file) or file_sha256(file) for file in files}
    except OSError as error:
        raise CheckpointError(f"'{error.filename}' cannot be read: {error.strerror}.") from error
    if len(found) == 1:
        return next(iter(found.values()))
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in found.items()).encode()).hexdigest()


def is_hub_id(text: str) -> bool:
    """Whether the text has the form owner/name and is not a file path."""
    return bool(_HUB_ID.fullmatch(text)) and not text.endswith(SUFFIXES) and not Path(text).parent.exists()


def _downloaded(name: str) -> Path:
    entry = find_published(name)
    assert entry is not None
    path = weights_folder() / entry.file_name
    if not path.is_file():
        raise CheckpointNotFoundError(f"'{name}' is not downloaded yet ('{path}' is missing); run `st3r download {name}`.")
    return path


def fetch_from_hub(hub_id: str, folder: Path | None = None, endpoint: str = "") -> Path:
    """Downloads the weights of a Hub repository and returns their folder.

    folder: the target, None for the Hub's cache. endpoint: url of a mirror of the Hub, "" for the Hub.

    Raises:
        CheckpointNotFoundError: they cannot be downloaded.
    """
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(hub_id, allow_patterns=list(HUB_FILES), local_dir=folder, endpoint=endpoint or None))
    except Exception as error:  # the types vary with the versions of huggingface_hub and its HTTP library
        reason = (str(error) or type(error).__name__).strip().splitlines()[0].partition(". ")[0]
        raise CheckpointNotFoundError(
            f"'{hub_id}' is not a local folder and could not be downloaded from the Hub ({reason}); check name and network, "
            "or copy the folder from another machine."
        ) from error


def _from_hub(hub_id: str) -> Path:
    with suppress(ImportError, OSError, ValueError):  # not in the cache, or not a valid name
        from huggingface_hub import snapshot_download

        cached = Path(snapshot_download(hub_id, allow_patterns=list(HUB_FILES), local_files_only=True))
        if any((cached / name).is_file() for name in (SINGLE, INDEX)):
            return cached
    return fetch_from_hub(hub_id)
