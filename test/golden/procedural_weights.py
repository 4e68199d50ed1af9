# SPDX-License-Identifier: Apache-2.0
"""Weights and images that need no file: every value is a function of a name, so that goldens can be small (numpy only).

The stream of a name starts at the FNV-1a hash of its UTF-8 text and is that of splitmix64; its upper 24 bits become v(j), exact
in float32, in [-1, 1). A weight is `offset + amp * v(j)`, in float32 with two roundings.

A tensor of O rows of R elements, O * R <= 4096, takes them in row-major order. A larger one overlaps itself: element (o, r) is
v(13 o + r), so that a checkpoint file can hold it as a strided view of a small pool.
"""

import numpy as np

OVERLAP_ABOVE = 4096
ROW_STEP = 13

# The first substring that is found in a key gives the standard deviation, in units of 1 / sqrt(fan_in).
GAINS = (
    ("patch_embed.proj.weight", 4.0),
    ("attn.qkv.weight", 1.8),
    ("cross_attn.projq.weight", 1.8),
    ("cross_attn.projk.weight", 1.8),
    ("cross_attn.projv.weight", 1.4),
    ("attn.proj.weight", 0.8),
    ("mlp.fc1.weight", 1.4),
    ("mlp.fc2.weight", 1.0),
    ("decoder_embed.weight", 1.0),
    ("head_local_features.fc1.weight", 1.4),
    ("head_local_features.fc2.weight", 1.6),
    ("act_postprocess", 1.4),
    ("scratch.layer", 1.0),
    ("resConfUnit", 0.9),
    ("out_conv.weight", 0.8),
    ("dpt.head.0.weight", 1.0),
    ("dpt.head.2.weight", 1.0),
    ("dpt.head.4.weight", 0.16),
    ("downstream_head1.proj.weight", 0.6),
    ("downstream_head2.proj.weight", 0.6),
)


def fnv1a64(text: str) -> int:
    """The 64-bit FNV-1a hash of a text."""
    value = 0xCBF29CE484222325
    for byte in text.encode("utf-8"):
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def stream(seed: int, count: int, start: int = 0) -> np.ndarray:
    """v(start) .. v(start + count - 1) of a stream, float32 in [-1, 1)."""
    with np.errstate(over="ignore"):
        s = np.uint64(seed) + np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        s = (s ^ (s >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        s = (s ^ (s >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        s = s ^ (s >> np.uint64(31))
    return ((s >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def canonical(key: str) -> str:
    """The one of the two names that checkpoints give the same four convolutions."""
    for i in range(4):
        key = key.replace(f"scratch.layer_rn.{i}.", f"scratch.layer{i + 1}_rn.")
    return key


def amp_offset(key: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Amplitude and offset of a weight's values."""
    key = canonical(key)
    if key == "mask_token":
        return 0.02, 0.0
    if "norm" in key:
        return (0.3, 1.0) if key.endswith("weight") else (0.1, 0.0)
    if key.endswith(".bias"):
        return 0.05, 0.0
    transposed = key.endswith(("act_postprocess.0.1.weight", "act_postprocess.1.1.weight"))
    fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
    gain = next(gain for part, gain in GAINS if part in key)
    return float(np.float32(gain * np.sqrt(3.0 / fan_in))), 0.0


def pool(set_name: str, key: str, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """A float32 pool and a row step, such that element (o, r) of the weight is pool[o * step + r]."""
    rows, row = shape[0], int(np.prod(shape[1:]))
    step = row if rows * row <= OVERLAP_ABOVE else ROW_STEP
    amp, offset = amp_offset(key, shape)
    values = np.float32(amp) * stream(fnv1a64(f"{set_name}/{canonical(key)}"), (rows - 1) * step + row)
    return values + np.float32(offset), step


def tensor(set_name: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight of a set as a dense float32 array."""
    values, step = pool(set_name, key, shape)
    rows, row = shape[0], int(np.prod(shape[1:]))
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, (rows, row), (4 * step, 4))).reshape(shape)


def image(name: str, height: int, width: int) -> np.ndarray:
    """A (height, width, 3) uint8 RGB picture: blobs of three sizes, from arithmetic that is the same on every machine."""
    out = np.zeros((height, width, 3), np.float64)
    for level, (cell, weight) in enumerate(((64, 0.5), (16, 0.3), (4, 0.2))):
        rows, columns = height // cell + 2, width // cell + 2
        grid = stream(fnv1a64(f"{name}/{level}"), rows * columns * 3).reshape(rows, columns, 3).astype(np.float64)
        y, x = np.arange(height) / cell, np.arange(width) / cell
        y0, x0 = y.astype(int), x.astype(int)
        fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
        upper = (1 - fx) * grid[y0][:, x0] + fx * grid[y0][:, x0 + 1]
        lower = (1 - fx) * grid[y0 + 1][:, x0] + fx * grid[y0 + 1][:, x0 + 1]
        out += weight * ((1 - fy) * upper + fy * lower)
    return np.clip(np.floor((out * 0.9 + 1) * 127.5 + 0.5), 0, 255).astype(np.uint8)
