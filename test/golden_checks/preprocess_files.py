# SPDX-License-Identifier: Apache-2.0
"""Files of preprocessing: what becomes of images of many sizes, turns and colour modes, and pixels of some."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

from golden_checks.procedural import procedural_image
from golden_checks.results import Check, Result, Skipped, equal
from st3r_ros.io.image_file import read_image
from st3r_ros.network.preprocess import ImagePlan, normalize, plan_image, resize_reference

TAG = re.compile(r"(?P<width>\d+)x(?P<height>\d+)(?: exif orientation (?P<turn>\d)| mode (?P<mode>\w+))?")
ORIENTATION = 0x0112  # the EXIF tag
MEAN_TOLERANCE = 1e-3  # grey levels, where another Pillow recorded the file
TENSOR_TOLERANCE = 1e-6


def check_preprocess(path: Path) -> Iterator[Result]:
    """Every case: sizes and crop are exact, and so are the pixels where the file was recorded with this version of Pillow."""
    golden = json.loads(path.read_text(encoding="utf-8"))
    for case in golden["cases"]:
        settings = ",".join(f"{key}={value}" for key, value in case["kw"].items())
        name = f"{case['tag']} {settings}"
        image = source_image(case["tag"])
        if image is None:
            yield Skipped(path.name, name, "no such image can be made")
            continue
        plan = planned(image, case["kw"])
        yield Check(path.name, name, "wrong sizes", _wrong_sizes(plan, case), 0.0)
        yield from _check_pixels(path.name, name, resize_reference(image, plan), case, golden["pillow"] == PIL.__version__)


def check_pixels(path: Path) -> Iterator[Result]:
    """`u8_<width>x<height>_size<n>`: every fourth pixel of the working image."""
    with np.load(path) as golden:
        for name in golden:
            match = re.fullmatch(r"u8_(\d+x\d+)_size(\d+)", name)
            image = source_image(match[1]) if match else None
            if match is None or image is None:
                yield Skipped(path.name, name, "no such image can be made")
                continue
            working = resize_reference(image, planned(image, {"size": int(match[2])}))
            yield equal(path.name, name, working[::4, ::4], golden[name])


def planned(image: np.ndarray, settings: dict[str, Any]) -> ImagePlan:
    """The plan of an image by the settings of a case."""
    rest = {key: value for key, value in settings.items() if key != "size"}
    return plan_image(image.shape[1], image.shape[0], settings["size"], **rest)


@lru_cache(maxsize=1)  # the cases of one image follow each other
def source_image(tag: str) -> np.ndarray | None:
    """The image (H, W, 3) uint8 that a tag stands for, by way of a PNG file where that matters; None for another tag."""
    match = TAG.fullmatch(tag)
    if match is None:
        return None
    width, height = int(match["width"]), int(match["height"])
    if match["turn"] is None and match["mode"] is None:
        return procedural_image(f"pre{width}x{height}", height, width)
    picture, exif = Image.fromarray(procedural_image("modes", height, width)), Image.Exif()
    if match["mode"]:
        picture = picture.convert(match["mode"])
    else:
        exif[ORIENTATION] = int(match["turn"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.png"
        picture.save(file, exif=exif)
        return read_image(file)


def _wrong_sizes(plan: ImagePlan, case: dict[str, Any]) -> float:
    """How many of the recorded sizes differ: resized, filter, crop, output."""
    (x0, y0), (width, height) = plan.offset, plan.out
    found = [list(plan.resized), plan.window.name, [x0, y0, x0 + width, y0 + height], [height, width]]
    recorded = [case[key] for key in ("resized_wh", "filter", "crop_xyxy", "out_hw")]
    return float(sum(ours != theirs for ours, theirs in zip(found, recorded, strict=True)))


def _check_pixels(file: str, name: str, working: np.ndarray, case: dict[str, Any], same_pillow: bool) -> Iterator[Result]:
    if same_pillow:
        digest = hashlib.sha256(working.tobytes()).hexdigest()[:16]
        yield Check(file, name, "wrong pixels", float(digest != case["sha256"]), 0.0)
    else:
        difference = np.abs(working.mean(axis=(0, 1)) - case["mean_chw"]).max()
        yield Check(file, name, "mean, grey levels", float(difference), MEAN_TOLERANCE)
    mean = normalize(torch.from_numpy(working)[None])[0].double().mean().item()
    yield Check(file, name, "tensor's mean", abs(mean - case["tensor_mean"]), TENSOR_TOLERANCE if same_pillow else MEAN_TOLERANCE)
