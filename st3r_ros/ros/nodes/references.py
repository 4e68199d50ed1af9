# SPDX-License-Identifier: Apache-2.0
"""References on disk, so that they survive a restart: for each a small JSON file, which names a PNG of the image.

Damaged files are reported and kept. The folder is untrusted input; nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from st3r_ros.errors import ConfigError, FrameError, InputError, St3rError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.atomic import write_file
from st3r_ros.io.decoder_lines import DecoderLines
from st3r_ros.io.image_file import read_image
from st3r_ros.io.whole_image import check_whole
from st3r_ros.types import Frame

FORMAT, VERSION = "st3r_ros reference", 1
MAX_BYTES = 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_MM = 1000.0


@dataclass(frozen=True, eq=False)
class StoredReference:
    """A picture that poses are relative to. T_ref_cam: of its camera in the frame of the answers, None when it is that frame.

    depth: (H, W) float32 metres of each pixel, 0 where it is not known; None without.
    """

    name: str
    frame: Frame
    T_ref_cam: SE3 | None = None
    depth: np.ndarray | None = None


def check_name(name: str) -> str:
    """The name of a reference, which is also that of its files.

    Raises:
        ConfigError: it cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"The name {name[:80]!r} is not a valid name of a reference; use at most 64 letters, digits, - and _, "
            "beginning with a letter or digit."
        )
    return name


class ReferenceStore:
    """The references kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, reference: StoredReference) -> None:
        """Keep a reference, in place of one of the same name: at any moment the old one or the new one is whole.

        Raises:
            OutputError: it cannot be written.
        """
        old = self._pictures(reference.name)
        image = self._write_png(reference.name, cv2.cvtColor(reference.frame.image, cv2.COLOR_RGB2BGR))
        depth = None
        if reference.depth is not None:
            millimetres = np.rint(reference.depth * _MM)
            millimetres = np.where(millimetres < 2**16, millimetres, 0)  # further than 65 m: not known
            depth = self._write_png(reference.name, millimetres.astype(np.uint16))
        content = _content(reference, image, depth)
        write_file(self._manifest(reference.name), (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
        self._delete(old - {image, depth})

    def remove(self, name: str) -> None:
        """Removes a reference, if it exists."""
        old = self._pictures(name)
        self._manifest(name).unlink(missing_ok=True)
        self._delete(old)

    def load(self) -> tuple[list[StoredReference], list[str]]:
        """The references, by name, and one sentence about each file that cannot be used."""
        found, problems = [], []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(self._read(path))
            except St3rError as error:
                problems.append(str(error))
        return found, problems

    def _read(self, path: Path) -> StoredReference:
        try:
            content = _read_json(path)
            name = content["name"]
            if content.get("format") != FORMAT or path.name != f"{name}.json":
                raise ValueError("it was not written by st3r_ros under this name")
            if content["version"] != VERSION:
                raise ValueError(f"it has the version {content['version']!r}, this program reads {VERSION}")
            stamp_ns, picture, depth = content["stamp_ns"], content["image"], content["depth"]
            if type(stamp_ns) is not int:
                raise ValueError(f"its stamp_ns is {stamp_ns!r}")
            frame = Frame(0, stamp_ns, read_image(self._picture(picture)), _camera(content["camera"]))
            metres = None if depth is None else _read_depth(self._picture(depth))
            return StoredReference(check_name(name), frame, _pose(content["pose"]), metres)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError, OSError, St3rError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise InputError(f"The reference in '{path}' cannot be used: {reason}.") from error

    def _manifest(self, name: str) -> Path:
        return self._folder / f"{check_name(name)}.json"

    def _picture(self, name: Any) -> Path:
        if not isinstance(name, str) or Path(name).name != name or not (self._folder / name).is_file():
            raise ValueError(f"its picture {name!r} is missing")
        return self._folder / name

    def _write_png(self, name: str, pixels: np.ndarray) -> str:
        """Write pixels under a name that no other content has, and return it."""
        data = cv2.imencode(".png", pixels)[1].tobytes()
        file = f"{name}-{hashlib.sha256(data).hexdigest()[:12]}.png"
        write_file(self._folder / file, data)
        return file

    def _pictures(self, name: str) -> set[str | None]:
        """The pictures that a reference has now."""
        try:
            content = _read_json(self._manifest(name))
        except (ValueError, RecursionError, OSError):
            return set()
        return {picture for key in ("image", "depth") if isinstance(picture := content.get(key), str)}

    def _delete(self, pictures: set[str | None]) -> None:
        for picture in pictures:
            with suppress(OSError, ValueError):
                self._picture(picture).unlink()


def _content(reference: StoredReference, image: str, depth: str | None) -> dict[str, Any]:
    camera, T = reference.frame.camera, reference.T_ref_cam
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": reference.name,
        "stamp_ns": reference.frame.stamp_ns,
        "image": image,
        "depth": depth,
        "camera": None
        if camera is None
        else {
            "width": camera.width,
            "height": camera.height,
            "K": camera.K.tolist(),
            "distortion_model": camera.distortion_model,
            "distortion": camera.distortion.tolist(),
        },
        "pose": None if T is None else {"position": T.translation.tolist(), "quaternion_xyzw": T.quaternion_xyzw.tolist()},
    }


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise ValueError("it is no small file")
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("it holds no keys")
    return content


def _camera(values: dict[str, Any] | None) -> Camera | None:
    return None if values is None else Camera(**{**values, "distortion": np.array(values["distortion"], dtype=np.float64)})


def _pose(values: dict[str, Any] | None) -> SE3 | None:
    if values is None:
        return None
    return SE3.from_quaternion_xyzw(np.array(values["quaternion_xyzw"], float), np.array(values["position"], float))


def _read_depth(path: Path) -> np.ndarray:
    data = path.read_bytes()
    check_whole(data)
    with DecoderLines():
        millimetres = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if millimetres is None or millimetres.dtype != np.uint16 or millimetres.ndim != 2:
        raise FrameError(f"'{path}' is not a 16-bit depth image.")
    return millimetres.astype(np.float32) / np.float32(_MM)
