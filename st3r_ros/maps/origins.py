# SPDX-License-Identifier: Apache-2.0
"""Where the images of a map's keyframes come from, as map.json has it; docs/map_format.md describes the fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.types import Keyframe

MAX_SOURCE = 8192


@dataclass(frozen=True)
class Origin:
    """source, lens: as in `Frame`."""

    source: str
    lens: Camera | None = None


def origins_of(keyframes: Iterable[Keyframe]) -> dict[int, Origin]:
    """By the keyframes' ids; without those that are not known."""
    return {k.id: Origin(k.source[:MAX_SOURCE], k.lens) for k in keyframes if k.source or k.lens is not None}


def write_origins(origins: Mapping[int, Origin]) -> dict[str, Any]:
    """The fields `lenses` and `images` of map.json; none without origins."""
    if not origins:
        return {}
    lenses = list(dict.fromkeys(origin.lens for origin in origins.values() if origin.lens is not None))
    images = [
        {"keyframe": keyframe_id, "source": origin.source} | ({} if origin.lens is None else {"lens": lenses.index(origin.lens)})
        for keyframe_id, origin in origins.items()
    ]
    return {"lenses": [_lens_values(lens) for lens in lenses], "images": images}


def read_origins(values: Mapping[str, Any]) -> dict[int, Origin]:
    """The origins that the fields of a map.json tell; none where it has no such fields.

    Raises:
        ValueError: what is wrong, as part of a sentence.
    """
    try:
        lenses = [_lens(lens) for lens in values.get("lenses", [])]
        images = values.get("images", [])
        origins = {int(image["keyframe"]): _origin(image, lenses) for image in images}
    except (TypeError, KeyError, IndexError, AttributeError, OverflowError, ValueError, CalibrationError) as error:
        raise ValueError(f"'lenses' or 'images' that are not as docs/map_format.md has them ({str(error)[:200]})") from error
    return origins


def _origin(image: Any, lenses: list[Camera]) -> Origin:
    source, lens = image["source"], image.get("lens")
    if not isinstance(source, str) or len(source) > MAX_SOURCE:
        raise ValueError("a source that is no text")
    if lens is None:
        return Origin(source)
    if type(lens) is not int or lens < 0:
        raise ValueError("a lens that is no index")
    return Origin(source, lenses[lens])


def _lens_values(lens: Camera) -> dict[str, Any]:
    return {
        "width": lens.width,
        "height": lens.height,
        "K": lens.K.ravel().tolist(),
        "distortion_model": lens.distortion_model,
        "D": lens.distortion.tolist(),
    }


def _lens(values: Any) -> Camera:
    K = np.array(values["K"], np.float64).reshape(3, 3)
    D = np.array(values["D"], np.float64)
    return Camera(values["width"], values["height"], K, distortion_model=values["distortion_model"], distortion=D)
