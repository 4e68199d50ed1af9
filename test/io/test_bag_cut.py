# SPDX-License-Identifier: Apache-2.0
"""Recordings that were cut off: a recorder that was killed, a disk that was full, a copy that broke off, a loss of power."""

import bz2
import shutil
import sqlite3
import struct
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="bags are read with the optional library rosbags")
pytest.importorskip("mcap", reason="bags are read with the optional library mcap")

import bag_files as bags
import zstandard
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rosbags.rosbag1 import Writer as Writer1
from rosbags.typesys import Stores, get_typestore
from sample_images import number_of, picture

from st3r_ros.errors import InputError
from st3r_ros.io import bag_copy
from st3r_ros.io.bag import BagSequence, is_bag
from st3r_ros.sequences import open_sequence

START, STEP = 1_700_000_000_000_000_000, 66_000_000
TOPIC, IMAGE = "/camera/image_raw", "sensor_msgs/msg/Image"
PICTURES = 12


def message(number: int) -> Any:
    """An image whose right part cannot be packed, so that the sizes of packed files grow evenly."""
    noise = np.random.default_rng(number).integers(0, 256, (32, 16, 3), np.uint8)
    return bags.image(START + number * STEP, np.concatenate([picture(number % PICTURES), noise], axis=1))


def serialized(number: int) -> bytes:
    return bytes(bags.STORE.serialize_cdr(message(number), IMAGE))


def write_mcap(path: Path, count: int = 8, *, attachment: int = 0, **options: Any) -> Path:
    with path.open("wb") as file:
        writer = Writer(file, **{"chunk_size": 12000, **options})
        writer.start(profile="ros2", library="test")
        channel = writer.register_channel(TOPIC, "cdr", writer.register_schema(IMAGE, "ros2msg", b""))
        for number in range(count):
            writer.add_message(channel, START + number * STEP, serialized(number), START)
            if attachment and number == count - 1:
                writer.add_attachment(START, START, "log", "text/plain", bytes(attachment))
        writer.finish()
    return path


def write_split(folder: Path, storage: str, files: int = 3, each: int = 2) -> list[Path]:
    """A recording in several files, with the metadata of all of them; the files."""
    folder.mkdir()
    written = []
    for part in range(files):
        numbers = range(each * part, each * (part + 1))
        bag = bags.write_bag(
            folder.parent / f"{folder.name}_part{part}", [(TOPIC, START + i * STEP, message(i)) for i in numbers], storage
        )
        file = next(file for file in bag.iterdir() if file.name != "metadata.yaml")
        written.append(Path(shutil.move(file, folder / f"drive_{part}{file.suffix}")))
    listed = "".join(f"  - {file.name}\n" for file in written)
    (folder / "metadata.yaml").write_text(
        f"rosbag2_bagfile_information:\n  version: 9\n  relative_file_paths:\n{listed}  topics_with_message_count:\n"
        f"  - topic_metadata:\n      name: {TOPIC}\n      type: {IMAGE}\n    message_count: {files * each}\n"
    )
    return written


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> dict[str, Path]:
    """A recording in several files, in each kind of storage; to be copied."""
    folders = {storage: tmp_path_factory.mktemp("split") / storage for storage in ("mcap", "sqlite3")}
    for storage, folder in folders.items():
        write_split(folder, storage)
    return folders


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def read(source: Path | str) -> tuple[list[int], list[str]]:
    """The numbers of the images that are read, and what is said of the others; nothing where the bag is refused."""
    try:
        sequence = open_sequence(str(source))
        numbers = [number_of(frame.image[:, :48]) for frame in sequence]
    except InputError as error:
        return [], [str(error)]
    return numbers, [item.reason for item in sequence.skipped]


def places(size: int, *more: int) -> list[int]:
    """Cuts at some even distances, and around places that matter."""
    around = {place + offset for place in more for offset in (-1, 0, 1)}
    return sorted(place for place in {*range(1, size, size // 12), *around} if 0 < place < size)


# mcap -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunks", [True, False])
def test_every_message_before_the_cut_of_an_mcap_is_read(tmp_path, compression, chunks):
    path = write_mcap(tmp_path / "a.mcap", compression=compression, use_chunking=chunks)
    whole = path.read_bytes()
    if chunks and compression != CompressionType.NONE:
        with path.open("rb") as file:
            summary = make_reader(file).get_summary()
        assert summary is not None and len(summary.chunk_indexes) == 4
        ends = [chunk.chunk_start_offset + chunk.chunk_length for chunk in summary.chunk_indexes for _ in range(2)]
    else:
        ends = [whole.index(serialized(number)) + len(serialized(number)) for number in range(8)]
    for place in places(len(whole), ends[0], ends[1], ends[-1]):
        path.write_bytes(whole[:place])
        numbers, reasons = read(path)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= sum(end <= place for end in ends)
        assert len(numbers) == 8 or "was cut off" in reasons[0]
        assert not numbers or len(numbers) == 8 or f" {len(numbers)} messages on {TOPIC} were read" in reasons[0]


@pytest.mark.parametrize("compression", [CompressionType.LZ4, CompressionType.ZSTD])
def test_the_beginning_of_a_packed_chunk_is_read(tmp_path, compression):
    path = write_mcap(tmp_path / "a.mcap", 120, compression=compression, chunk_size=10_000_000)
    cut(path, path.stat().st_size // 2)
    numbers, reasons = read(path)
    assert len(numbers) > 10 and numbers == [i % PICTURES for i in range(len(numbers))]
    assert "its last" in reasons[0] and "bytes are not a whole record" in reasons[0]


def test_an_attachment_that_was_cut_off_loses_no_message(tmp_path):
    path = write_mcap(tmp_path / "a.mcap", attachment=50_000)
    cut(path, path.stat().st_size - 20_000)
    numbers, reasons = read(path)
    assert numbers == list(range(8))
    assert "was cut off" in reasons[0]


@pytest.mark.parametrize("compression", list(CompressionType))
def test_zeros_after_a_loss_of_power_are_not_read_as_images(tmp_path, compression):
    path = write_mcap(tmp_path / "a.mcap", compression=compression)
    whole = path.read_bytes()
    for kept in (0.3, 0.55, 0.8):
        size = int(kept * len(whole))
        path.write_bytes(whole[:size] + bytes(len(whole) - size))
        numbers, reasons = read(path)
        assert numbers == list(range(len(numbers))) and 2 <= len(numbers) < 8
        assert "was cut off" in reasons[0]


@pytest.mark.parametrize("indexed", [True, False])
def test_chunks_after_a_damaged_one_are_read(tmp_path, indexed):
    path = write_mcap(tmp_path / "a.mcap", compression=CompressionType.ZSTD)
    data = bytearray(path.read_bytes())
    place = len(data) * 2 // 5
    data[place : place + 9] = b"disk error"[:9]
    path.write_bytes(data if indexed else data[:-20])
    numbers, reasons = read(path)
    assert numbers == [0, 1, 4, 5, 6, 7]
    assert "1 of its chunks" in reasons[0] and "cannot be unpacked" in reasons[0]
    assert not indexed or f"6 of 8 messages on {TOPIC} were read" in reasons[0]


# Several files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("kept", [0, 6, 60, 0.7])
@pytest.mark.parametrize("with_metadata", [True, False])
def test_whole_files_beside_one_that_was_cut_off_are_read(tmp_path, split, storage, kept, with_metadata):
    for number in range(3):
        folder = Path(shutil.copytree(split[storage], tmp_path / f"drive{number}"))
        files = sorted(folder.glob("drive_*"))
        cut(files[number], int(kept * files[number].stat().st_size) if kept == 0.7 else int(kept))
        if not with_metadata:
            (folder / "metadata.yaml").unlink()
        numbers, reasons = read(folder)
        others = [i for i in range(6) if i // 2 != number]
        assert [i for i in numbers if i // 2 != number] == others
        assert f"'{files[number].name}'" in reasons[0]
        if with_metadata:
            assert f"metadata.yaml lists more messages: {len(numbers)} of 6 messages on {TOPIC} were read." in reasons[-1]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_packed_file_that_is_whole_is_read_in_place_of_its_unpacked_form_that_is_not(tmp_path, storage):
    (file,) = write_split(tmp_path / "drive", storage, files=1, each=8)
    file.with_name(file.name + ".zstd").write_bytes(zstandard.compress(file.read_bytes()))
    cut(file, file.stat().st_size // 2)
    assert read(tmp_path / "drive") == (list(range(8)), [])


def test_a_packed_file_of_which_nothing_is_left_says_so(tmp_path):
    path = write_mcap(tmp_path / "a.mcap")
    packed = tmp_path / "b.mcap.zstd"
    packed.write_bytes(zstandard.compress(path.read_bytes())[:40])
    numbers, reasons = read(packed)
    assert numbers == [] and "'b.mcap.zstd' was cut off at its beginning" in reasons[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "metadata.yaml is empty; it is not used."),
        (" \n", "metadata.yaml is empty; it is not used."),
        ("{", "metadata.yaml is damaged: it is not YAML; it is not used."),
        ("\0\0\0", "metadata.yaml is damaged: it is not YAML; it is not used."),
        ("a: 2023-99-99", "metadata.yaml is damaged: it is not YAML; it is not used."),
        ("[1, 2]", "metadata.yaml has no 'rosbag2_bagfile_information'; it is not used."),
        ("rosbag2_bagfile_information: 4", "metadata.yaml has no 'rosbag2_bagfile_information'; it is not used."),
        (
            "rosbag2_bagfile_information: {version: 99, relative_file_paths: [other.mcap, more.mcap]}",
            "metadata.yaml has version 99; those up to 9 are known; it is not used.",
        ),
        ("rosbag2_bagfile_information: {relative_file_paths: a.mcap}", "metadata.yaml lists no files; it is not used."),
        ("rosbag2_bagfile_information: {relative_file_paths: [[1], {a: b}]}", "metadata.yaml lists no files; it is not used."),
    ],
)
def test_metadata_that_cannot_be_used_is_said_and_the_files_are_read(tmp_path, content, said):
    folder = tmp_path / "drive"
    folder.mkdir()
    (folder / "metadata.yaml").write_text(content)
    assert is_bag(folder)
    with pytest.raises(InputError, match=r"The bag .*drive' has no storage file") as caught:
        BagSequence(folder)
    assert str(caught.value).endswith(said)
    write_mcap(folder / "a.mcap")
    sequence = BagSequence(folder)
    assert sequence.notes[0] == said
    assert len(list(sequence)) == 8 and not sequence.skipped


# SQLite -----------------------------------------------------------------------------------------------------------------


def test_every_message_before_the_cut_of_a_database_is_read(tmp_path):
    (path,) = write_split(tmp_path / "drive", "sqlite3", files=1, each=8)
    whole = path.read_bytes()
    ends = [whole.index(serialized(number)[-2000:]) + 2000 for number in range(8)]
    alone = tmp_path / "a.db3"
    for place in places(len(whole), ends[0], ends[-1], 4096, 8192):
        alone.write_bytes(whole[:place])
        numbers, reasons = read(alone)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= sum(end <= place for end in ends) - 2  # the page of a row's beginning comes after its data
        assert len(numbers) == 8 or "a.db3" in reasons[0]
        if 0 < len(numbers) < 8:
            assert f"was cut off: it has {place} of {len(whole)} bytes" in reasons[0]


def test_rows_after_a_damaged_page_of_a_database_are_read(tmp_path):
    (path,) = write_split(tmp_path / "drive", "sqlite3", files=1, each=12)
    data = bytearray(path.read_bytes())
    page = data.index(serialized(6)[200:300]) // 4096 * 4096  # where row 6 begins, perhaps with a neighbour
    data[page : page + 4096] = bytes(4096)
    path.write_bytes(data)
    numbers, reasons = read(path)
    assert {*range(5), *range(9, 12)} <= set(numbers) and 6 not in numbers
    assert "'drive_0.db3' is damaged" in reasons[0]


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_a_journal_that_was_cut_off_gives_the_messages_that_were_committed(tmp_path, kept):
    recording = tmp_path / "recording"
    recording.mkdir()
    database = sqlite3.connect(recording / "a.db3")
    database.executescript(
        "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;"
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT);"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB);"
        f"INSERT INTO topics VALUES(1, '{TOPIC}', '{IMAGE}', 'cdr'); PRAGMA wal_checkpoint;"
    )
    for number in range(10):
        database.execute("INSERT INTO messages VALUES(?, 1, ?, ?)", (number, START + number * STEP, serialized(number)))
        database.commit()
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("a.db3", "a.db3-wal"):
        shutil.copy(recording / name, killed)
    database.close()
    cut(killed / "a.db3-wal", int(kept * (killed / "a.db3-wal").stat().st_size))
    numbers, _ = read(killed)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) in (range(8, 10) if kept == 0.9 else range(4, 6) if kept == 0.5 else range(2))


def test_a_database_without_the_journal_that_holds_it_names_the_journal(tmp_path):
    database = sqlite3.connect(tmp_path / "a.db3")
    database.executescript("PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; CREATE TABLE topics(id INTEGER)")
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(tmp_path / "a.db3", alone)
    database.close()
    numbers, reasons = read(alone / "a.db3")
    assert numbers == [] and "'a.db3-wal' first, which is missing beside it" in reasons[0]


def test_a_database_with_a_journal_is_copied_once(tmp_path, monkeypatch):
    (path,) = write_split(tmp_path / "drive", "sqlite3", files=1)
    database = sqlite3.connect(path)
    database.executescript("PRAGMA journal_mode=wal; DELETE FROM messages WHERE id = 2")
    killed = tmp_path / "killed"
    killed.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, killed)
    database.close()
    copied = []
    copy = bag_copy.copy_with_journals
    monkeypatch.setattr(bag_copy, "copy_with_journals", lambda *of: (copied.append(of), copy(*of))[1])
    sequence = BagSequence(killed)
    for _ in range(2):
        assert [number_of(frame.image[:, :48]) for frame in sequence] == [0]
    assert len(copied) == 1


# ROS 1 ------------------------------------------------------------------------------------------------------------------


def ros1_message(number: int) -> Any:
    types, ours = get_typestore(Stores.ROS1_NOETIC).types, message(number)
    time = types["builtin_interfaces/msg/Time"](ours.header.stamp.sec, ours.header.stamp.nanosec)
    fields = {name: getattr(ours, name) for name in ("height", "width", "encoding", "is_bigendian", "step", "data")}
    return types[IMAGE](header=types["std_msgs/msg/Header"](0, time, "camera"), **fields)


def write_ros1(path: Path, count: int = 8, compression: str = "") -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    writer = Writer1(path)
    if compression:
        writer.set_compression(Writer1.CompressionFormat[compression.upper()])
    writer.chunk_threshold = 12000
    with writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=store)
        for number in range(count):
            data = store.serialize_ros1(ros1_message(number), IMAGE)
            writer.write(connection, START + number * STEP, data)
    return path


@pytest.mark.parametrize("compression", ["", "bz2", "lz4"])
def test_a_bag_of_ros_1_without_its_index_is_read_as_far_as_it_goes(tmp_path, compression):
    path = write_ros1(tmp_path / "old.bag", compression=compression)
    assert read(path) == (list(range(8)), [])
    whole = path.read_bytes()
    active = tmp_path / "old.bag.active"
    found = []
    for place in places(len(whole)):
        active.write_bytes(whole[:place])
        numbers, reasons = read(active)
        assert numbers == list(range(len(numbers)))
        assert any("old.bag.active' " in reason for reason in reasons) or len(numbers) == 8
        found.append(len(numbers))
    assert found == sorted(found) and found[-1] == 8 and found[len(found) // 2] >= 2


def test_messages_of_ros_1_after_a_damaged_chunk_are_read(tmp_path):
    path = write_ros1(tmp_path / "old.bag", 16, compression="bz2")
    data = bytearray(path.read_bytes())
    second = data.index(b"BZh91AY", data.index(b"BZh91AY") + 1)
    data[second + 40 : second + 60] = bytes(20)
    path.write_bytes(data)
    numbers, reasons = read(path)
    assert 0 < 16 - len(numbers) < 8 and numbers[0] == 0 and numbers[-1] == 15 % PICTURES
    assert f"'old.bag' is damaged: a part of it cannot be unpacked. {len(numbers)} of 16 messages" in reasons[0]


def ros1_record(data: bytes, **fields: bytes) -> bytes:
    parts = [name.encode() + b"=" + value for name, value in fields.items()]
    header = b"".join(struct.pack("<L", len(part)) + part for part in parts)
    return struct.pack("<L", len(header)) + header + struct.pack("<L", len(data)) + data


@pytest.mark.parametrize("compression", ["none", "bz2", "lz4"])
def test_the_chunk_of_ros_1_that_was_being_written_is_read(tmp_path, compression):
    """A recorder fills in the sizes of a chunk, and the place of the index, when they are known."""
    store = get_typestore(Stores.ROS1_NOETIC)
    about = ros1_record(b"", topic=TOPIC.encode(), type=b"sensor_msgs/Image", md5sum=b"*", message_definition=b"")[4:-4]
    records = [ros1_record(about, op=b"\7", conn=bytes(4), topic=TOPIC.encode())]
    for number in range(3):
        time = struct.pack("<LL", *divmod(START + number * STEP, 10**9))
        data = bytes(store.serialize_ros1(ros1_message(number), IMAGE))
        records.append(ros1_record(data, op=b"\2", conn=bytes(4), time=time))
    content = b"".join(records)[:-50]
    packed = {"none": content, "bz2": bz2.compress(content), "lz4": lz4.frame.compress(content)}[compression]
    path = tmp_path / "drive.bag.active"
    path.write_bytes(
        b"#ROSBAG V2.0\n"
        + ros1_record(b" " * 4000, op=b"\3", index_pos=bytes(8), conn_count=bytes(4), chunk_count=bytes(4))
        + ros1_record(b"", op=b"\5", compression=compression.encode(), size=bytes(4))
        + packed
    )
    numbers, reasons = read(path)
    assert numbers == [0, 1]
    assert "'drive.bag.active' has no complete index" in reasons[0]
    assert f" 2 messages on {TOPIC} were read" in reasons[0]
