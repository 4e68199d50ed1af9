# SPDX-License-Identifier: Apache-2.0
"""`st3r doctor --camera FILE`: content and plausibility of a calibration file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.plausibility import examine
from st3r_ros.io.calibration import Calibration, Size, read_calibration

NOT_USABLE = 1


def run_camera_report(path: str, as_json: bool) -> int:
    """Prints the report; returns 0 for a calibration that is used, doubtful or not, else 1."""
    report = describe(path)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    return 0 if report["usable"] else NOT_USABLE


def describe(path: str) -> dict[str, Any]:
    """The report on a calibration file: usable, the problem that makes it unusable or "", doubts, notes and its images."""
    report: dict[str, Any] = {"source": path, "usable": False, "problem": "", "doubts": [], "notes": [], "images": []}
    problems: list[str] = []
    try:
        calibration = read_calibration(path)
    except CalibrationError as error:
        return {**report, "problem": str(error)}
    report["notes"] += [calibration.note] * bool(calibration.note)
    for kind, rectified in _kinds(calibration):
        try:
            camera = calibration.camera(_size(calibration, rectified, report["notes"]), rectified=rectified)
        except CalibrationError as error:
            problems.append(str(error))
            continue
        report["doubts"] += calibration.doubts(camera)
        report["images"].append({"kind": kind, **_numbers(calibration, camera)})
        if not rectified and calibration.lens.note:
            report["notes"].append(calibration.lens.note)
    if report["images"]:
        return {**report, "usable": True, "doubts": [*report["doubts"], *problems]}
    return {**report, "problem": problems[0]}


def _kinds(calibration: Calibration) -> Iterator[tuple[str, bool]]:
    """The kinds of images that it is for, and whether they are the rectified ones."""
    if calibration.K is not None and calibration.rectified != "yes":
        yield "as the sensor takes them (K, D)", False
    if (calibration.P is not None and calibration.rectified != "no") or calibration.rectified == "yes":
        yield "rectified (P)", True


def _size(calibration: Calibration, rectified: bool, notes: list[str]) -> Size | None:
    """The size that it tells, None; without one, that around its principal point."""
    if None not in calibration.sizes(rectified):
        return None
    K = calibration.P if rectified and calibration.P is not None else calibration.K
    if K is None or min(K[0, 2], K[1, 2]) < 1.0:
        return None
    size = round(2.0 * K[0, 2] + 1.0), round(2.0 * K[1, 2] + 1.0)
    notes.append(
        f"The file gives no image size: judged for {size[0]}x{size[1]} pixels, which are centred on its principal point."
    )
    return size


def _numbers(calibration: Calibration, camera: Camera) -> dict[str, Any]:
    measures = examine(camera, cropped=calibration.cropped).measures
    (fx, _, cx), (_, fy, cy), _ = camera.K.tolist()
    return {
        "width": camera.width,
        "height": camera.height,
        "fx": fx,
        "fy": fy,
        "cx": cx,
        "cy": cy,
        "principal_point": measures.centre,
        "field_of_view_deg": [
            math.degrees(math.atan2(centre + 0.5, focal) + math.atan2(side - centre - 0.5, focal))
            for focal, centre, side in ((fx, cx, camera.width), (fy, cy, camera.height))
        ],
        "distortion_model": camera.distortion_model if camera.has_distortion else "none",
        "distortion": camera.distortion.tolist(),
        "undistorted_share": measures.left,
        "fold_px": measures.fold_px,
        "tangential_share": measures.tangential,
    }


def _print(report: dict[str, Any]) -> None:
    rows = [("calibration", report["source"])]
    for images in report["images"]:
        rows += [
            ("images", f"{images['kind']}, {images['width']}x{images['height']} pixels"),
            ("  focal length", f"fx = {images['fx']:g}, fy = {images['fy']:g}"),
            ("  field of view", "{:.1f} x {:.1f} degrees when undistorted".format(*images["field_of_view_deg"])),
            (
                "  principal point",
                "({:g}, {:g}), at {:.0%} of the width and {:.0%} of the height".format(
                    images["cx"], images["cy"], *images["principal_point"]
                ),
            ),
            ("  lens", " ".join([images["distortion_model"], *(f"{value:g}" for value in images["distortion"])])),
            ("  undistorted", _undistorted(images)),
        ]
    rows += [("note", note) for note in report["notes"]] + [("DOUBT", doubt) for doubt in report["doubts"]]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")
    print(f"NOT USABLE: {report['problem']}" if report["problem"] else "usable")


def _undistorted(images: dict[str, Any]) -> str:
    fold = "" if images["fold_px"] is None else f"; it folds over {images['fold_px']:.0f} pixels from the principal point"
    tangential = f"; the tangential terms move pixels by up to {images['tangential_share']:.1%} of the diagonal"
    return f"{images['undistorted_share']:.0%} of the image is left{fold}{tangential if images['tangential_share'] else ''}"
