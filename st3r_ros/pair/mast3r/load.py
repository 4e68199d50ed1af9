# SPDX-License-Identifier: Apache-2.0
"""Loads a pair model from a checkpoint and settings."""

from __future__ import annotations

import logging

import torch

from st3r_ros.checkpoints.checkpoint import load_network
from st3r_ros.checkpoints.retrieval import load_retrieval_head
from st3r_ros.errors import ConfigError
from st3r_ros.pair.mast3r.config import MASt3RPairConfig
from st3r_ros.pair.mast3r.device_memory import naming_full_memory
from st3r_ros.pair.mast3r.model import MASt3RPairModel

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@naming_full_memory()
def load_mast3r(checkpoint: str, config: MASt3RPairConfig) -> MASt3RPairModel:
    """The pair model of a MASt3R or DUSt3R checkpoint.

    Raises:
        ConfigError: no checkpoint is given, or the device is not available.
        CheckpointError: the checkpoint cannot be used.
        DeviceMemoryError: the network does not fit on the GPU.
    """
    if not checkpoint:
        raise ConfigError(
            "The pair model 'mast3r' needs a checkpoint: give a weight file, a Hub id or 'mast3r'; "
            "`st3r download mast3r` fetches the published weights."
        )
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    network = load_network(checkpoint, dtype=dtype, device=device)
    retrieval = load_retrieval_head(config.retrieval, device=device) if config.retrieval else None
    logger.info("%s on %s in %s.", network.config.kind, device, str(dtype).removeprefix("torch."))
    return MASt3RPairModel(network, config, retrieval)


def choose_device(name: str) -> torch.device:
    """The device of the setting `device`: "auto", "cuda" or "cpu".

    Raises:
        ConfigError: CUDA is requested but not available.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("device is 'cuda', but torch finds no CUDA device; see `st3r doctor`. device 'cpu' works, but is slow.")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of the setting `dtype`: "auto", "fp32", "bf16" or "fp16".

    fp16 is more accurate than bf16 and as fast; docs/performance.md has the errors of both.
    """
    return DTYPES["fp16" if device.type == "cuda" else "fp32"] if name == "auto" else DTYPES[name]
