# SPDX-License-Identifier: Apache-2.0
"""The error message for a full GPU memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from st3r_ros.errors import DeviceMemoryError


@contextmanager
def naming_full_memory() -> Iterator[None]:
    """Replaces torch's out-of-memory error; also a decorator.

    Raises:
        DeviceMemoryError: instead of torch's error, which is long and mentions only torch's settings.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (0, 0)
        raise DeviceMemoryError(
            f"The GPU's memory is full: {free / 1e9:.1f} of {total / 1e9:.1f} GB are free, and the network needs more. End what "
            "else uses the GPU, or set mast3r.dtype to fp16, a smaller mast3r.image_size or mast3r.batch_size, or mast3r.device "
            "to cpu."
        ) from error
