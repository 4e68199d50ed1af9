# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from nav_msgs.msg import Path

from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.outputs.map_messages import PathMessage


def poses(rng: np.random.Generator, count: int) -> SE3:
    return SE3.exp(rng.normal(size=(count, 6)))


def join(a: SE3, b: SE3) -> SE3:
    return SE3(np.concatenate([a.rotation, b.rotation]), np.concatenate([a.translation, b.translation]))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from(["append", "move", "insert", "cut", "nothing"]), max_size=8))
def test_it_always_equals_a_path_made_anew(seed: int, steps: list[str]) -> None:
    rng = np.random.default_rng(seed)
    message = PathMessage()
    stamps, path = np.arange(3, dtype=np.int64) * 10**8, poses(rng, 3)
    for step in ["nothing", *steps]:
        count = len(stamps)
        if step == "append":
            stamps, path = np.append(stamps, [stamps.max(initial=0) + 10**8] * 2), join(path, poses(rng, 2))
        elif step == "move" and count:
            moved = rng.random(count) < 0.5
            other = poses(rng, count)
            path = SE3(
                np.where(moved[:, None, None], other.rotation, path.rotation),
                np.where(moved[:, None], other.translation, path.translation),
            )
        elif step == "insert":
            stamps, path = np.append(-1, stamps), join(poses(rng, 1), path)
        elif step == "cut":
            stamps, path = stamps[: count // 2], path[: count // 2]
        assert message.update(stamps, path, "map") == PathMessage().update(stamps, path, "map")


def test_an_update_keeps_the_poses_that_did_not_move() -> None:
    rng = np.random.default_rng(0)
    stamps, path = np.arange(5, dtype=np.int64), poses(rng, 5)
    message = PathMessage()
    before = list(message.update(stamps, path, "map").poses)
    after: Path = message.update(np.arange(6, dtype=np.int64), join(path, poses(rng, 1)), "map")
    assert all(old is new for old, new in zip(before, after.poses[:5], strict=True))
    assert len(after.poses) == 6
