# SPDX-License-Identifier: Apache-2.0
"""`st3r localize`: poses of images relative to reference images or in a saved map."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from st3r_ros.commands.interrupt import Interrupt
from st3r_ros.commands.localize_inputs import Queries, named_references, reference_frame
from st3r_ros.commands.localize_report import HEADINGS, as_row, camera_summary, table_line
from st3r_ros.commands.settings import Settings
from st3r_ros.errors import ConfigError, FrameError, InputError, MapFileError
from st3r_ros.eval.matches_picture import draw_matches
from st3r_ros.io.atomic import write_file
from st3r_ros.io.calibration import read_calibration
from st3r_ros.io.masks import Masks
from st3r_ros.io.tum import DEPTH_SCALE, read_depth
from st3r_ros.runtime import start_pair_model
from st3r_ros.saved_maps import open_map
from st3r_ros.slam.places.relocalizer import Relocalizer
from st3r_ros.types import Frame, LocalizationResult, PairModel

NONE_LOCALIZED = 1


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
    references = [] if maps else [reference_frame(n, path, camera, notes) for n, path in enumerate(options.references)]
    if masks is not None:
        references = [masks.apply(frame) for frame in references]
    for note in dict.fromkeys([*notes, *queries.notes]):
        print(f"Note: {note}", file=sys.stderr)
    depth = _depth(options)
    model = start_pair_model(options.pair_model, options.checkpoint, settings.pair.get(options.pair_model))
    if maps:
        places = [_in_map(model, maps[0], options.checkpoint)]
    else:
        places = [_with_image(model, name, frame, depth) for name, frame in named_references(options.references, references)]
    with Interrupt() as interrupt:
        rows = _localize_all(places, queries, options, interrupt)
        doubts = [place.doubt for place in places if place.doubt is not None]
        doubt = max(doubts, key=lambda doubt: doubt.images, default=None)
        camera_used = None if queries.newest is None else queries.newest.camera
        cameras = camera_summary(rows, queries.calibration, doubt, camera_used)
        report = {
            "references": list(options.references),
            "map": maps[0] if maps else "",
            "pair_model": model.name,
            "cameras": dataclasses.asdict(cameras),
            "interrupted": interrupt.signal is not None,
            "queries_given": queries.length,
            "queries": rows,
        }
        _write(json.dumps(report, indent=2, allow_nan=False) + "\n", options.json_target)
    localized = sum(row["T_ref_cam"] is not None for row in rows)
    if options.json_target != "-" and interrupt.signal is not None:
        of = "" if queries.length is None else f" of {queries.length}"
        print(f"Interrupted by {interrupt.name} after {len(rows)}{of} queries.")
    if options.json_target != "-" and rows:
        print(cameras.line)
    if options.json_target != "-" and len(rows) > 1:
        print(f"{localized} of {len(rows)} localized.")
    if cameras.warning:
        print(f"Warning: {cameras.warning}", file=sys.stderr)
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


def _depth(options: LocalizeOptions) -> np.ndarray | None:
    """(H, W) float32 metres."""
    return read_depth(options.depth) * np.float32(DEPTH_SCALE / options.depth_scale) if options.depth else None


def _with_image(model: PairModel, name: str, frame: Frame, depth: np.ndarray | None) -> Relocalizer:
    # One relocalizer for each: the relative poses of the references are unknown.
    relocalizer = Relocalizer(model)
    relocalizer.set_reference(name, frame, depth=depth)
    return relocalizer


def _in_map(model: PairModel, folder: str, checkpoint: str) -> Relocalizer:
    saved = open_map(folder, model.name, checkpoint)
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
