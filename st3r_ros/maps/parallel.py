# SPDX-License-Identifier: Apache-2.0
"""Runs a function on many items in a few threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Called with the number of finished items and the total.
Progress = Callable[[int, int], None]

MAX_THREADS = 8


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None) -> list[Result]:
    """The results in the order of the items. When one fails or the caller is interrupted, the remaining items are not started."""
    pool = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1))
    results = []
    try:
        for result in pool.map(work, items):
            results.append(result)
            if progress is not None:
                progress(len(results), len(items))
    finally:
        pool.shutdown(cancel_futures=True)
    return results
