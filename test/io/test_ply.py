# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from st3r_ros.errors import InputError
from st3r_ros.io.ply import read_ply, write_ply
from st3r_ros.types import PointCloud

HEADER = b"ply\nformat binary_little_endian 1.0\nelement vertex 2\n"
XYZ = b"property float x\nproperty float y\nproperty float z\n"


def cloud_of(count: int) -> PointCloud:
    rng = np.random.default_rng(count)
    return PointCloud(
        rng.normal(size=(count, 3)).astype(np.float32),
        rng.integers(0, 256, (count, 3)).astype(np.uint8),
        rng.uniform(0, 9, count).astype(np.float32),
    )


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_what_is_written_is_read_back_exactly(tmp_path, count):
    cloud = cloud_of(count)
    write_ply(tmp_path / "cloud.ply", cloud)
    read = read_ply(tmp_path / "cloud.ply")
    for name in ("points", "colors", "conf"):
        before, after = getattr(cloud, name), getattr(read, name)
        np.testing.assert_array_equal(after, before)
        assert after.dtype == before.dtype


def test_the_file_is_what_other_programs_expect(tmp_path):
    write_ply(tmp_path / "cloud.ply", cloud_of(5))
    header, _, body = (tmp_path / "cloud.ply").read_bytes().partition(b"end_header\n")
    assert header.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 5",
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "property float confidence",
    ]
    assert len(body) == 5 * (4 * 3 + 3 + 4)


def test_other_clouds_are_read_as_far_as_they_go(tmp_path):
    points = np.arange(6, dtype="<f8")
    header = HEADER + b"".join(b"property double %c\n" % name for name in b"xyz") + b"element face 0\n"
    (tmp_path / "cloud.ply").write_bytes(header + b"property list uchar int vertex_indices\nend_header\n" + points.tobytes())
    cloud = read_ply(tmp_path / "cloud.ply")
    np.testing.assert_array_equal(cloud.points, points.reshape(2, 3))
    assert (cloud.conf == 1).all() and (cloud.colors == 128).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a binary little endian PLY"),
        (b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n", "not a binary little endian PLY"),
        (HEADER + XYZ + b"end_header\n" + bytes(23), "announces 2 points but holds 1"),
        (HEADER + b"property float x\nend_header\n" + bytes(8), "without x, y and z"),
        (HEADER + b"property list uchar int i\nend_header\n", "cannot be understood"),
        (HEADER.replace(b"vertex", b"edge") + XYZ + b"end_header\n", "cannot be understood"),
    ],
)
def test_files_that_are_no_cloud_say_why(tmp_path, content, reason):
    (tmp_path / "cloud.ply").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_ply(tmp_path / "cloud.ply")
    with pytest.raises(InputError, match="cannot be read"):
        read_ply(tmp_path / "absent.ply")
