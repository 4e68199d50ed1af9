# SPDX-License-Identifier: Apache-2.0
"""ROS 2 bags (mcap and sqlite3), read with the `rosbags` library; no ROS is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st3r_ros.errors import FrameError, InputError, MissingDependencyError, St3rError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import camera_from_info
from st3r_ros.io.image_encoding import decode_compressed, decode_image
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, StampedImage
from st3r_ros.io.stamps import NANOSECONDS

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

STORAGE_SUFFIXES = (".mcap", ".db3")

_IMAGE, _COMPRESSED, _INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"


def is_bag(path: Path) -> bool:
    """Whether a path is a bag: a storage file, or a folder with `metadata.yaml` or storage files in it."""
    if path.is_dir():
        return (path / "metadata.yaml").exists() or bool(_storage_files(path))
    return path.suffix in STORAGE_SUFFIXES


class BagSequence(ImageSequence):
    """The images of one topic of a bag, raw or compressed, in the order they were recorded.

    Stamps are those of the headers; a header without one is given the time of recording. The camera is the first message of the
    image topic's sibling `camera_info`, unless one is given. A bag whose recording crashed (no metadata.yaml) is read as far as
    it goes; damage in the middle ends the sequence and is noted in `skipped`.

    topic: may be left out where the bag has one image topic only.

    Raises:
        InputError: no bag, a damaged one, no image topic, no such topic, or several topics to choose from.
        CalibrationError: the camera_info of the topic contradicts itself.
        MissingDependencyError: the rosbags library is not installed.
    """

    kind = "bag"

    def __init__(
        self,
        path: Path | str,
        camera: Camera | None = None,
        selection: Selection | None = None,
        topic: str | None = None,
    ) -> None:
        self._path = path = Path(path)
        with _open_bag(path) as reader:
            types = {connection.topic: connection.msgtype for connection in reader.connections}
            self.topic = _choose_topic(path, types, topic)
            with _reported(path):
                total = sum(connection.msgcount for connection in reader.connections if connection.topic == self.topic)
                info = _first_info(reader, self.topic) if camera is None else None
        if not total:
            raise InputError(f"The topic {self.topic} of the bag '{path}' holds no messages.")
        if info is not None:
            camera = camera_from_info(info)
        super().__init__(path.resolve().name, camera=camera, selection=selection or Selection(), total=total)

    def _entries(self) -> Iterator[Entry]:
        with _open_bag(self._path) as reader:
            connections = [connection for connection in reader.connections if connection.topic == self.topic]
            messages = reader.messages(connections=connections)
            index = 0
            while True:
                try:
                    with _reported(self._path):
                        connection, recorded_ns, raw = next(messages, (None, 0, b""))
                except InputError as error:
                    raise FrameError(f"After {index} images: {error} What follows is lost.") from error
                if connection is None:
                    return
                yield Entry(f"{self.topic} message {index}", partial(_load, reader, connection.msgtype, recorded_ns, raw))
                index += 1


def _load(reader: AnyReader, msgtype: str, recorded_ns: int, raw: bytes) -> StampedImage:
    try:
        message: Any = reader.deserialize(raw, msgtype)
    except Exception as error:  # rosbags reports damaged messages by many types of error
        raise FrameError(f"The message cannot be read: {error}.") from error
    stamp_ns = message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec
    if msgtype == _COMPRESSED:
        image = decode_compressed(message.data, message.format)
    else:
        image = decode_image(
            message.data,
            height=message.height,
            width=message.width,
            encoding=message.encoding,
            step=message.step,
            is_bigendian=bool(message.is_bigendian),
        )
    return StampedImage(stamp_ns or recorded_ns, image)


def _choose_topic(path: Path, types: dict[str, str], wanted: str | None) -> str:
    images = sorted(topic for topic, kind in types.items() if kind in (_IMAGE, _COMPRESSED))
    listed = ", ".join(images)
    if not images:
        others = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(types.items())) or "none at all"
        raise InputError(f"The bag '{path}' holds no images (sensor_msgs Image or CompressedImage); its topics: {others}.")
    if wanted is None and len(images) > 1:
        raise InputError(f"The bag '{path}' holds several image topics: {listed}; choose one with '{path}?topic={images[0]}'.")
    if wanted is not None and wanted not in images:
        raise InputError(f"The bag '{path}' has no image topic {wanted}; it has {listed}.")
    return wanted or images[0]


def _first_info(reader: AnyReader, topic: str) -> Any:
    """The first CameraInfo beside an image topic: /x/camera_info for /x/image_raw and for /x/image_raw/compressed."""
    parents = [topic.rsplit("/", 1)[0]]
    if topic.endswith("/compressed"):
        parents.insert(0, parents[0].rsplit("/", 1)[0])
    for parent in parents:
        connections = [c for c in reader.connections if c.topic == f"{parent}/camera_info" and c.msgtype == _INFO]
        for connection, _, raw in reader.messages(connections=connections) if connections else ():
            return reader.deserialize(raw, connection.msgtype)
    return None


@contextmanager
def _open_bag(path: Path) -> Iterator[AnyReader]:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise MissingDependencyError("Reading a bag needs the library rosbags; install it with: pip install rosbags") from error
    if not path.exists():
        raise InputError(f"There is no bag '{path}'.")
    whole = not path.is_dir() or (path / "metadata.yaml").exists()
    with _reported(path):
        reader = AnyReader([path] if whole else _storage_files(path), default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        reader.open()
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Anything that rosbags raises over a damaged bag, as one InputError."""
    try:
        yield
    except St3rError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"The bag '{path}' cannot be read: {reason}.") from error


def _storage_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in STORAGE_SUFFIXES)
