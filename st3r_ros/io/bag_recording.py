# SPDX-License-Identifier: Apache-2.0
"""Reads the storage files of a bag as one stream of messages."""

from __future__ import annotations

import heapq
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path

import yaml

from st3r_ros.errors import FrameError, InputError, MissingDependencyError
from st3r_ros.io.bag_mcap import McapStorage
from st3r_ros.io.bag_ros1 import Ros1Storage
from st3r_ros.io.bag_sqlite import SqliteStorage, open_database
from st3r_ros.io.bag_storage import Channel, Message, Storage
from st3r_ros.io.image_file import IMAGE_SUFFIXES

STORAGE_SUFFIXES = (".mcap", ".db3", ".bag")
_PACKED = (".zstd", ".zst")
_METADATA = "metadata.yaml"
_ZSTD, _MCAP, _SQLITE, _ROS1 = b"\x28\xb5\x2f\xfd", b"\x89MCAP0\r\n", b"SQLite format 3\0", b"#ROSBAG V2.0\n"


def is_bag(path: Path) -> bool:
    """Whether a path is a bag: a storage file, or a folder with storage files or the metadata of a bag in it."""
    if path.is_dir():
        return bool(_storage_files(path) or _listed(path))
    return is_storage(path)


def is_storage(path: Path) -> bool:
    """Whether a file's name is that of a storage file, packed by zstd or not."""
    return _unpacked_name(path).endswith(STORAGE_SUFFIXES)


class Recording:
    """A bag: one storage file, or a folder of them.

    `metadata.yaml` is not needed: its edits, gaps and contradictions do not matter. Files are joined by time, and each is open
    (and unpacked) only as long as it is read.

    counts: the messages of each channel.

    Raises:
        InputError: there is no such bag, or none of its files can be read.
        MissingDependencyError: a library that reads bags is not installed.
    """

    def __init__(self, path: Path) -> None:
        _check_libraries()
        if not path.exists():
            raise InputError(f"There is no bag '{path}'.")
        self.counts: Counter[Channel] = Counter()
        self._missing: list[str] = []
        self._unpacked: _Unpacked | None = None
        files = [path]
        if path.is_dir():
            files = _storage_files(path)
            listed = {_unpacked_name(Path(name)): name for name in _listed(path)}
            if len(files) < len(listed):  # else they were renamed
                self._missing = sorted(listed[name] for name in set(listed) - {_unpacked_name(file) for file in files})
        if not files:
            named = f"; {_METADATA} lists {', '.join(self._missing)}" if self._missing else ""
            raise InputError(f"The bag '{path}' has no storage file ({', '.join(STORAGE_SUFFIXES)}){named}.")
        self._starts: dict[Path, int] = {}
        problems = []
        for file in files:
            try:
                with self._storage(file) as storage:
                    self.counts.update(storage.counts)
                    self._starts[file] = storage.start_ns
            except InputError as error:
                problems.append(str(error))
                self._starts[file] = 0
        if len(problems) == len(files):
            raise InputError(f"The bag '{path}' cannot be read: {problems[0]}")
        if not self.counts:  # the reason, where there is one
            for item in self.messages([]):
                raise InputError(f"The bag '{path}' cannot be read: {item}")

    def messages(self, topics: Collection[str]) -> Iterator[Message | FrameError]:
        """The messages of some topics by time of recording, with a FrameError in place of what cannot be read."""
        streams = [self._messages_of(file, topics) for file in self._starts]
        for _, item in heapq.merge(*streams, key=lambda timed: timed[0]):
            if item is not None:
                yield item
        for name in self._missing:
            yield FrameError(f"'{name}' is missing, but {_METADATA} lists it.")

    @contextmanager
    def _storage(self, file: Path) -> Iterator[Storage]:
        with ExitStack() as stack:
            try:
                if _first_bytes(file).startswith(_ZSTD):
                    if self._unpacked is None or self._unpacked.packed != file:
                        self._unpacked = _Unpacked(file)
                    unpacked = self._unpacked  # kept while it is read
                    yield _open(unpacked.path, stack)
                else:
                    yield _open(file, stack)
            except OSError as error:
                raise InputError(f"'{file.name}' cannot be read: {error.strerror or error}.") from error

    def _messages_of(self, file: Path, topics: Collection[str]) -> Iterator[tuple[int, Message | FrameError | None]]:
        """With the times of recording. The first is empty, so that the file is opened when its time has come."""
        last_ns = self._starts[file]
        yield last_ns, None
        try:
            with self._storage(file) as storage:
                for message in storage.messages(topics):
                    last_ns = max(last_ns, message.recorded_ns)
                    yield last_ns, message
        except FrameError as error:
            yield last_ns, FrameError(f"{error} The rest of this file is lost.")
        except InputError as error:
            yield last_ns, FrameError(str(error))


def _open(path: Path, stack: ExitStack) -> Storage:
    """A storage file, which is closed with the stack. Raises InputError when it is empty, damaged at its beginning, or no bag."""
    begin = _first_bytes(path)
    if not begin.strip(b"\0"):
        raise InputError(f"'{path.name}' is empty.")
    if begin.startswith(_MCAP):
        return McapStorage(stack.enter_context(path.open("rb")), path.name)
    if begin.startswith(_SQLITE):
        return SqliteStorage(stack.enter_context(open_database(path)), path.name)
    if begin.startswith(_ROS1):
        return Ros1Storage(path, stack)
    raise InputError(f"'{path.name}' is not a bag file: it begins with {begin[:8]!r}, not as mcap, SQLite or ROS 1 bags do.")


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


class _Unpacked:
    """A file compressed with zstd, decompressed as far as possible into a temporary folder that goes with its last reader."""

    def __init__(self, packed: Path) -> None:
        self.packed = packed
        folder = tempfile.mkdtemp(prefix="st3r_bag_")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = Path(folder) / packed.stem
        try:
            _unpack(packed, self.path)
        except OSError as error:
            raise InputError(
                f"'{packed.name}' cannot be unpacked into {tempfile.gettempdir()}: {error.strerror}. Set TMPDIR to a folder with "
                f"more space, or unpack the file with: zstd -d '{packed}'"
            ) from error


def _unpack(packed: Path, target: Path) -> None:
    import zstandard

    # A truncated end is noticed by the reader of the file.
    with packed.open("rb") as source, target.open("wb") as file, suppress(zstandard.ZstdError):
        shutil.copyfileobj(zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True), file, 1 << 20)


def _check_libraries() -> None:
    for name in ("rosbags", "mcap", "zstandard", "lz4"):
        try:
            import_module(name)
        except ImportError as error:
            raise MissingDependencyError(
                f"Reading a bag needs the libraries rosbags and mcap ({name} is not installed); "
                "install them with: pip install rosbags mcap"
            ) from error


def _storage_files(folder: Path) -> list[Path]:
    """Those of a folder; one that lies there packed and unpacked, as `ros2 bag play` leaves it, is taken unpacked. A bag of ROS 1
    among images is not meant."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    if any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        files = [file for file in files if not _unpacked_name(file).endswith(".bag")]
    files = [file for file in files if is_storage(file)]
    names = {file.name for file in files}
    return [file for file in files if file.name == _unpacked_name(file) or _unpacked_name(file) not in names]


def _unpacked_name(file: Path) -> str:
    return file.stem if file.suffix in _PACKED else file.name


def _listed(folder: Path) -> set[str]:
    """The files that metadata.yaml names; none where it does not tell."""
    try:
        metadata = yaml.safe_load((folder / _METADATA).read_text(encoding="utf-8"))
        names = metadata["rosbag2_bagfile_information"]["relative_file_paths"]
        return {Path(name).name for name in names}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return set()
