# SPDX-License-Identifier: Apache-2.0
"""What a process that maps sets in torch for itself. The commands and the nodes do; the library changes no such setting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from st3r_ros.config import Validated
from st3r_ros.pair import load_pair_model
from st3r_ros.types import PairModel


def start_pair_model(name: str, checkpoint: str = "", config: Validated | None = None) -> PairModel:
    """`load_pair_model`, with the threads and kernels of this process chosen for the model."""
    model = load_pair_model(name, checkpoint, config)
    import torch  # the model has imported it; this module is light

    if model.traits.torch_threads:
        torch.set_num_threads(model.traits.torch_threads)
    torch.backends.cudnn.benchmark = True  # few sizes, many images: benchmarking convolutions pays off
    return model


def background_threads() -> ThreadPoolExecutor:
    """Threads for what a mapper does beside tracking, each limited to one core to leave the others to the tracking.

    Two, so that new keyframes do not wait for the optimization of the whole map.
    """
    import torch

    return ThreadPoolExecutor(2, thread_name_prefix="mapping", initializer=torch.set_num_threads, initargs=(1,))
