# SPDX-License-Identifier: Apache-2.0
"""The files of a saved map and map.json, which lists them; specified in docs/map_format.md."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from st3r_ros import __version__
from st3r_ros.errors import MapFileError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.maps.origins import Origin, read_origins, write_origins
from st3r_ros.types import MapScale

FORMAT = "st3r_ros map"
VERSION = 2
"""2: masks of keyframes. Maps without them are written as version 1, which older programs read."""

MANIFEST, MANIFEST_SUM = "map.json", "map.json.sha256"
KEYFRAMES, EDGES, FRAMES = "keyframes.safetensors", "edges.safetensors", "frames.safetensors"
POINTMAP_FOLDER, IMAGE_FOLDER, MASK_FOLDER = "pointmaps", "images", "masks"

# No real map reaches these limits; they keep a damaged or malicious file from filling the memory.
MAX_MANIFEST_BYTES = 64 * 2**20
MAX_SIDE = 2048
MAX_KEYFRAMES = 200_000
MAX_EDGES = 10_000_000
MAX_MATCHES = 1_000_000_000
MAX_FRAMES = 100_000_000
MAX_DESCRIPTOR = 65_536
MAX_ID = 2**53 - 1
SCALE_SOURCES = ("none", "network", "odometry", "baseline")

_NAME = re.compile(
    r"(?:keyframes|edges|frames)\.safetensors|pointmaps/\d{6,16}\.safetensors|images/\d{6,16}\.jpg|masks/\d{6,16}\.png", re.ASCII
)
_SHA256 = re.compile("[0-9a-f]{64}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def pointmap_name(keyframe_id: int) -> str:
    """The file of a keyframe's pointmap and confidence."""
    return f"{POINTMAP_FOLDER}/{keyframe_id:06d}.safetensors"


def image_name(keyframe_id: int) -> str:
    """The file of a keyframe's image."""
    return f"{IMAGE_FOLDER}/{keyframe_id:06d}.jpg"


def mask_name(keyframe_id: int) -> str:
    """The file of a keyframe's mask, where it has one."""
    return f"{MASK_FOLDER}/{keyframe_id:06d}.png"


def is_map_file(name: str) -> bool:
    """Whether a file of this name, relative to the folder, is part of a saved map."""
    return name in (MANIFEST, MANIFEST_SUM) or _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class FileEntry:
    """Size and SHA-256 (lower-case hexadecimal) of a file of the map."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class MapInfo:
    """map.json: content and origin of a saved map.

    checkpoint_sha256: of the pair model's weights, "" for a model without weights. image_size: width and height of the keyframes.
    descriptor_size: length of a global descriptor, 0 when no keyframe has one. keyframes, edges, matches, frames: counts.
    next_keyframe_id: higher than all ids so far. files: every other file but map.json.sha256, by name.
    T_map_world: the world in the map frame of the robot that saved the map, None without a robot.
    origins: where the images of the keyframes come from, by their ids, if known.
    """

    pair_model: str
    checkpoint_sha256: str
    image_size: tuple[int, int]
    descriptor_size: int
    scale: MapScale
    keyframes: int
    edges: int
    matches: int
    frames: int
    next_keyframe_id: int
    files: dict[str, FileEntry]
    T_map_world: SE3 | None = None
    origins: dict[int, Origin] = field(default_factory=dict)
    package_version: str = field(default=__version__)

    @property
    def bytes(self) -> int:
        """Size of all listed files."""
        return sum(entry.bytes for entry in self.files.values())


def write_manifest(info: MapInfo) -> bytes:
    """The text of map.json."""
    sigma = info.scale.sigma
    content = {
        "format": FORMAT,
        "version": 2 if any(name.startswith(MASK_FOLDER) for name in info.files) else 1,
        "package_version": info.package_version,
        "pair_model": info.pair_model,
        "checkpoint_sha256": info.checkpoint_sha256,
        "image_size": list(info.image_size),
        "descriptor_size": info.descriptor_size,
        "scale": {"source": info.scale.source, "sigma": None if math.isnan(sigma) else sigma},
        "counts": {name: getattr(info, name) for name in ("keyframes", "edges", "matches", "frames")},
        "next_keyframe_id": info.next_keyframe_id,
        "T_map_world": None if info.T_map_world is None else info.T_map_world.as_matrix()[:3].tolist(),
        **write_origins(info.origins),
        "files": {name: dataclasses.asdict(entry) for name, entry in info.files.items()},
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def read_manifest(data: bytes, path: Path) -> MapInfo:
    """Parses and checks map.json. path: of the file, for messages.

    Raises:
        MapFileError: it is not that of a map, of a newer version, or damaged.
    """
    fields = _Fields(_parse(data, path), path)
    if fields.values.get("format") != FORMAT:
        raise MapFileError(f"'{path}' is not the map.json of a saved map (its format is not '{FORMAT}'); give a map's folder.")
    version = fields.integer("version", 1, MAX_ID)
    if version > VERSION:
        raise MapFileError(
            f"'{path}' has format version {version}, but this st3r_ros ({__version__}) reads versions up to {VERSION}; "
            "use the st3r_ros that saved the map, or a newer one."
        )
    width, height = fields.pair("image_size", MAX_SIDE)
    counts, scale = fields.group("counts"), fields.group("scale")
    return MapInfo(
        package_version=fields.text("package_version"),
        pair_model=fields.text("pair_model"),
        checkpoint_sha256=fields.text("checkpoint_sha256", re.compile(f"|{_SHA256.pattern}")),
        image_size=(width, height),
        descriptor_size=fields.integer("descriptor_size", 0, MAX_DESCRIPTOR),
        scale=MapScale(scale.text("source", re.compile("|".join(SCALE_SOURCES))), scale.positive_or_nan("sigma")),
        keyframes=counts.integer("keyframes", 1, MAX_KEYFRAMES),
        edges=counts.integer("edges", 0, MAX_EDGES),
        matches=counts.integer("matches", 0, MAX_MATCHES),
        frames=counts.integer("frames", 0, MAX_FRAMES),
        next_keyframe_id=fields.integer("next_keyframe_id", 1, MAX_ID),
        T_map_world=fields.rigid_or_none("T_map_world"),
        origins=_origins(fields),
        files=_files(fields.group("files")),
    )


def _origins(fields: _Fields) -> dict[int, Origin]:
    try:
        return read_origins(fields.values)
    except ValueError as error:
        raise fields.error(f"has {error}") from error


def _files(group: _Fields) -> dict[str, FileEntry]:
    unknown = next((name for name in group.values if _NAME.fullmatch(name) is None), None)
    if unknown is not None:
        raise group.error(f"lists an unknown file '{_printable(unknown)}'")
    entries = {name: group.group(name) for name in group.values}
    return {name: FileEntry(entry.integer("bytes", 0, MAX_ID), entry.text("sha256", _SHA256)) for name, entry in entries.items()}


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(data.decode(), parse_int=_short_integer, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MapFileError(f"'{path}' is damaged: invalid JSON ({reason}); restore the map from a copy or map again.") from error
    return values if isinstance(values, dict) else {}


def _short_integer(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("?", text)[:80]


class _Fields:
    """Typed access to the values of a JSON object. Every method raises MapFileError for a value that is missing or wrong."""

    def __init__(self, values: dict[str, Any], path: Path, prefix: str = "") -> None:
        self.values = values
        self._path = path
        self._prefix = prefix

    def error(self, what: str) -> MapFileError:
        return MapFileError(f"'{self._path}' is damaged: it {what}; restore the map from a copy or map again.")

    def integer(self, name: str, low: int, high: int) -> int:
        value = self._get(name)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name, f"a whole number from {low} to {high}")
        return value

    def pair(self, name: str, high: int) -> tuple[int, int]:
        value = self._get(name)
        if not isinstance(value, list) or len(value) != 2 or any(type(v) is not int or not 1 <= v <= high for v in value):
            raise self._wrong(name, f"two whole numbers from 1 to {high}")
        return value[0], value[1]

    def text(self, name: str, pattern: re.Pattern[str] = re.compile(r"[\x20-\x7e]{0,200}")) -> str:
        value = self._get(name)
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise self._wrong(name, "a text as specified in docs/map_format.md")
        return value

    def positive_or_nan(self, name: str) -> float:
        """NaN for null."""
        value = self._get(name)
        if value is None:
            return math.nan
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise self._wrong(name, "a number that is not negative, or null")
        return float(value)

    def rigid_or_none(self, name: str) -> SE3 | None:
        """A transform as three rows of four numbers; None when null or missing."""
        rows = self.values.get(name)
        if rows is None:
            return None
        numbers = [v for row in rows if isinstance(row, list) for v in row] if isinstance(rows, list) and len(rows) == 3 else []
        if len(numbers) == 12 and all(type(v) in (int, float) and abs(v) < 1e9 for v in numbers):
            T = np.array(numbers, np.float64).reshape(3, 4)
            if np.abs(T[:, :3] @ T[:, :3].T - np.eye(3)).max() < 1e-4 and np.linalg.det(T[:, :3]) > 0:
                return SE3(T[:, :3], T[:, 3])
        raise self._wrong(name, "three rows of four numbers, a rotation and a translation")

    def group(self, name: str) -> _Fields:
        value = self._get(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return _Fields(value, self._path, f"{self._prefix}{name}.")

    def _get(self, name: str) -> Any:
        if name not in self.values:
            raise self.error(f"lacks '{self._prefix}{name}'")
        return self.values[name]

    def _wrong(self, name: str, wanted: str) -> MapFileError:
        value = self.values[name]
        found = "a list or an object" if isinstance(value, dict | list) else _printable(json.dumps(value))
        return self.error(f"has '{self._prefix}{name}' = {found}, which must be {wanted}")
