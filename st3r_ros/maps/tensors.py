# SPDX-License-Identifier: Apache-2.0
"""Arrays in safetensors files: exactly the expected names, shapes and types, or an error."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from st3r_ros.errors import MapFileError

MAX_HEADER_BYTES = 65_536
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I16": "<i2", "U8": "|u1"}


@dataclass(frozen=True)
class TensorLayout:
    """Shape and NumPy type string ("<f8", "<i2", ...) of an array in a file."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Size of the array."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


def encode_tensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a safetensors file."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def decode_tensors(data: bytes, layouts: Mapping[str, TensorLayout], path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, writable. path: of the file, for messages.

    Raises:
        MapFileError: it is not a safetensors file, or contains other arrays than those of `layouts`.
    """
    header = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else MAX_HEADER_BYTES + 1
    try:
        if header > MAX_HEADER_BYTES:
            raise ValueError("its header is missing or too long")
        stored = dict(deserialize(data))
        if stored.keys() != layouts.keys():
            raise ValueError(f"it has other arrays than {', '.join(layouts)}")
        return {name: _array(name, stored[name], layout) for name, layout in layouts.items()}
    except (ValueError, SafetensorError) as error:
        raise MapFileError(f"'{path}' is damaged: {error}; restore the map from a copy or map again.") from error


def _array(name: str, stored: Mapping, layout: TensorLayout) -> np.ndarray:
    shape, dtype = tuple(stored["shape"]), stored["dtype"]
    if shape != layout.shape or _TYPES.get(dtype) != layout.dtype:
        raise ValueError(f"its array '{name}' is {list(shape)} of {dtype}, not {list(layout.shape)} of {layout.dtype}")
    return np.frombuffer(stored["data"], dtype=layout.dtype).reshape(layout.shape)
