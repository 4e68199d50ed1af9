# SPDX-License-Identifier: Apache-2.0
"""Point clouds in PLY files: binary little endian, `x y z red green blue confidence`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from st3r_ros.errors import InputError
from st3r_ros.io.atomic import write_file
from st3r_ros.types import PointCloud

_VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("confidence", "<f4")]
)
_TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "<i2",
    "ushort": "<u2",
    "int": "<i4",
    "uint": "<u4",
    "float": "<f4",
    "double": "<f8",
}
_ALIASES = {
    "int8": "char",
    "uint8": "uchar",
    "int16": "short",
    "uint16": "ushort",
    "int32": "int",
    "uint32": "uint",
    "float32": "float",
    "float64": "double",
}
_END = b"end_header\n"


def write_ply(path: Path | str, cloud: PointCloud) -> None:
    """Write a cloud; MeshLab, CloudCompare and Open3D read it.

    Raises:
        OutputError: the file cannot be written.
    """
    vertices = np.empty(len(cloud), dtype=_VERTEX)
    for i, name in enumerate("xyz"):
        vertices[name] = cloud.points[:, i]
    for i, name in enumerate(("red", "green", "blue")):
        vertices[name] = cloud.colors[:, i]
    vertices["confidence"] = cloud.conf
    names = {"<f4": "float", "|u1": "uchar"}
    properties = [f"property {names[_VERTEX[name].str]} {name}" for name in _VERTEX.names or ()]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(cloud)}", *properties]
    write_file(path, "\n".join(header).encode() + b"\n" + _END, vertices.view(np.uint8).data)


def read_ply(path: Path | str) -> PointCloud:
    """The cloud of a binary little endian PLY file whose vertices come first; absent colours are grey, absent confidence is 1.

    Raises:
        InputError: the file cannot be read, is cut short, or is another kind of PLY.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error
    header, end, body = data.partition(_END)
    lines = [line.split() for line in header.decode("ascii", errors="replace").splitlines()]
    if not end or lines[:1] != [["ply"]] or ["format", "binary_little_endian", "1.0"] not in lines:
        raise InputError(f"'{path}' is not a binary little endian PLY file.")
    count, layout = _vertex_layout(path, [line for line in lines if line[:1] in (["element"], ["property"])])
    if len(body) < count * layout.itemsize:
        raise InputError(f"'{path}' announces {count} points but holds {len(body) // layout.itemsize}; it was cut short.")
    vertices = np.frombuffer(body, dtype=layout, count=count)
    names = layout.names or ()
    if not {"x", "y", "z"} <= set(names):
        raise InputError(f"'{path}' has points without x, y and z.")
    points = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float32)
    colors = np.full((count, 3), 128, dtype=np.uint8)
    if {"red", "green", "blue"} <= set(names):
        colors = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1).astype(np.uint8)
    conf = vertices["confidence"].astype(np.float32) if "confidence" in names else np.ones(count, dtype=np.float32)
    return PointCloud(points, colors, conf)


def _vertex_layout(path: Path, lines: list[list[str]]) -> tuple[int, np.dtype]:
    try:
        (_, element, count), *rest = lines
        if element != "vertex":
            raise ValueError(f"the first element is {element}")
        fields = []
        for line in rest:
            if line[0] == "element":
                break
            _, kind, name = line
            fields.append((name, _TYPES[_ALIASES.get(kind, kind)]))
        return int(count), np.dtype(fields)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' has a PLY header that cannot be understood: {error}.") from error
