# SPDX-License-Identifier: Apache-2.0
"""metadata.yaml, which `ros2 bag` writes beside the storage files when a recording is stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

METADATA = "metadata.yaml"
_NEWEST_VERSION = 9
_ROOT = "rosbag2_bagfile_information"


@dataclass(frozen=True)
class Metadata:
    """files: the names of the storage files; counts: the messages of each topic in all of them; each empty where it is not told.
    problem: a sentence on a file that cannot be used, "" else."""

    files: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    problem: str = ""


class _UnusableError(Exception):
    """Why a metadata.yaml is not used."""


def read_metadata(folder: Path) -> Metadata:
    """What metadata.yaml tells; nothing where there is none."""
    path = folder / METADATA
    if not path.is_file():
        return Metadata()
    try:
        root = _read_root(path)
        files = tuple(Path(name).name for name in _items(root, "relative_file_paths") if isinstance(name, str))
        if not files:
            raise _UnusableError("lists no files")
    except _UnusableError as error:
        return Metadata(problem=f"{METADATA} {error}; it is not used.")
    counts = {}
    for topic in _items(root, "topics_with_message_count"):
        about = topic.get("topic_metadata") if isinstance(topic, dict) else None
        if isinstance(about, dict) and isinstance(topic.get("message_count"), int):
            counts[str(about.get("name"))] = topic["message_count"]
    return Metadata(files, counts)


def _read_root(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except OSError as error:
        raise _UnusableError(f"cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _UnusableError("is damaged: it is not YAML") from error
    if not text.strip():
        raise _UnusableError("is empty")
    root = content.get(_ROOT) if isinstance(content, dict) else None
    if not isinstance(root, dict):
        raise _UnusableError(f"has no '{_ROOT}'")
    version = root.get("version", _NEWEST_VERSION)
    if not isinstance(version, int) or version > _NEWEST_VERSION:
        raise _UnusableError(f"has version {version}; those up to {_NEWEST_VERSION} are known")
    return root


def _items(content: dict[str, Any], name: str) -> list[Any]:
    value = content.get(name)
    return value if isinstance(value, list) else []
