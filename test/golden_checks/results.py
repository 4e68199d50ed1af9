# SPDX-License-Identifier: Apache-2.0
"""Results of the checks, and their error measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

NETWORK_TOLERANCE = 2e-5  # relative L2 of an array; 1 against 2 threads differ by 1e-6, fused attention by 3e-6
STATISTICS_TOLERANCE = 1e-4  # single elements vary more than an array's norm


@dataclass(frozen=True)
class Check:
    """One array of one file compared with ours. measure: what `error` is."""

    file: str
    array: str
    measure: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Within tolerance; an error that is not a number is not."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Skipped:
    """A file, or an array of one, that was not compared."""

    file: str
    array: str
    reason: str


Result = Check | Skipped


def as_array(values: np.ndarray | torch.Tensor) -> np.ndarray:
    """A NumPy array of either kind."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def relative_l2(ours: np.ndarray | torch.Tensor, golden: np.ndarray) -> float:
    """|ours - golden| / |golden|, infinite where the shapes differ; elements that are NaN in both are equal."""
    ours = as_array(ours)
    if ours.shape != golden.shape:
        return float("inf")
    counted = ~(np.isnan(ours) & np.isnan(golden))
    ours, golden = ours[counted].astype(np.float64), golden[counted].astype(np.float64)
    return float(np.linalg.norm(ours - golden) / max(np.linalg.norm(golden), 1e-300))


def share_different(ours: np.ndarray | torch.Tensor, golden: np.ndarray) -> float:
    """Share of the elements that are not equal, 1 where the shapes differ."""
    ours = as_array(ours)
    return float(np.mean(ours != golden)) if ours.shape == golden.shape else 1.0


def share_missing(ours: np.ndarray, golden: np.ndarray) -> float:
    """Rows (N, k) that only one of two sets has, as a share of all rows of both."""
    first, second = ({tuple(row) for row in rows.tolist()} for rows in (ours, golden))
    return len(first ^ second) / max(len(first | second), 1)


def statistics_error(ours: np.ndarray | torch.Tensor, golden: np.ndarray) -> float:
    """Largest difference of (mean, mean |x|, min, max), each relative to its size, at least to mean |x|."""
    x = as_array(ours).astype(np.float64)
    found = np.array([x.mean(), np.abs(x).mean(), x.min(), x.max()])
    return float(np.max(np.abs(found - golden) / np.maximum(np.abs(golden), golden[1])))


def close(file: str, array: str, ours: np.ndarray | torch.Tensor, golden: np.ndarray, tolerance: float) -> Check:
    """The check that an array agrees in relative L2."""
    return Check(file, array, "relative L2", relative_l2(ours, golden), tolerance)


def equal(file: str, array: str, ours: np.ndarray | torch.Tensor, golden: np.ndarray) -> Check:
    """The check that an array is the same."""
    return Check(file, array, "share different", share_different(ours, golden), 0.0)


def header(width: int) -> str:
    """The names of the columns; width: of the longest file name."""
    return f"{'file':<{width}}  {'array':<34}{'measure':<18}{'error':>9}{'tolerance':>11}  ok"


def row(result: Result, width: int) -> str:
    """One line of the table."""
    if isinstance(result, Skipped):
        return f"{result.file:<{width}}  {result.array:<34}skipped: {result.reason}"
    verdict = "yes" if result.ok else "NO"
    return f"{result.file:<{width}}  {result.array:<34}{result.measure:<18}{result.error:9.1e}{result.tolerance:11.0e}  {verdict}"
