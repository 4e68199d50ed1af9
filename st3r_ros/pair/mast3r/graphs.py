# SPDX-License-Identifier: Apache-2.0
"""Stages of the network as CUDA graphs: at batch 1 the launches of its hundreds of kernels cost more time than the kernels."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch

logger = logging.getLogger(__name__)

Tensors = tuple[torch.Tensor | None, ...]
Stage = Callable[..., Tensors]

WARM_UP_RUNS = 2


@dataclass(frozen=True, eq=False)
class _Captured:
    """A graph, the memory it reads from and the memory it writes to."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensors
    outputs: Tensors


class GraphCache:
    """Runs stages as CUDA graphs, one per stage and input shapes, and keeps the `limit` last used ones.

    They share one memory pool: they run one after the other, and their outputs are copied out before the next one runs.
    Not thread-safe.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._captured: OrderedDict[Hashable, _Captured | None] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle()

    def __len__(self) -> int:
        return len(self._captured)

    def __call__(self, key: Hashable, stage: Stage, *inputs: torch.Tensor | None) -> Tensors:
        """What `stage(*inputs)` returns. key: tells the stages apart, with all that decides what they do but their inputs."""
        key = (key, tuple(x if x is None else (x.shape, x.dtype) for x in inputs))
        if key in self._captured:
            self._captured.move_to_end(key)
        else:
            while len(self._captured) >= self._limit:
                self._captured.popitem(last=False)
            self._captured[key] = self._try_to_capture(stage, inputs)
        captured = self._captured[key]
        if captured is None:
            return stage(*inputs)
        for mine, given in zip(captured.inputs, inputs, strict=True):
            if mine is not None and given is not None:
                mine.copy_(given, non_blocking=True)
        captured.graph.replay()
        return tuple(None if x is None else x.clone() for x in captured.outputs)

    def _try_to_capture(self, stage: Stage, inputs: Tensors) -> _Captured | None:
        """None where this device or version cannot: slower is better than not at all."""
        try:
            return self._capture(stage, inputs)
        except RuntimeError as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            logger.warning("A stage of the network cannot run as a CUDA graph here, so it runs kernel by kernel: %s", error)
            return None

    def _capture(self, stage: Stage, inputs: Tensors) -> _Captured:
        own = tuple(None if x is None else x.clone() for x in inputs)
        # Libraries choose their kernels and tables are made on the first runs; none of that may happen in a capture.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                stage(*own)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as one that copies a map for publishing, may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = stage(*own)
        return _Captured(graph, own, outputs)
