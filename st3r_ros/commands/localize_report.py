# SPDX-License-Identifier: Apache-2.0
"""What `st3r localize` prints and writes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from st3r_ros.commands.localize_inputs import Query
from st3r_ros.geometry.camera import Camera
from st3r_ros.slam.places.focal_check import FocalDoubt
from st3r_ros.types import LocalizationResult

COLUMNS = (("x", 8), ("y", 8), ("z", 8), ("turn", 7), ("agree", 11), ("RMSE px", 8), ("ms", 6))
HEADINGS = f"{'query':<24} {'status':<16} {'reference':<20} {' '.join(f'{name:>{width}}' for name, width in COLUMNS)}  unit"
ASSUMED, GIVEN = "assumed", "given"


def table_line(name: str, result: LocalizationResult) -> str:
    """A line of the table; without a pose, with the reason."""
    head = f"{_cut(name, 24):<24} {result.status.value:<16} {_cut(result.reference, 20):<20}"
    if result.T_ref_cam is None:
        return f"{head} {result.reason}"
    x, y, z = result.T_ref_cam.translation
    turn = math.degrees(2.0 * math.acos(min(1.0, float(result.T_ref_cam.quaternion_xyzw[3]))))
    unit = "m" if result.metric else "direction only" if result.directional else "map units"
    unit += ", camera assumed" if result.focal_estimated else ", reference's camera assumed" if result.reference_assumed else ""
    agree = f"{result.inliers}/{result.matches}"
    rmse = f"{result.rmse_px:8.2f}" if math.isfinite(result.rmse_px) else f"{'-':>8}"
    return f"{head} {x:8.3f} {y:8.3f} {z:8.3f} {turn:6.1f}° {agree:>11} {rmse} {result.latency_ms:6.0f}  {unit}"


def as_row(query: Query, result: LocalizationResult) -> dict[str, Any]:
    """The result as JSON; T_ref_cam is the 4x4 matrix of the pose, None without one."""
    T, covariance = result.T_ref_cam, result.covariance
    return {
        "query": query.name,
        "stamp_ns": query.stamp_ns,
        "status": result.status.value,
        "reason": result.reason,
        "reference": result.reference,
        "T_ref_cam": None if T is None else T.as_matrix().tolist(),
        "translation": None if T is None else T.translation.tolist(),
        "quaternion_xyzw": None if T is None else T.quaternion_xyzw.tolist(),
        "covariance": None if covariance is None else covariance.tolist(),
        "metric": result.metric,
        "directional": result.directional,
        "matches": result.matches,
        "inliers": result.inliers,
        "inlier_ratio": result.inlier_ratio,
        "rmse_px": _number(result.rmse_px),
        "focal_px": _number(result.focal_px),
        "focal_estimated": result.focal_estimated,
        "camera": ASSUMED if result.focal_estimated else GIVEN,
        "reference_camera": ASSUMED if result.reference_assumed else GIVEN,
        "warning": result.doubt,
        "latency_ms": result.latency_ms,
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[1 - width :]


@dataclass(frozen=True)
class CameraSummary:
    """queries: where their calibration is from, or "assumed". references: "given", "assumed", "" without any. warning: or ""."""

    queries: str
    references: str
    warning: str

    @property
    def line(self) -> str:
        """For people."""
        of = f", camera of the reference: {self.references}" if self.references else ""
        hint = " Give the calibration with --camera or --query-camera." if ASSUMED in self.queries else ""
        return f"Camera of the queries: {self.queries}{of}.{hint}"


def camera_summary(rows: list[dict[str, Any]], source: str, doubt: FocalDoubt | None, camera: Camera | None) -> CameraSummary:
    """The cameras of all rows. source: where the calibration of the queries is from. camera: of the last query."""
    assumed = sum(row["camera"] == ASSUMED for row in rows)
    queries = ASSUMED if rows and assumed == len(rows) else f"{source}; {assumed} of {len(rows)} {ASSUMED}" if assumed else source
    found = [row["reference_camera"] for row in rows if row["reference"]]
    references = "" if not found else ASSUMED if ASSUMED in found else GIVEN
    warning = ""
    if doubt is not None:
        warning = doubt.sentence(camera)
    return CameraSummary(queries, references, warning)
