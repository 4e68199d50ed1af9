# SPDX-License-Identifier: Apache-2.0
"""Reads the storage files of a bag as one stream of messages."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from st3r_ros.errors import FrameError, InputError, MissingDependencyError
from st3r_ros.io.bag_copy import BagCopy
from st3r_ros.io.bag_mcap import McapStorage
from st3r_ros.io.bag_metadata import METADATA, Metadata, read_metadata
from st3r_ros.io.bag_ros1 import open_ros1
from st3r_ros.io.bag_sqlite import SqliteStorage, journals_of, open_database
from st3r_ros.io.bag_storage import Channel, Contents, Message, Storage
from st3r_ros.io.image_file import IMAGE_SUFFIXES

STORAGE_SUFFIXES = (".mcap", ".db3", ".bag")
_PACKED, _RECORDING = (".zstd", ".zst"), ".active"
_ZSTD, _MCAP, _SQLITE, _ROS1 = b"\x28\xb5\x2f\xfd", b"\x89MCAP0\r\n", b"SQLite format 3\0", b"#ROSBAG V2.0\n"


def is_bag(path: Path) -> bool:
    """Whether a path is a bag: a storage file, or a folder with storage files or the metadata of a bag in it."""
    if not path.is_dir():
        return is_storage(path)
    return bool(_storage_files(path) or read_metadata(path).files or [file.name for file in path.iterdir()] == [METADATA])


def is_storage(path: Path) -> bool:
    """Whether a file's name is that of a storage file, packed by zstd or not."""
    return _plain_name(path).endswith(STORAGE_SUFFIXES)


class BagRecording:
    """A bag: one storage file, or a folder of them.

    `metadata.yaml` is not needed: its edits, gaps and contradictions do not matter. Files are joined by time, and each is open
    (and unpacked) only as long as it is read.

    counts: the messages of each channel. notes: sentences on what is not used. problems: sentences on what is damaged or missing,
    as far as it is known before the messages are read.

    Raises:
        InputError: there is no such bag, or none of its files can be read.
        MissingDependencyError: a library that reads bags is not installed.
    """

    def __init__(self, path: Path) -> None:
        _check_libraries()
        if not path.exists():
            raise InputError(f"There is no bag '{path}'.")
        self._metadata = read_metadata(path) if path.is_dir() else Metadata()
        self.notes = (self._metadata.problem,) if self._metadata.problem else ()
        self._copy: BagCopy | None = None
        files = _storage_files(path) if path.is_dir() else [[path]]
        self._missing = self._listed_but_missing([file for same in files for file in same], len(files))
        if not files:
            lists = f"; {METADATA} lists {', '.join(self._missing)}" if self._missing else ""
            why = f" {self._metadata.problem}" if self._metadata.problem else ""
            raise InputError(f"The bag '{path}' has no storage file ({', '.join(STORAGE_SUFFIXES)}){lists}.{why}")
        self._files: dict[Path, Contents] = dict(self._best(same) for same in files)
        self.problems = [contents.problem for contents in self._files.values() if contents.problem]
        self.counts: Counter[Channel] = Counter()
        for contents in self._files.values():
            self.counts.update(contents.counts)
        if not self.counts and self.problems:
            raise InputError(f"The bag '{path}' cannot be read: {self.problems[0]}")

    def _listed_but_missing(self, files: list[Path], count: int) -> list[str]:
        listed = {_plain_name(Path(name)): name for name in self._metadata.files}
        if count >= len(listed):  # else they were renamed
            return []
        return sorted(listed[name] for name in set(listed) - {_plain_name(file) for file in files})

    def _best(self, same: list[Path]) -> tuple[Path, Contents]:
        """Of the packed and the unpacked form of a file the first whole one, else the one with the most messages."""
        found: list[tuple[Path, Contents]] = []
        for file in same:
            try:
                with self._storage(file) as storage:
                    found.append((file, storage.contents()))
            except InputError as error:
                found.append((file, Contents(Counter(), 0, str(error))))
            if not found[-1][1].problem:
                return found[-1]
        return max(found, key=lambda of: of[1].counts.total())

    def messages(self, topics: Collection[str]) -> Iterator[Message | FrameError]:
        """The messages of some topics by time of recording, with a FrameError in place of what cannot be read."""
        streams = [self._messages_of(file, topics) for file in self._files]
        read: Counter[str] = Counter()
        whole = not self._missing
        for _, item in heapq.merge(*streams, key=lambda timed: timed[0]):
            if item is not None:
                yield item
            if isinstance(item, Message):
                read[item.channel.topic] += 1
            elif item is not None:
                whole = False
        for name in self._missing:
            yield FrameError(f"'{name}' is missing, but {METADATA} lists it.")
        listed = {topic: self._metadata.counts.get(topic, 0) for topic in topics}
        if not whole and any(listed[topic] > read[topic] for topic in topics):
            yield FrameError(f"{METADATA} lists more messages: {_shares(read, listed)} were read.")

    @contextmanager
    def _storage(self, file: Path) -> Iterator[Storage]:
        with ExitStack() as stack:
            try:
                journals = journals_of(file)
                if not journals and not _first_bytes(file).startswith(_ZSTD):
                    yield _open(file, file.name, stack)
                else:
                    if self._copy is None or self._copy.original != file:
                        self._copy = BagCopy(file, journals)
                    copy = self._copy  # kept while it is read
                    yield _open(copy.path, file.name, stack)
            except OSError as error:
                raise InputError(f"'{file.name}' cannot be read: {error.strerror or error}.") from error

    def _messages_of(self, file: Path, topics: Collection[str]) -> Iterator[tuple[int, Message | FrameError | None]]:
        """With the times of recording. The first is empty, so that the file is opened when its time has come."""
        contents = self._files[file]
        last_ns = contents.start_ns
        yield last_ns, None
        read: Counter[str] = Counter()
        try:
            with self._storage(file) as storage:
                for message in storage.messages(topics):
                    last_ns = max(last_ns, message.recorded_ns)
                    read[message.channel.topic] += 1
                    yield last_ns, message
        except FrameError as error:
            there: Counter[str] = Counter()
            for channel, count in contents.counts.items():
                if channel.topic in topics:
                    there[channel.topic] += count
            yield last_ns, FrameError(f"{error} {_shares(read, there)} were read." if there else str(error))
        except InputError as error:
            yield last_ns, FrameError(str(error))


def _shares(read: Mapping[str, int], there: Mapping[str, int]) -> str:
    """How many messages of each topic were read; of how many, where that is known and they were not all."""
    of = {topic: f" of {there[topic]}" if there[topic] > read[topic] else "" for topic in there}
    return ", ".join(f"{read[topic]}{of[topic]} messages on {topic}" for topic in sorted(there))


def _open(path: Path, name: str, stack: ExitStack) -> Storage:
    """A storage file, which is closed with the stack. Raises InputError when it is empty, damaged at its beginning, or no bag."""
    begin = _first_bytes(path)
    if not begin:
        raise InputError(f"'{name}' is empty.")
    if not begin.strip(b"\0"):
        raise InputError(f"'{name}' begins with zeros: it was not written, or its beginning is lost.")
    if begin.startswith(_MCAP):
        return McapStorage(stack.enter_context(path.open("rb")), name)
    if begin.startswith(_SQLITE):
        return SqliteStorage(stack.enter_context(open_database(path)), path, name)
    if begin.startswith(_ROS1):
        return open_ros1(path, name, stack)
    if any(magic.startswith(begin) for magic in (_MCAP, _SQLITE, _ROS1)):
        raise InputError(f"'{name}' was cut off after {len(begin)} bytes, before its first message.")
    raise InputError(f"'{name}' is not a bag file: it begins with {begin[:8]!r}, not as mcap, SQLite or ROS 1 bags do.")


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _check_libraries() -> None:
    for name in ("rosbags", "mcap", "zstandard", "lz4"):
        try:
            import_module(name)
        except ImportError as error:
            raise MissingDependencyError(
                f"Reading a bag needs the libraries rosbags and mcap ({name} is not installed); "
                "install them with: pip install rosbags mcap"
            ) from error


def _storage_files(folder: Path) -> list[list[Path]]:
    """Those of a folder. One that lies there in several forms (packed and unpacked, as `ros2 bag play` leaves it) is one, the
    unpacked form first. A bag of ROS 1 among images is not meant."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    if any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        files = [file for file in files if not _plain_name(file).endswith(".bag")]
    forms: dict[str, list[Path]] = {}
    for file in sorted(filter(is_storage, files), key=lambda file: file.name != _plain_name(file)):
        forms.setdefault(_plain_name(file), []).append(file)
    return [forms[name] for name in sorted(forms)]


def _plain_name(file: Path) -> str:
    """The name that a file has unpacked, and when its recording was stopped."""
    return file.stem if file.suffix in (*_PACKED, _RECORDING) else file.name
