# SPDX-License-Identifier: Apache-2.0
"""Stages of the network as CUDA graphs: at batch 1, launching hundreds of kernels takes longer than running them."""

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
    """A graph with its input and output memory."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensors
    outputs: Tensors


class GraphCache:
    """Runs stages as CUDA graphs, one per stage and input shapes, and caches the `limit` most recently used ones.

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
        """Returns `stage(*inputs)`. key: identifies the stage, with everything but the inputs that determines its result."""
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
        """The graph; None when the device or version does not support it, in which case the stage runs kernel by kernel."""
        try:
            return self._capture(stage, inputs)
        except RuntimeError as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            logger.warning("A stage of the network cannot run as a CUDA graph here, so it runs kernel by kernel: %s", error)
            return None

    def _capture(self, stage: Stage, inputs: Tensors) -> _Captured:
        own = tuple(None if x is None else x.clone() for x in inputs)
        # Libraries select kernels and build tables in the first runs; this must not happen during a capture.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                stage(*own)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as one that copies a map for publishing, may use the device during the capture.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = stage(*own)
        return _Captured(graph, own, outputs)
