# SPDX-License-Identifier: Apache-2.0
"""`st3r doctor CHECKPOINT`: content, usability and licence of a checkpoint."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st3r_ros.checkpoints.checkpoint import Checkpoint, read_checkpoint
from st3r_ros.checkpoints.keys import listing
from st3r_ros.checkpoints.published import license_note
from st3r_ros.commands.byte_progress import byte_progress, megabytes
from st3r_ros.errors import CheckpointError, CheckpointNotFoundError
from st3r_ros.io.checksum import file_sha256, recorded_sha256
from st3r_ros.network.config import Activation, NetworkConfig

NOT_USABLE = 1
TITLES = {"mast3r": "MASt3R", "dust3r": "DUSt3R", "croco": "CroCo v2, a trunk without heads"}


@dataclass(frozen=True)
class StoredFile:
    """One file of a checkpoint. sha256_recorded: the hash in NAME.sha256 next to it, "" without one."""

    path: str
    size: int
    sha256: str
    sha256_recorded: str


@dataclass(frozen=True)
class CheckpointReport:
    """The report on a checkpoint. problem: why it cannot be used, "" when it can.

    config: the arguments of `NetworkConfig`, its output modes as text. dtypes: name -> number of tensors.
    """

    source: str
    path: str
    usable: bool
    problem: str
    kind: str
    config: dict[str, Any]
    working_size: int
    files: tuple[StoredFile, ...]
    parameters: int
    parameters_used: int
    dtypes: dict[str, int]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]
    license: str


def run_checkpoint_report(source: str, as_json: bool) -> int:
    """Prints the report; returns 0 for a usable checkpoint, else 1.

    Raises:
        CheckpointNotFoundError: nothing is found under that name.
    """
    try:
        checkpoint = read_checkpoint(source)
        report = describe(source, checkpoint)
    except CheckpointNotFoundError:
        raise
    except CheckpointError as error:
        print(
            json.dumps({"source": source, "usable": False, "problem": str(error)}, indent=2)
            if as_json
            else f"NOT USABLE: {error}"
        )
        return NOT_USABLE
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        _print(report, checkpoint.config)
    return 0 if report.usable else NOT_USABLE


def describe(source: str, checkpoint: Checkpoint) -> CheckpointReport:
    """The report on a checkpoint; reads its files once, for their SHA-256."""
    files = tuple(_stored(path) for path in checkpoint.weights.files)
    differing = [file.path for file in files if file.sha256_recorded not in ("", file.sha256)]
    changed = f"'{differing[0]}' differs from its .sha256: damaged, or changed since" if differing else ""
    problem = checkpoint.problem or changed
    return CheckpointReport(
        source=source,
        path=str(checkpoint.path),
        usable=not problem,
        problem=problem,
        kind=checkpoint.kind,
        config={name: _plain(value) for name, value in vars(checkpoint.config).items()},
        working_size=checkpoint.config.working_size,
        files=files,
        parameters=checkpoint.parameters,
        parameters_used=checkpoint.parameters_used,
        dtypes=checkpoint.dtypes,
        missing=checkpoint.missing,
        unexpected=checkpoint.unexpected,
        unused=checkpoint.unused,
        notes=checkpoint.notes,
        license=license_note(source),
    )


def _stored(path: Path) -> StoredFile:
    with byte_progress(f"SHA-256 of {path.name}") as progress:
        try:
            sha256 = file_sha256(path, progress)
        except OSError as error:
            raise CheckpointError(f"'{path}' cannot be read ({error.strerror or error}).") from error
    return StoredFile(str(path), path.stat().st_size, sha256, recorded_sha256(path) or "")


def _plain(value: Any) -> Any:
    """An output mode as text, since JSON has no infinity."""
    return f"{value.mode}, {value.low} to {value.high}" if isinstance(value, Activation) else value


def _print(report: CheckpointReport, config: NetworkConfig) -> None:
    descriptors = f", descriptors of {config.desc_dim} channels" if config.desc_dim else ""
    head = "none" if report.kind == "croco" else f"{config.head}{descriptors}"
    rows = [("checkpoint", f"{TITLES[report.kind]} in {report.path}")]
    for file in report.files:
        rows += [("file", f"{file.path} ({megabytes(file.size)})"), ("SHA-256", f"{file.sha256}{_verdict(file)}")]
    rows += [
        ("encoder", f"{config.enc_embed_dim} channels, {config.enc_depth} blocks, {config.enc_num_heads} heads"),
        ("decoders", f"{config.dec_embed_dim} channels, {config.dec_depth} blocks, {config.dec_num_heads} heads"),
        ("head", head),
        ("images", f"{report.working_size} pixels on the longer side, patches of {config.patch_size}"),
        ("parameters", f"{report.parameters:,} in the file, {report.parameters_used:,} used"),
        ("stored as", ", ".join(f"{name} ({count} tensors)" for name, count in report.dtypes.items())),
        ("missing", listing(report.missing) or "nothing"),
        ("unexpected", listing(report.unexpected) or "nothing"),
        ("not needed", listing(report.unused) or "nothing"),
        *(("note", note) for note in report.notes),
        ("licence", report.license),
    ]
    for name, text in rows:
        print(f"{name:<10}  {text}")
    print("usable" if report.usable else f"NOT USABLE: {report.problem}.")


def _verdict(file: StoredFile) -> str:
    if not file.sha256_recorded:
        return ""
    return ", as recorded" if file.sha256 == file.sha256_recorded else f", RECORDED {file.sha256_recorded}"
