# SPDX-License-Identifier: Apache-2.0
"""`st3r pair`: pointmaps, matches and relative pose of two images, or the pointmap of one.

points.ply                       both images' points in camera 0's coordinates (with two images)
pointmap0.ply, pointmap1.ply     the points of one image, in camera 0's coordinates
confidence0.png, confidence1.png their confidence
depth0.png, depth1.png           depth of each image in its own camera, as a picture
depth0.npy, depth1.npy           the same, (h, w) float32 in the unit of summary.json, NaN = unknown
matches.png                      the best matches (with two images)
summary.json                     `PairSummary`
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from st3r_ros.commands.pair_picture import draw_matches, draw_values
from st3r_ros.commands.pair_summary import summarise, summary_lines
from st3r_ros.commands.settings import Settings
from st3r_ros.commands.stages import Stages
from st3r_ros.config import PairCommandConfig
from st3r_ros.io.atomic import atomic_path, write_file
from st3r_ros.io.image_file import read_image
from st3r_ros.io.ply import write_ply
from st3r_ros.pair.reconstruction import ReconstructedImage, Reconstruction
from st3r_ros.results import check_output_folder
from st3r_ros.runtime import start_pair_model
from st3r_ros.types import PointCloud

SUMMARY = "summary.json"


def run_pair(paths: Sequence[str], config: PairCommandConfig, settings: Settings, json_target: str) -> None:
    """Runs the pair model on two image files, or on one, writes the results and prints their summary.

    json_target: JSON file for the summary, "-" for JSON on stdout instead of text, "" for none.

    Raises:
        St3rError: an image, the output folder, a setting or the model cannot be used.
    """
    paths = list(dict.fromkeys(paths))  # an image paired with itself is treated as a single image
    images = [read_image(Path(path)) for path in paths]
    out = Path(config.out)
    check_output_folder(out)
    stages = Stages()
    with stages.stage("load"):
        model = start_pair_model(config.pair_model, config.checkpoint, settings.pair.get(config.pair_model))
    found = model.reconstruct(*images, fine=config.fine, stage=stages.stage)
    with stages.stage("write"):
        files = write_reconstruction(out, found, "m" if model.traits.metric else "model units")
    summary = summarise(
        found,
        model,
        paths=paths,
        sizes=[(image.shape[1], image.shape[0]) for image in images],
        checkpoint=config.checkpoint,
        timings_ms=stages.timings_ms,
        files=[*files, SUMMARY],
    )
    text = json.dumps(dataclasses.asdict(summary), indent=2, allow_nan=False) + "\n"
    write_file(out / SUMMARY, text.encode())
    if json_target == "-":
        print(text, end="")
        return
    if json_target:
        write_file(json_target, text.encode())
    for line in summary_lines(summary):
        print(line)
    print(f"Results in {out}: {', '.join(summary.files)}.")


def write_reconstruction(out: Path, found: Reconstruction, unit: str) -> list[str]:
    """Writes every file except the summary, each atomically; returns their names. unit: of the depth.

    Raises:
        OutputError: a file cannot be written.
    """
    files = []
    for index, seen in enumerate(found.images):
        files += _write_image(out, index, seen, unit)
    if found.matches is not None:
        clouds = [_cloud(seen) for seen in found.images]
        columns = ([getattr(cloud, item.name) for cloud in clouds] for item in dataclasses.fields(PointCloud))
        write_ply(out / "points.ply", PointCloud(*(np.concatenate(column) for column in columns)))
        first, second = found.images
        picture = draw_matches(first.image, second.image, found.matches, f"The best of {len(found.matches)} matches")
        write_file(out / "matches.png", picture)
        files += ["points.ply", "matches.png"]
    return files


def _write_image(out: Path, index: int, seen: ReconstructedImage, unit: str) -> list[str]:
    names = [f"pointmap{index}.ply", f"confidence{index}.png", f"depth{index}.png", f"depth{index}.npy"]
    cloud, confidence, picture, array = (out / name for name in names)
    write_ply(cloud, _cloud(seen))
    conf = np.where(seen.conf > 0.0, seen.conf, np.nan)
    write_file(confidence, draw_values(conf, f"Confidence of image {index}", colors="viridis", logarithmic=True))
    depth = np.where(seen.conf_own > 0.0, seen.X_own[..., 2], np.nan).astype(np.float32)
    write_file(picture, draw_values(depth, f"Depth of image {index} [{unit}]", colors="magma_r"))
    with atomic_path(array) as temporary:
        np.save(temporary, depth)
    return names


def _cloud(seen: ReconstructedImage) -> PointCloud:
    kept = (seen.conf > 0.0) & np.isfinite(seen.X_0).all(axis=-1)
    return PointCloud(seen.X_0[kept].astype(np.float32), seen.image[kept], seen.conf[kept].astype(np.float32))
