# SPDX-License-Identifier: Apache-2.0
"""Bounds the memory of the map: features of recently used keyframes, half-precision pointmaps, a limited number of keyframes."""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Features, Frame, Keyframe, PairModel

FEATURES_KEPT = 48


class FeatureStore:
    """Cache of the features of recently used keyframes; others are recomputed from their images. Several threads may use it."""

    def __init__(self, model: PairModel, kept: int = FEATURES_KEPT) -> None:
        self._model = model
        self._kept = kept
        self._order: OrderedDict[int, Keyframe] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, keyframe: Keyframe) -> Any:
        """The pair model's features of a keyframe."""
        with self._lock:
            return self._of(keyframe)

    def _of(self, keyframe: Keyframe) -> Any:
        if keyframe.features is None:
            height, width = keyframe.image.shape[:2]
            camera = Camera(width, height, keyframe.K) if keyframe.K_known else None
            features = self._model.encode(Frame(keyframe.frame_id, keyframe.stamp_ns, keyframe.image, camera, mask=keyframe.mask))
            features.K = keyframe.K
            keyframe.features = features
        features = keyframe.features
        self._order.setdefault(keyframe.id, keyframe)
        self._order.move_to_end(keyframe.id)
        while len(self._order) > self._kept:
            self._order.popitem(last=False)[1].features = None
        return features

    def forget(self, keyframe_id: int) -> None:
        """Handles a removed keyframe."""
        with self._lock:
            self._order.pop(keyframe_id, None)


def retire(keyframe: Keyframe) -> None:
    """Halves the memory of a pointmap that is not being fused."""
    if keyframe.X.dtype != torch.float16:
        limit = torch.finfo(torch.float16).max
        keyframe.X = keyframe.X.clamp(-limit, limit).to(torch.float16)
        keyframe.conf = keyframe.conf.clamp_max(limit).to(torch.float16)


def revive(keyframe: Keyframe) -> None:
    """Restores full precision, since small contributions of many predictions add up."""
    if keyframe.X.dtype != torch.float32:
        keyframe.X, keyframe.conf = keyframe.X.float(), keyframe.conf.float()


def map_bytes(keyframe_map: KeyframeMap) -> int:
    """Memory of the keyframes with what they keep, the edges and the frames, bytes."""
    holders = (holder for k in list(keyframe_map.keyframes.values()) for holder in (k, k.features) if holder is not None)
    keyframes = _bytes(value for holder in holders for value in vars(holder).values())
    matches = sum(10 * len(e) for e in list(keyframe_map.edges)) + keyframe_map.sightings.nbytes
    return keyframes + matches + 128 * len(keyframe_map.frames)


def give_back_freed() -> None:
    """Returns freed memory of large arrays to the system and the GPU.

    glibc would keep it fragmented and the process would grow; torch would keep that of the GPU.
    """
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # available in glibc, not in musl or macOS
    if trim is not None:
        trim(0)


def gpu_bytes() -> int:
    """Memory that the tensors of this process hold on the GPU; 0 without one."""
    return torch.cuda.memory_allocated() if torch.cuda.is_initialized() else 0


def _bytes(values: Iterable[Any]) -> int:
    """Of the arrays among some values, and in those that hold arrays themselves, once each: a keyframe and its features share the
    image."""
    arrays = {id(v): v.nbytes for v in _arrays(values)}
    return sum(arrays.values())


def _arrays(values: Iterable[Any]) -> Iterator[torch.Tensor | np.ndarray]:
    for value in values:
        if isinstance(value, torch.Tensor | np.ndarray):
            yield value
        elif is_dataclass(value) and not isinstance(value, type | Keyframe | Features):
            yield from _arrays(vars(value).values())
