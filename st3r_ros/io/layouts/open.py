# SPDX-License-Identifier: Apache-2.0
"""Finds the sequence of a folder: in it, below it, or above it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from st3r_ros.errors import InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import Calibration
from st3r_ros.io.layouts import colmap, dso, euroc, folder, kitti, nerfstudio, scannet, sevenscenes, tum
from st3r_ros.io.layouts.recording import Layout, ListedSequence, Recording, Request, counted, natural
from st3r_ros.io.sequence import Selection

LAYOUTS = (
    tum.LAYOUT,
    euroc.LAYOUT,
    kitti.LAYOUT,
    kitti.RAW_LAYOUT,
    dso.LAYOUT,
    sevenscenes.LAYOUT,
    scannet.LAYOUT,
    nerfstudio.LAYOUT,
    colmap.LAYOUT,
    folder.LAYOUT,
)
"""The first layout that fits a folder is used; plain images come last."""

_LEVELS_UP, _LEVELS_DOWN = 3, 4
_MAX_FOLDERS = 20_000
_NAMED = 12


@dataclass(frozen=True)
class Found:
    """A folder of a layout, and the image folders of its cameras."""

    layout: Layout
    root: Path
    cameras: dict[str, Path]


def open_folder(
    path: Path,
    calibration: Camera | Calibration | None = None,
    selection: Selection | None = None,
    *,
    fps: float | None = None,
    camera: str | None = None,
    rectified: str = "auto",
) -> ListedSequence:
    """The sequence that a folder holds: the folder itself, a folder above the images, or one inside of a data set.

    calibration: instead of the one in the folder. fps: of the images, instead of the folder's times.
    camera: which of several cameras, such as cam1; the first one if None. rectified: whether the images are: auto, yes or no.

    Raises:
        InputError: no such folder, no images in it, several sequences below it, no such camera, or fps is not positive.
        CalibrationError: the calibration in the folder cannot be used.
    """
    if not path.is_dir():
        raise InputError(f"There is no folder '{path}'.")
    if fps is not None and not 0 < fps < 1e6:
        raise InputError(f"fps is {fps}; it must be a positive number of frames per second.")
    found = _around(path)
    beside: list[Path] = []
    if found is None:
        found, beside = _below(path)
    name = _choose(found, camera)
    recording = found.layout.read(found.root, name, Request(fps, calibration))
    folder = "/".join(found.cameras[name].resolve().parts[-2:])
    title, kind = _name(found, name, path), found.layout.kind
    sequence = ListedSequence(title, kind, recording, selection or Selection(), folder=folder, rectified=rectified)
    sequence.origin = _origin(found, name, recording)
    sequence.notes = (*sequence.notes, *recording.truth.notes, *recording.notes, *_left_out(found, name, beside))
    return sequence


def is_plain_folder(path: Path) -> bool:
    """Whether images lie in a folder itself, without any list of them."""
    found = find_layout(path)
    return found is not None and found.layout is folder.LAYOUT


def find_layout(path: Path) -> Found | None:
    """The layout that a folder itself has."""
    for layout in LAYOUTS:
        cameras = dict(layout.cameras(path))
        if cameras:
            return Found(layout, path, cameras)
    return None


def _around(path: Path) -> Found | None:
    """The layout of the folder, or the one around it that has its images in or below the folder."""
    plain = None
    for here in dict.fromkeys((Path(os.path.abspath(path)), path.resolve())):  # a link stands for both of its places
        found = _around_place(here)
        if found is not None and found.layout is not folder.LAYOUT:
            return found
        plain = plain or found
    return plain


def _around_place(here: Path) -> Found | None:
    plain = None
    for root in (here, *list(here.parents)[:_LEVELS_UP]):
        try:
            found = find_layout(root)
        except (OSError, InputError):
            if root == here:
                raise
            continue  # what lies around the folder need not be a sequence
        if found is None:
            continue
        if found.layout is folder.LAYOUT:
            plain = plain or (found if root == here else None)
            continue
        inside = {name: images for name, images in found.cameras.items() if root == here or _is_below(images, here)}
        if inside:
            return Found(found.layout, root, inside)
    return plain


def _is_below(images: Path, folder: Path) -> bool:
    return folder in (Path(os.path.abspath(images)), *Path(os.path.abspath(images)).parents)


def _below(path: Path) -> tuple[Found, list[Path]]:
    """The only sequence below a folder, and the folders of depth images or masks that were passed over.

    Raises InputError when there is none, or there are several.
    """
    beside: list[Path] = []
    found = list(_search(path, beside))
    if len(found) > 1:
        names = [str(item.root.relative_to(path)) for item in found]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise InputError(
            f"'{path}' holds {len(names)} sequences: {', '.join(names[:_NAMED])}{more}. Select one: '{path / names[0]}'."
        )
    if not found:
        folder.images_in(path)  # which says what there is instead
    return found[0], beside


def _search(path: Path, beside: list[Path]) -> Iterator[Found]:
    """The sequences below a folder, not those inside of others. Folders of depth images or masks are added to `beside`."""
    waiting = deque([(path, 0)])
    for _ in range(_MAX_FOLDERS):
        if not waiting:
            return
        parent, level = waiting.popleft()
        for child in sorted((item for item in parent.iterdir() if item.is_dir()), key=lambda item: natural(item.name)):
            if child.name.startswith(".") or not os.access(child, os.R_OK | os.X_OK):
                continue
            if folder.holds_no_colour(child):
                beside.append(child)
                continue
            found = find_layout(child)
            if found is not None:
                yield found
            elif level + 1 < _LEVELS_DOWN:
                waiting.append((child, level + 1))


def _choose(found: Found, camera: str | None) -> str:
    if camera is None:
        return next(iter(found.cameras))
    if camera not in found.cameras:
        named = ", ".join(name for name in found.cameras if name)
        there_is = f"there are {named}" if named else "there is only one"
        raise InputError(f"'{found.root}' has no camera '{camera}'; {there_is}.")
    return camera


def _name(found: Found, camera: str, path: Path) -> str:
    """What a person calls the sequence: MH_01 rather than mav0, with the camera where there are several."""
    root = found.root.resolve()
    name = root.parent.name if root.name == "mav0" else root.name
    return f"{name}/{camera}" if len(found.cameras) > 1 else name


def _origin(found: Found, camera: str, recording: Recording) -> str:
    others = [name for name in found.cameras if name != camera]
    choice = f" of {camera}" + (f" (?camera={others[0]} for another: {', '.join(others)})" if others else "") if camera else ""
    parts = [
        counted(len(recording.images), "image") + choice,
        f"stamps: {recording.stamps_from}",
        f"calibration: {recording.calibration_from or 'none'}",
        f"true poses: {recording.truth.source or 'none'}",
    ]
    return f"{found.root} is {found.layout.title}: {'; '.join(parts)}."


def _left_out(found: Found, camera: str, beside: list[Path]) -> tuple[str, ...]:
    """Files and folders next to the images that are not used."""
    if beside:
        named = ", ".join(item.name for item in beside[:_NAMED])
        return (f"Left out: folders of depth images or masks ({len(beside)}: {named}).", *_left_out(found, camera, []))
    if found.layout is tum.LAYOUT or found.layout is colmap.LAYOUT:
        return ()
    folder_of_images = found.cameras[camera]
    if not folder_of_images.is_dir():
        return ()
    return tuple(f"Left out: {phrase}." for phrase in folder.left_out(folder_of_images, folder.images_in(folder_of_images)))
