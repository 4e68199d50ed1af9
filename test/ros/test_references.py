# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest

from st3r_ros.errors import ConfigError, OutputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.nodes import references
from st3r_ros.ros.nodes.references import ReferenceStore, StoredReference, check_name
from st3r_ros.types import Frame

RNG = np.random.default_rng(0)
CAMERA = Camera(
    40, 30, np.array([[31.7, 0.0, 19.3], [0.0, 31.1, 14.9], [0.0, 0.0, 1.0]]), "plumb_bob", np.array([0.1, -0.2, 0.0, 0.01])
)
POSE = SE3.exp(np.array([1.0, 2.0, 3.0, 0.1, 0.2, 0.3]))


def reference(name: str = "dock", **changes: object) -> StoredReference:
    frame = Frame(0, 1_700_000_000_123_456_789, RNG.integers(0, 255, (30, 40, 3), np.uint8), CAMERA)
    values = {"T_ref_cam": POSE, "depth": RNG.uniform(0.5, 9.0, (30, 40)).astype(np.float32), **changes}
    return StoredReference(name, frame, **values)  # type: ignore[arg-type]


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    store, kept = ReferenceStore(tmp_path), reference()
    kept.depth[:5], kept.depth[5, 0] = 0.0, 70.0  # type: ignore[index]
    store.save(kept)
    (found,), problems = store.load()
    assert (problems, found.name, found.frame.stamp_ns, found.frame.camera) == ([], "dock", kept.frame.stamp_ns, CAMERA)
    np.testing.assert_array_equal(found.frame.image, kept.frame.image)
    assert found.T_ref_cam is not None
    np.testing.assert_allclose(found.T_ref_cam.as_matrix(), POSE.as_matrix(), atol=1e-14)
    assert found.depth is not None
    assert kept.depth is not None
    kept.depth[5, 0] = 0.0  # too far for a file of millimetres: not known
    np.testing.assert_allclose(found.depth, kept.depth, atol=0.00051)


def test_a_bare_picture_comes_back_bare(tmp_path: Path) -> None:
    store, kept = ReferenceStore(tmp_path), reference(T_ref_cam=None, depth=None)
    store.save(StoredReference("dock", Frame(0, 0, kept.frame.image)))
    (found,), _ = store.load()
    assert (found.frame.camera, found.T_ref_cam, found.depth) == (None, None, None)


def test_a_new_one_takes_the_place_of_the_old_one_and_of_its_pictures(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    store.save(reference("dock-2"))
    store.save(reference())
    new = reference(depth=None)
    store.save(new)
    assert len(list(tmp_path.glob("*.png"))) == 3
    found = {item.name: item for item in store.load()[0]}
    np.testing.assert_array_equal(found["dock"].frame.image, new.frame.image)
    store.remove("dock")
    store.remove("dock")
    assert [item.name for item in store.load()[0]] == ["dock-2"]
    assert len(list(tmp_path.iterdir())) == 3


def test_until_the_new_one_is_whole_the_old_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, old = ReferenceStore(tmp_path), reference()
    store.save(old)
    write = references.write_file
    for fails_at in range(3):
        written: list[Path] = []

        def write_or_fail(path: Path, data: bytes, written: list[Path] = written, fails_at: int = fails_at) -> None:
            if len(written) == fails_at:
                raise OutputError("no room")
            written.append(path)
            write(path, data)

        monkeypatch.setattr(references, "write_file", write_or_fail)
        with pytest.raises(OutputError):
            store.save(reference())
        (found,), problems = store.load()
        assert not problems
        np.testing.assert_array_equal(found.frame.image, old.frame.image)


def test_whatever_is_damaged_is_reported_and_the_others_are_there(tmp_path: Path) -> None:
    """Bytes of the file cut off or changed, keys missing, values of every other type: a sentence, and nothing else."""
    store = ReferenceStore(tmp_path)
    store.save(reference("whole"))
    store.save(reference())
    path = tmp_path / "dock.json"
    good = path.read_bytes()
    content = json.loads(good)
    damaged = [good[:cut] for cut in range(0, len(good) - 2, 37)]
    damaged += [json.dumps({k: v for k, v in content.items() if k != key}).encode() for key in content]
    odd: list[object] = ["", -1.5, [], {}, [1, 2], "../../etc/passwd", "x" * 5000, {"position": [1], "width": 2}, None, 1e400]
    allowed = (("camera", None), ("pose", None), ("depth", None))
    damaged += [json.dumps({**content, key: value}).encode() for key in content for value in odd if (key, value) not in allowed]
    damaged += [b"[" * 100_000, b"\xff\xfe", b"x" * 2**21]
    for data in damaged:
        path.write_bytes(data)
        found, problems = store.load()
        assert [item.name for item in found] == ["whole"], data[:300]
        assert len(problems) == 1
        assert "dock.json" in problems[0]
    path.write_bytes(good)
    for picture in tmp_path.glob("dock*.png"):
        pixels = picture.read_bytes()
        for bad in (b"", pixels[:200], pixels[:100] + b"\0" + pixels[101:], b"text"):
            picture.write_bytes(bad)
            assert [item.name for item in store.load()[0]] == ["whole"]
        picture.write_bytes(pixels)
    assert len(store.load()[0]) == 2


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-a", "_a", "a.b", "\u00fc", "a\n", "x" * 65])
def test_a_name_is_that_of_a_file(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid name of a reference"):
        check_name(name)
    assert check_name("Dock-2_b") == "Dock-2_b"
