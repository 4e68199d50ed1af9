# SPDX-License-Identifier: Apache-2.0
"""Bags as the field has them: packed, cut off, split, edited, with strange topics beside the images."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="bags are read with the optional library rosbags")
pytest.importorskip("mcap", reason="bags are read with the optional library mcap")

import bag_files as bags
import zstandard
from mcap.writer import CompressionType, Writer
from rosbags.rosbag1 import Writer as Writer1
from rosbags.typesys import Stores, get_typestore
from sample_images import encoded, number_of, picture

from st3r_ros.errors import InputError
from st3r_ros.io.bag import BagSequence, is_bag
from st3r_ros.io.sequence import Selection
from st3r_ros.sequences import open_sequence

START, STEP = 1_700_000_000_000_000_000, 66_000_000
COUNT = 4
IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"


def messages(count: int = COUNT, first: int = 0) -> list[tuple[str, int, Any]]:
    stamps = [START + i * STEP for i in range(first, first + count)]
    info = [("/camera/camera_info", stamps[0], bags.camera_info(stamps[0], 48, 32, 40.0))] if stamps else []
    return info + [("/camera/image_raw", stamp, bags.image(stamp, picture(first + i))) for i, stamp in enumerate(stamps)]


def numbers(source: Path) -> list[int]:
    return [number_of(frame.image) for frame in BagSequence(source)]


def storage_of(bag: Path) -> Path:
    return next(file for file in bag.iterdir() if file.name != "metadata.yaml")


def cdr(message: Any) -> bytes:
    return bytes(bags.STORE.serialize_cdr(message, message.__msgtype__))


# Packed by zstd -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compression", ["file", "message"])
def test_bags_packed_by_zstd_need_no_metadata(tmp_path, storage, compression):
    bag = bags.write_bag(tmp_path / "bag", messages(), storage, compression)
    assert numbers(bag) == [0, 1, 2, 3]
    (bag / "metadata.yaml").unlink()
    single = Path(shutil.copy(storage_of(bag), tmp_path))
    for source in (bag, single):
        assert is_bag(source)
        assert numbers(source) == [0, 1, 2, 3]
        assert BagSequence(source).camera is not None


def test_a_file_that_lies_there_packed_and_unpacked_is_read_once(tmp_path):
    bag = bags.write_bag(tmp_path / "bag", messages(), "mcap", "file")
    packed = storage_of(bag)
    packed.with_suffix("").write_bytes(zstandard.ZstdDecompressor().stream_reader(packed.read_bytes()).read())
    assert numbers(bag) == [0, 1, 2, 3]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_packed_file_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path, storage):
    noise = np.random.default_rng(0)
    whole = [("/cam/image", START + i, bags.image(START + i, noise.integers(0, 256, (64, 64, 3), np.uint8))) for i in range(40)]
    packed = storage_of(bags.write_bag(tmp_path / "bag", whole, storage, "file"))
    packed.write_bytes(packed.read_bytes()[: int(0.6 * packed.stat().st_size)])
    sequence = BagSequence(packed)
    assert 10 < len(list(sequence)) < 40
    assert any("cut off" in item.reason for item in sequence.skipped)


# Cut off --------------------------------------------------------------------------------------------------------------


def write_mcap(path: Path, channels: list[Any], *, finish: bool = True, **options: Any) -> Path:
    with path.open("wb") as file:
        writer = Writer(file, **options)
        writer.start(profile="ros2", library="test")
        for topic in channels:
            schema = writer.register_schema(topic.kind, topic.schema_encoding, topic.definition)
            channel = writer.register_channel(topic.name, topic.encoding, schema)
            for stamp, data in topic.data:
                writer.add_message(channel, stamp, data, stamp)
        if finish:
            writer.finish()
    return path


class Topic:
    """A channel of an mcap file; the definition of its type is empty unless one is given."""

    def __init__(self, name: str, kind: str, data: list[tuple[int, bytes]], **other: Any) -> None:
        self.name, self.kind, self.data = name, kind, data
        self.encoding: str = other.get("encoding", "cdr")
        self.schema_encoding: str = other.get("schema_encoding", "")
        self.definition: bytes = other.get("definition", b"")


def image_topic(count: int = COUNT, **other: Any) -> Topic:
    return Topic("/camera/image_raw", IMAGE, [(at, cdr(image)) for _, at, image in messages(count)[1:]], **other)


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.parametrize("index", [True, False])
def test_every_kind_of_mcap_is_read_and_a_cut_one_as_far_as_it_goes(tmp_path, compression, chunks, index):
    options: dict[str, Any] = {"compression": compression, "use_chunking": chunks, "chunk_size": 9000}
    if not index:
        options |= {"use_statistics": False, "repeat_channels": False, "repeat_schemas": False, "use_summary_offsets": False}
    path = write_mcap(tmp_path / "a.mcap", [image_topic(10)], **options)
    assert numbers(path) == list(range(10))
    whole = path.read_bytes()
    found = []
    for kept in (0.9, 0.7, 0.4):
        path.write_bytes(whole[: int(kept * len(whole))])
        sequence = BagSequence(path)
        read = [number_of(frame.image) for frame in sequence]
        assert read == list(range(len(read)))
        assert any("was cut off" in item.reason for item in sequence.skipped) or len(read) == 10
        found.append(len(read))
    assert found[0] >= 7 and found[1] >= 5 and found[2] >= 2


def test_a_damaged_chunk_is_said(tmp_path):
    path = write_mcap(tmp_path / "a.mcap", [image_topic(10)], compression=CompressionType.NONE, chunk_size=9000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    sequence = BagSequence(path)
    assert 0 < len(list(sequence)) < 10
    assert any("'a.mcap' is damaged" in item.reason for item in sequence.skipped)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_that_was_not_closed_is_completed_from_its_journal_in_a_copy(tmp_path, mode):
    path = storage_of(bags.write_bag(tmp_path / "bag", messages(), "sqlite3"))
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA journal_mode={mode}")
    database.execute("PRAGMA cache_size=1")
    database.execute("DELETE FROM messages WHERE timestamp > ?", (START + STEP,))
    if mode == "wal":
        database.commit()
        expected = [0, 1]
    else:
        database.execute("CREATE TABLE spill AS SELECT zeroblob(100000)")  # pages reach the file before the commit
        expected = [0, 1, 2, 3]
    killed = tmp_path / "killed"
    killed.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, killed)
    database.close()
    before = {file.name: file.read_bytes() for file in killed.iterdir()}
    assert len(before) > 1
    assert numbers(killed) == expected
    assert {file.name: file.read_bytes() for file in killed.iterdir()} == before


def test_a_database_that_is_still_all_in_its_journal_is_read(tmp_path):
    whole = storage_of(bags.write_bag(tmp_path / "bag", messages(), "sqlite3"))
    recording = tmp_path / "recording"
    recording.mkdir()
    database = sqlite3.connect(recording / "a.db3")
    database.executescript("PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0")
    with sqlite3.connect(whole) as source:
        database.executescript("\n".join(source.iterdump()))
    source.close()
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("a.db3", "a.db3-wal"):
        shutil.copy(recording / name, killed)
    database.close()
    assert (killed / "a.db3").stat().st_size < 5000
    assert numbers(killed) == [0, 1, 2, 3]


def test_a_file_that_was_cut_off_before_the_first_topic_says_so(tmp_path):
    path = write_mcap(tmp_path / "a.mcap", [image_topic()])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"a\.mcap' cannot be read: 'a\.mcap' was cut off"):
        BagSequence(path)


def test_an_unknown_packing_is_named(tmp_path):
    path = write_mcap(tmp_path / "a.mcap", [image_topic()], compression=CompressionType.LZ4)
    path.write_bytes(path.read_bytes().replace(b"\3\0\0\0lz4", b"\3\0\0\0lzo"))
    with pytest.raises(InputError, match="is compressed with 'lzo'"):
        BagSequence(path)


def test_messages_that_are_announced_and_not_there_are_said(tmp_path, monkeypatch):
    path = bags.write_bag(tmp_path / "bag", messages())
    sequence = BagSequence(path)
    monkeypatch.setattr("st3r_ros.io.bag_mcap.McapStorage.messages", lambda self, topics: iter(()))
    with pytest.raises(InputError, match="The bag's index lists messages on /camera/image_raw, but there are none"):
        list(sequence)


# Several files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_split_files_are_joined_by_time_and_what_is_missing_is_said(tmp_path, storage):
    folder = tmp_path / "drive"
    folder.mkdir()
    for part, number in enumerate((8, 9, 10)):
        file = storage_of(bags.write_bag(tmp_path / f"part{part}", messages(2, first=2 * part), storage))
        shutil.move(file, folder / f"drive_{number}{file.suffix}")
    (folder / f"drive_11{file.suffix}").write_bytes(b"")
    listed = "".join(f"  - drive_{number}{file.suffix}\n" for number in range(8, 14))
    (folder / "metadata.yaml").write_text(f"rosbag2_bagfile_information:\n  relative_file_paths:\n{listed}")
    sequence = BagSequence(folder)
    assert [number_of(frame.image) for frame in sequence] == list(range(6))
    reasons = " ".join(item.reason for item in sequence.skipped)
    assert f"'drive_11{file.suffix}' is empty" in reasons
    assert f"'drive_12{file.suffix}' is missing" in reasons and f"'drive_13{file.suffix}' is missing" in reasons


@pytest.mark.parametrize("every", [1, 2, 3])
def test_what_is_damaged_between_the_images_is_said_and_counts_as_none(tmp_path, every):
    folder = tmp_path / "drive"
    folder.mkdir()
    for part in range(3):
        file = storage_of(bags.write_bag(tmp_path / f"part{part}", messages(3, first=3 * part)))
        shutil.move(file, folder / f"drive_{part}.mcap")
    data = bytearray((folder / "drive_0.mcap").read_bytes())
    (folder / "drive_0.mcap").write_bytes(data[: len(data) * 2 // 5])
    whole = [number_of(frame.image) for frame in BagSequence(folder)]
    assert whole[0] == 0 and whole[-6:] == [3, 4, 5, 6, 7, 8]
    sequence = BagSequence(folder, selection=Selection(every=every))
    assert [(frame.id, number_of(frame.image)) for frame in sequence] == list(enumerate(whole[::every]))
    (damage,) = sequence.skipped
    assert not damage.is_frame and "'drive_0.mcap' was cut off" in damage.reason
    assert damage.index == len(range(0, len(whole) - 6, every))


def test_damage_of_a_bag_is_no_skipped_frame(st3r, tmp_path):
    bag = bags.write_bag(tmp_path / "bag", messages())
    storage_of(bag).write_bytes(storage_of(bag).read_bytes()[: storage_of(bag).stat().st_size * 3 // 5])
    sequence = BagSequence(bag)
    read, reasons = len(list(sequence)), [item.reason for item in sequence.skipped]
    outcome = st3r("map", bag, "--out", tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["frames"], summary["skipped"]) == (read, 0) and read > 0 and reasons
    assert summary["notes"] == [f"The bag is damaged: {reason}" for reason in reasons]
    assert summary["notes"][0] in outcome.out.splitlines() and "Skipped" not in outcome.out


def test_files_that_were_renamed_or_packed_since_are_not_missed(tmp_path):
    bag = bags.write_bag(tmp_path / "bag", messages())
    renamed = storage_of(bag).rename(bag / "other.mcap")
    for _ in range(2):
        sequence = BagSequence(bag)
        assert len(list(sequence)) == COUNT and not sequence.skipped
        if renamed.exists():
            (bag / "bag.mcap.zst").write_bytes(zstandard.compress(renamed.read_bytes()))
            renamed.unlink()


def test_a_folder_whose_files_are_all_missing_names_them(tmp_path):
    bag = bags.write_bag(tmp_path / "bag", messages())
    storage_of(bag).unlink()
    assert is_bag(bag)
    with pytest.raises(InputError, match=r"no storage file .*metadata\.yaml lists bag\.mcap"):
        BagSequence(bag)


def change(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "\n".join(line for line in text.splitlines() if "qos" not in line),
        change("offered_qos_profiles:", "offered_qos_profiles: 'x'\n      other:"),
        change("message_count: 4", "message_count: 9"),
        change("version: 9", "version: 99"),
        change("type: sensor_msgs/msg/Image", "type: my_msgs/msg/Image"),
        lambda text: text[: len(text) // 2],
        lambda text: "{",
        lambda text: "",
    ],
)
def test_edits_of_the_metadata_do_not_matter(tmp_path, storage, edit):
    bag = bags.write_bag(tmp_path / "bag", messages(), storage)
    metadata = bag / "metadata.yaml"
    metadata.write_text(edit(metadata.read_text()))
    assert numbers(bag) == [0, 1, 2, 3]


# Topics beside the images -----------------------------------------------------------------------------------------------

NUMBER = [(START, b"\0\1\0\0\7\0\0\0")]
STRANGE = {
    "not known at recording": Topic("/other", "my_msgs/msg/Foo", NUMBER),
    "definition lacks a part": Topic("/other", "my_msgs/msg/Foo", NUMBER, schema_encoding="ros2msg", definition=b"x/Bar bar\n"),
    "definition is garbage": Topic("/other", "my_msgs/msg/Foo", NUMBER, schema_encoding="ros2msg", definition=b"\xff\xfe {"),
    "idl": Topic(
        "/other", "my_msgs/msg/Foo", NUMBER, schema_encoding="ros2idl", definition=b"module a { map<string, long> m; };"
    ),
    "protobuf": Topic("/other", "foxglove.Log", NUMBER, encoding="protobuf", schema_encoding="protobuf", definition=b"\n\5\xff"),
    "json": Topic("/other", "foxglove.Log", NUMBER, encoding="json", schema_encoding="jsonschema", definition=b"{}"),
    "nothing known": Topic("/other", "", NUMBER, encoding=""),
}


@pytest.mark.parametrize("other", STRANGE.values(), ids=STRANGE)
def test_what_other_topics_hold_does_not_matter(tmp_path, other):
    assert numbers(write_mcap(tmp_path / "a.mcap", [other, image_topic()])) == [0, 1, 2, 3]


@pytest.mark.parametrize("definition", [b"", b"sensor_msgs/msg/Image\n", b"\xff\xfe", b"uint8 other\n"])
def test_a_broken_definition_of_the_image_type_is_not_needed(tmp_path, definition):
    topic = image_topic(schema_encoding="ros2msg", definition=definition)
    assert numbers(write_mcap(tmp_path / "a.mcap", [topic])) == [0, 1, 2, 3]


def test_a_type_hash_that_differs_does_not_matter(tmp_path):
    path = storage_of(bags.write_bag(tmp_path / "bag", messages(), "sqlite3"))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE topics SET type_description_hash = 'RIHS01_0', offered_qos_profiles = '- broken: ['")
        database.execute("UPDATE message_definitions SET encoding = 'unknown', encoded_message_definition = ''")
    database.close()
    assert numbers(path) == [0, 1, 2, 3]


def test_images_in_another_serialization_are_named(tmp_path):
    topic = Topic("/camera", "foxglove.CompressedImage", NUMBER, encoding="protobuf", schema_encoding="protobuf")
    with pytest.raises(InputError, match=r"holds no images .*/camera \(foxglove.CompressedImage in protobuf\)"):
        BagSequence(write_mcap(tmp_path / "a.mcap", [topic]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begins with nothing instead of 00 00 or 00 01"),
        (b"\0\7\0\0" + bytes(80), "not CDR.* begins with 00 07 00 00"),
        (b"\0\1\0\0" + bytes(10), "of 14 bytes is not a complete sensor_msgs/msg/Image: it was cut short"),
        (b"\x28\xb5\x2f\xfd" + bytes(30), "compressed with zstd and"),
    ],
)
def test_a_message_that_cannot_be_read_says_why(tmp_path, data, reason):
    with pytest.raises(InputError, match=rf"Not one image .* \(1 tried\)\. The first reason: .*{reason}") as caught:
        list(BagSequence(write_mcap(tmp_path / "a.mcap", [Topic("/camera", IMAGE, [(START, data)])])))
    assert ".." not in str(caught.value)


# ROS 1 ------------------------------------------------------------------------------------------------------------------


def ros1_messages() -> list[tuple[str, int, Any]]:
    types = get_typestore(Stores.ROS1_NOETIC).types

    def head(stamp_ns: int) -> Any:
        time = types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
        return types["std_msgs/msg/Header"](0, time, "camera")

    found: list[tuple[str, int, Any]] = []
    for topic, at, ours in messages():
        fields = {name: getattr(ours, name) for name in ours.__dataclass_fields__ if name not in ("__msgtype__", "header")}
        if topic.endswith("camera_info"):
            fields = {name.upper() if name in "dkrp" else name: value for name, value in fields.items()}
            fields["roi"] = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        found.append((topic, at, types[ours.__msgtype__](header=head(at), **fields)))
    jpeg = np.frombuffer(encoded(picture(3), ".jpg"), np.uint8)
    compressed = types["sensor_msgs/msg/CompressedImage"](head(START), "jpeg", jpeg)
    return [*found, ("/rear/image/compressed", START, compressed)]


def test_bags_of_ros_1_are_read_too(tmp_path):
    store = get_typestore(Stores.ROS1_NOETIC)
    path = tmp_path / "old.bag"
    with Writer1(path) as writer:
        connections: dict[str, Any] = {}
        for topic, at, message in ros1_messages():
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=store)
            writer.write(connections[topic], at, store.serialize_ros1(message, message.__msgtype__))
    sequence = open_sequence(f"{path}?topic=/camera/image_raw")
    assert [(frame.stamp_ns, number_of(frame.image)) for frame in sequence] == [(START + i * STEP, i) for i in range(COUNT)]
    assert sequence.camera is not None and sequence.camera.K[0, 0] == 40.0
    assert [number_of(frame.image) for frame in BagSequence(path, topic="/rear/image/compressed")] == [3]


@pytest.mark.parametrize("kind", ["sensor_msgs/Image", "sensor_msgs::msg::Image", "sensor_msgs::msg::dds_::Image_"])
def test_the_image_type_may_have_its_other_names(tmp_path, kind):
    topic = image_topic()
    topic.kind = kind
    assert numbers(write_mcap(tmp_path / "a.mcap", [topic])) == [0, 1, 2, 3]


def test_messages_of_ros_1_in_mcap_are_read_too(tmp_path):
    store = get_typestore(Stores.ROS1_NOETIC)
    data = [
        (at, bytes(store.serialize_ros1(image, IMAGE))) for topic, at, image in ros1_messages() if topic == "/camera/image_raw"
    ]
    topic = Topic("/camera/image_raw", "sensor_msgs/Image", data, encoding="ros1", schema_encoding="ros1msg")
    assert numbers(write_mcap(tmp_path / "a.mcap", [topic])) == [0, 1, 2, 3]
