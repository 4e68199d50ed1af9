# SPDX-License-Identifier: Apache-2.0
"""Telling weights apart."""

from __future__ import annotations

import hashlib

from st3r_ros.errors import CheckpointError
from st3r_ros.io.checksum import file_sha256, recorded_sha256
from st3r_ros.network.sources import locate


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
