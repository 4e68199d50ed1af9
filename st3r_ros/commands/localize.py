# SPDX-License-Identifier: Apache-2.0
"""`st3r localize`: poses of images relative to reference images or in a saved map."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from st3r_ros.checkpoints.sources import weights_sha256
from st3r_ros.commands.interrupt import Interrupt
from st3r_ros.commands.settings import Settings
from st3r_ros.errors import ConfigError, FrameError, InputError, MapFileError
from st3r_ros.eval.matches_picture import draw_matches
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.atomic import write_file
from st3r_ros.io.bag import is_bag
from st3r_ros.io.calibration import Calibration, CameraChoice, read_calibration
from st3r_ros.io.image_file import image_suffixes, read_image, read_picture
from st3r_ros.io.layouts.folder import images_in
from st3r_ros.io.layouts.open import is_plain_folder, open_folder
from st3r_ros.io.masks import Masks
from st3r_ros.io.picture import ToneRange
from st3r_ros.io.stamps import format_stamp, parse_stamp
from st3r_ros.io.tum import DEPTH_SCALE, read_depth
from st3r_ros.maps.fit import check_model
from st3r_ros.maps.load import load_map
from st3r_ros.runtime import start_pair_model
from st3r_ros.sequences import open_sequence
from st3r_ros.slam.relocalizer import Relocalizer
from st3r_ros.types import Frame, LocalizationResult, PairModel

NONE_LOCALIZED = 1
COLUMNS = (("x", 8), ("y", 8), ("z", 8), ("turn", 7), ("agree", 11), ("RMSE px", 8), ("ms", 6))
HEADINGS = f"{'query':<24} {'status':<16} {'reference':<20} {' '.join(f'{name:>{width}}' for name, width in COLUMNS)}  unit"


@dataclass(frozen=True)
class LocalizeOptions:
    """The options of the command; "" for those not given.

    references: image files, or the folder of one saved map. depth: of the single reference, with depth_scale units per metre.
    masks: of references and queries, as `Masks` takes them.
    json_target: JSON file for the results, "-" for JSON on stdout instead of the table. draw: PNG file for the matches.
    """

    references: tuple[str, ...]
    query: str
    camera: str = ""
    query_camera: str = ""
    masks: str = ""
    pair_model: str = "opencv"
    checkpoint: str = ""
    depth: str = ""
    depth_scale: float = 1000.0
    json_target: str = ""
    draw: str = ""


@dataclass(frozen=True, eq=False)
class Query:
    """An image to localize. stamp_ns: capture time, None when unknown."""

    name: str
    stamp_ns: int | None
    frame: Frame


def run_localize(options: LocalizeOptions, settings: Settings) -> int:
    """Localizes every query. Returns the exit code: 0, 1 when none was localized, 128 + signal.

    Raises:
        St3rError: a reference, the queries, an option or the model cannot be used.
    """
    maps = _check(options)
    camera = read_calibration(options.camera) if options.camera else None
    masks = Masks(options.masks) if options.masks else None
    queries = Queries(options.query, read_calibration(options.query_camera) if options.query_camera else None, camera, masks)
    notes: list[str] = []
    references = [] if maps else [_reference(n, path, camera, notes) for n, path in enumerate(options.references)]
    if masks is not None:
        references = [masks.apply(frame) for frame in references]
    for note in dict.fromkeys([*notes, *queries.notes]):
        print(f"Note: {note}", file=sys.stderr)
    depth = _depth(options)
    model = start_pair_model(options.pair_model, options.checkpoint, settings.pair.get(options.pair_model))
    if maps:
        places = [_in_map(model, maps[0], options.checkpoint)]
    else:
        places = [_with_image(model, name, frame, depth) for name, frame in _named(options.references, references)]
    with Interrupt() as interrupt:
        rows = _localize_all(places, queries, options, interrupt)
        report = {
            "references": list(options.references),
            "map": maps[0] if maps else "",
            "pair_model": model.name,
            "queries": rows,
        }
        _write(json.dumps(report, indent=2, allow_nan=False) + "\n", options.json_target)
    localized = sum(row["T_ref_cam"] is not None for row in rows)
    if options.json_target != "-" and len(rows) > 1:
        print(f"{localized} of {len(rows)} localized.")
    return interrupt.exit_code or (0 if localized else NONE_LOCALIZED)


def _check(options: LocalizeOptions) -> list[str]:
    """The references that are maps. Raises ConfigError for options that contradict each other."""
    if not options.references:
        raise ConfigError("No reference is given; give an image or a saved map with --reference.")
    missing = [path for path in options.references if not Path(path).exists()]
    if missing:
        raise InputError(f"There is no file or folder '{missing[0]}'.")
    maps = [path for path in options.references if Path(path).is_dir()]
    if maps and len(options.references) > 1:
        raise ConfigError(f"'{maps[0]}' is a folder, that is, a saved map; it must be the only reference.")
    if options.depth and (maps or len(options.references) != 1):
        raise ConfigError("--depth is the depth of a single reference image; give exactly one image with --reference.")
    if not (math.isfinite(options.depth_scale) and options.depth_scale > 0):
        raise ConfigError(f"depth_scale is {options.depth_scale}; it must be a positive number of units per metre.")
    if options.draw and Path(options.draw).suffix.lower() != ".png":
        raise ConfigError(f"draw is '{options.draw}'; give the name of a .png file.")
    return maps


# Inputs ------------------------------------------------------------------------------------------------------------------


class Queries:
    """The images to localize: one file, a folder of images, or any other input of `st3r map`.

    camera: of the images, None for their own calibration; otherwise: for images without a calibration.
    skipped: a sentence for each unusable image so far. length: number of images, None if unknown. notes: sentences on the
    calibration and on what is left out.
    """

    def __init__(
        self, source: str, camera: Calibration | None, otherwise: Calibration | None = None, masks: Masks | None = None
    ) -> None:
        self._masks = masks
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self.length: int | None
        self._files: list[Path] = []
        path = Path(source)
        if path.is_file() and _is_image(path):
            self._files, self._camera = [path], None
            with suppress(FrameError):  # said when the image is to be localized
                self._camera = _camera_of(camera or otherwise, path, read_image(path), self.notes)
        elif path.is_dir() and not is_bag(path) and is_plain_folder(path):
            self._files = images_in(path)
            folder = open_folder(path, camera)
            if folder.camera is None and otherwise is not None:
                folder = open_folder(path, otherwise)
            self._camera = folder.camera
            self.notes += folder.notes
        if self._files:
            self.length = len(self._files)
            return
        self._sequence = open_sequence(source, camera=camera)
        if self._sequence.camera is None and otherwise is not None:
            self._sequence = open_sequence(source, camera=otherwise)
        self.length = self._sequence.length
        self.notes += self._sequence.notes

    def __iter__(self) -> Iterator[Query]:
        for query in self._unmasked():
            try:
                yield query if self._masks is None else replace(query, frame=self._masks.apply(query.frame))
            except FrameError as error:
                self.skipped.append(f"{query.name}: {error}")

    def _unmasked(self) -> Iterator[Query]:
        if not self._files:
            for frame in self._sequence:
                yield Query(format_stamp(frame.stamp_ns), frame.stamp_ns, frame)
            self.skipped += [f"{item.source}: {item.reason}" for item in self._sequence.skipped]
            return
        for number, file in enumerate(self._files):
            try:
                frame = _frame(number, file, self._camera)
            except FrameError as error:
                self.skipped.append(str(error))
                continue
            yield Query(file.name, stamp_in(file.name), frame)


def stamp_in(name: str) -> int | None:
    """The capture time in nanoseconds from a file name in seconds with a decimal point; otherwise None."""
    stem = Path(name).stem
    try:
        return parse_stamp(stem) if re.fullmatch(r"\d+\.\d+", stem) else None
    except FrameError:
        return None  # a number too large for a time


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in image_suffixes() and not file.name.startswith(".")


def _reference(number: int, path: str, calibration: Calibration | None, notes: list[str]) -> Frame:
    frame = _frame(number, Path(path))
    return replace(frame, camera=_camera_of(calibration, Path(path), frame.image, notes))


def _frame(number: int, file: Path, camera: Camera | None = None) -> Frame:
    """The image of a file, which is no part of a stream."""
    picture = read_picture(file)
    return Frame(number, number, ToneRange().to_rgb(picture), camera, source=str(file), mask=picture.usable)


def _camera_of(calibration: Calibration | None, path: Path, image: np.ndarray, notes: list[str]) -> Camera | None:
    """The camera of an image file. What is to be said of it is added to the notes."""
    choice = CameraChoice(path.stem)
    if calibration is not None:
        choice.add(calibration)
    height, width = image.shape[:2]
    camera = choice.camera(width, height)
    notes += choice.notes
    return camera


def _named(paths: tuple[str, ...], frames: list[Frame]) -> Iterator[tuple[str, Frame]]:
    """The references by file name, or by path when names are equal."""
    names = [Path(path).name for path in paths]
    for path, name, frame in zip(paths, names, frames, strict=True):
        yield (name if names.count(name) == 1 else path), frame


def _depth(options: LocalizeOptions) -> np.ndarray | None:
    """(H, W) float32 metres."""
    return read_depth(options.depth) * np.float32(DEPTH_SCALE / options.depth_scale) if options.depth else None


def _with_image(model: PairModel, name: str, frame: Frame, depth: np.ndarray | None) -> Relocalizer:
    # One relocalizer for each: the relative poses of the references are unknown.
    relocalizer = Relocalizer(model)
    relocalizer.set_reference(name, frame, depth=depth)
    return relocalizer


def _in_map(model: PairModel, folder: str, checkpoint: str) -> Relocalizer:
    saved = load_map(folder)
    check_model(saved.info, model.name, weights_sha256(checkpoint))
    if not saved.map.keyframes:
        raise MapFileError(f"The map '{folder}' has no keyframes.")
    relocalizer = Relocalizer(model)
    relocalizer.use_map(saved.map)
    return relocalizer


# Localization ----------------------------------------------------------------------------------------------------------------


def _localize_all(
    places: list[Relocalizer], queries: Queries, options: LocalizeOptions, interrupt: Interrupt
) -> list[dict[str, Any]]:
    """One row of JSON per query, each printed as a line of the table when it is done.

    Raises InputError when no query could be used.
    """
    rows: list[dict[str, Any]] = []
    said = 0
    table = options.json_target != "-"
    if table:
        print(HEADINGS, flush=True)
    with _progress(queries.length) as progress:
        task = progress.add_task("localizing", total=queries.length)
        for query in queries:
            if interrupt.signal is not None:
                break
            try:
                result = _localize(places, query.frame)
            except FrameError as error:
                queries.skipped.append(f"{query.name}: {error}")
                continue
            finally:
                progress.advance(task)
            rows.append(as_row(query, result))
            if table:
                print(table_line(query.name, result), flush=True)
            if options.draw:
                seen = query.frame.image if result.query_image is None else result.query_image
                picture = draw_matches(seen, result.reference_image, result)
                _write_png(_picture_path(options.draw, query.name, queries.length), picture)
            for text in queries.skipped[said:]:
                progress.console.print(f"Skipped {text}", markup=False, soft_wrap=True)
            said = len(queries.skipped)
    if not rows and interrupt.signal is None:
        raise InputError(f"No image of '{options.query}' could be used. {''.join(queries.skipped[:1])}")
    for text in queries.skipped[said:]:
        print(f"Skipped {text}", file=sys.stderr)
    return rows


def _localize(places: list[Relocalizer], frame: Frame) -> LocalizationResult:
    """The best answer: with a pose before without, then the one with the most inliers."""
    answers = [place.localize(frame) for place in places]
    best = max(answers, key=lambda answer: (answer.localized, answer.inliers))
    return replace(best, latency_ms=sum(answer.latency_ms for answer in answers))


def _progress(length: int | None) -> Progress:
    """A bar on a terminal for more than one query; otherwise the lines of the table show the progress."""
    console = Console(stderr=True, highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    shown = console.is_terminal and length != 1
    return Progress(*columns, console=console, disable=not shown, transient=True, redirect_stdout=sys.stdout.isatty())


def _picture_path(target: str, query: str, queries: int | None) -> Path:
    """The given file for one query; with the name of the query added for several."""
    path = Path(target)
    return path if queries == 1 else path.with_name(f"{path.stem}-{Path(query).stem}{path.suffix}")


def _write_png(path: Path, picture: np.ndarray) -> None:
    write_file(path, cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())


def _write(text: str, target: str) -> None:
    if target == "-":
        print(text, end="")
    elif target:
        write_file(target, text.encode())


# Output -------------------------------------------------------------------------------------------------------------------


def table_line(name: str, result: LocalizationResult) -> str:
    """A line of the table; without a pose, with the reason."""
    head = f"{_cut(name, 24):<24} {result.status.value:<16} {_cut(result.reference, 20):<20}"
    if result.T_ref_cam is None:
        return f"{head} {result.reason}"
    x, y, z = result.T_ref_cam.translation
    turn = math.degrees(2.0 * math.acos(min(1.0, float(result.T_ref_cam.quaternion_xyzw[3]))))
    unit = "m" if result.metric else "direction only" if result.directional else "map units"
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
        "latency_ms": result.latency_ms,
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[1 - width :]
