# SPDX-License-Identifier: Apache-2.0
"""The occupancy of simulated rooms whose walls are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from st3r_ros.config import GridConfig, SimulationConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.products import occupancy
from st3r_ros.products.changes import SeenKeyframe
from st3r_ros.products.occupancy import FREE, OCCUPIED, UNKNOWN, GridBuilder, Occupancy
from st3r_ros.products.steps import finish
from st3r_ros.sim.interior import HEIGHT
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe

CONFIG = GridConfig(min_height=0.1, max_height=1.5, max_range=12.0)
CAMERA = Camera.from_fov(320, 240, 90.0)
RAYS = CAMERA.unproject(np.stack(np.meshgrid(np.arange(320), np.arange(240)), axis=-1))
LOW, HIGH = np.array([-2.025, -1.225, 0.0]), np.array([3.025, 2.225, 2.5])  # of a room; walls in the middle of cells
TABLE = np.array([[1.0, -0.5, 0.4], [1.6, 0.1, 0.8]])  # low and high corner of a box in it
UNIT = 0.5  # of the keyframes' own pointmaps, metres
T_MAP_WORLD = SE3.exp(np.array([0.3, -0.2, 0.7, 0.2, 0.1, 0.5]))  # the world is anywhere


def look(x: float, y: float, z: float, yaw_deg: float, down_deg: float = 0.0) -> SE3:
    """T_map_cam of a camera at a place, turned to the left from +x and then downwards."""
    yaw, down = np.radians(yaw_deg), np.radians(down_deg)
    forward = np.array([np.cos(yaw) * np.cos(down), np.sin(yaw) * np.cos(down), -np.sin(down)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    return SE3(np.stack([right, np.cross(forward, right), forward], axis=1), np.array([x, y, z]))


def depth_of(T_map_cam: SE3) -> np.ndarray:
    """Exact depth (h, w) of the room and the table."""
    ways, origin = RAYS @ T_map_cam.rotation.T, T_map_cam.translation
    with np.errstate(divide="ignore", invalid="ignore"):
        wall = np.where(ways > 0, (HIGH - origin) / ways, (LOW - origin) / ways).min(-1)
        sides = (TABLE[:, None, None] - origin) / ways
    enter, leave = sides.min(0).max(-1), sides.max(0).min(-1)
    return np.where((enter > 0) & (enter < leave), enter, wall)


def keyframe(number: int, T_map_cam: SE3, depth: np.ndarray, rays: np.ndarray = RAYS, K: np.ndarray = CAMERA.K) -> Keyframe:
    X = torch.from_numpy((rays * depth[..., None] / UNIT).astype(np.float32))
    conf = torch.from_numpy(np.where(depth > 0, 2.0, 0.0).astype(np.float32))
    T_world_cam = (T_MAP_WORLD.inverse() @ T_map_cam).sim3(UNIT)
    return Keyframe(number, number, number, T_world_cam, X, conf, np.zeros((*depth.shape, 3), np.uint8), K)


def make_map(views: list[SE3]) -> KeyframeMap:
    result = KeyframeMap()
    result.T_map_world = T_MAP_WORLD
    for number, T_map_cam in enumerate(views):
        result.add_keyframe(keyframe(number, T_map_cam, depth_of(T_map_cam)))
    return result


AROUND = [look(-0.5, 1.0, 1.0, yaw) for yaw in range(0, 360, 45)]
SEEN = [*AROUND, look(0.2, -0.9, 1.2, 20.0, 25.0), look(2.4, 1.5, 1.2, 230.0, 25.0)]


def grid_of(m: KeyframeMap, config: GridConfig = CONFIG) -> Occupancy:
    return finish(GridBuilder().steps(m, config))


def cell(grid: Occupancy, x: float, y: float) -> int:
    """What the grid says of a place, as Nav2 looks it up; unknown outside of it."""
    column, row = int(np.floor((x - grid.origin[0]) / grid.resolution)), int(np.floor((y - grid.origin[1]) / grid.resolution))
    h, w = grid.cells.shape
    return int(grid.cells[row, column]) if 0 <= row < h and 0 <= column < w else UNKNOWN


def centres(grid: Occupancy) -> np.ndarray:
    """(h, w, 2)"""
    h, w = grid.cells.shape
    return grid.origin + (np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1) + 0.5) * grid.resolution


def test_walls_are_occupied_the_floor_is_free_and_what_is_behind_is_unknown() -> None:
    grid = grid_of(make_map(SEEN))
    for x in np.arange(LOW[0] + 0.1, HIGH[0], 0.1):
        assert cell(grid, x, LOW[1]) == cell(grid, x, HIGH[1]) == OCCUPIED, x
    for y in np.arange(LOW[1] + 0.1, HIGH[1], 0.1):
        assert cell(grid, LOW[0], y) == cell(grid, HIGH[0], y) == OCCUPIED, y
    places = centres(grid)
    inside = ((places > LOW[:2] + 0.06) & (places < HIGH[:2] - 0.06)).all(-1)
    at_table = ((places > TABLE[0, :2] - 0.06) & (places < TABLE[1, :2] + 0.06)).all(-1)
    beyond = ((places < LOW[:2] - 0.06) | (places > HIGH[:2] + 0.06)).any(-1)
    assert (grid.cells[inside & ~at_table] == FREE).all()
    assert (grid.cells[beyond] == UNKNOWN).all()
    on_table = ((places > TABLE[0, :2] + 0.06) & (places < TABLE[1, :2] - 0.06)).all(-1)
    assert (grid.cells[on_table] == OCCUPIED).all() and on_table.sum() > 50


def test_rows_go_along_y_columns_along_x_and_the_origin_is_the_least_corner() -> None:
    grid = grid_of(make_map(SEEN))
    h, w = grid.cells.shape
    np.testing.assert_allclose(grid.origin, np.floor(LOW[:2] / 0.05) * 0.05, atol=1e-9)
    assert (w, h) == (round((HIGH[0] - LOW[0]) / 0.05) + 1, round((HIGH[1] - LOW[1]) / 0.05) + 1)
    assert grid.cells.dtype == np.int8 and set(np.unique(grid.cells)) <= {OCCUPIED, FREE, UNKNOWN}


def test_the_origin_does_not_jitter_when_the_map_grows() -> None:
    before, after = grid_of(make_map(SEEN[:1])), grid_of(make_map(SEEN))
    for grid in (before, after):
        np.testing.assert_allclose(grid.origin / 0.05, np.round(grid.origin / 0.05), atol=1e-9)
    r, c = np.round((before.origin - after.origin) / 0.05).astype(int)[::-1]
    h, w = before.cells.shape
    both = after.cells[r : r + h, c : c + w]
    assert (both[before.cells == OCCUPIED] == OCCUPIED).all()
    assert (both[before.cells == FREE] != UNKNOWN).all()


def test_what_nobody_has_looked_at_is_unknown() -> None:
    grid = grid_of(make_map([look(0.0, 0.5, 1.0, 180.0)]))
    assert cell(grid, -1.5, 0.5) == FREE and cell(grid, LOW[0], 0.5) == OCCUPIED
    assert cell(grid, 0.5, 0.5) == cell(grid, 0.0, 2.0) == UNKNOWN


@pytest.mark.parametrize(("heights", "expected"), [((0.1, 1.5), OCCUPIED), ((0.1, 0.3), FREE), ((0.9, 1.5), FREE)])
def test_only_what_is_between_the_heights_is_an_obstacle(heights: tuple[float, float], expected: int) -> None:
    grid = grid_of(make_map(SEEN), replace(CONFIG, min_height=heights[0], max_height=heights[1]))
    assert cell(grid, TABLE[0, 0] + 0.02, -0.2) == expected
    assert cell(grid, LOW[0], 0.5) == OCCUPIED


def test_a_camera_above_the_heights_sees_the_floor_free_only_where_it_looks_so_deep() -> None:
    above = grid_of(make_map([look(-1.5, 0.5, 2.2, 0.0, 20.0)]), replace(CONFIG, max_height=0.3))
    assert cell(above, 2.0, 0.5) == FREE  # the floor
    assert cell(above, -1.3, 0.5) == UNKNOWN  # passed high above
    assert cell(above, HIGH[0], 0.5) == OCCUPIED


def test_what_is_hidden_by_an_obstacle_is_unknown() -> None:
    m = make_map([look(-1.5, 1.0, 1.0, 0.0)])
    m.keyframes[0].conf[:110] = m.keyframes[0].conf[130:] = 0.0
    m.keyframes[0].X[:, 150:170] *= 0.5  # a pillar before the wall
    grid = grid_of(m)
    assert [cell(grid, x, 1.0) for x in (0.66, 0.76, 0.86, 1.0, 2.0)] == [FREE, OCCUPIED, UNKNOWN, UNKNOWN, UNKNOWN]
    assert [cell(grid, x, 1.4) for x in (0.66, 1.0, 2.0)] == [FREE, FREE, FREE]


def test_a_camera_that_looks_over_a_table_does_not_make_it_free() -> None:
    over = [look(-1.5, -0.2, 1.4, yaw) for yaw in np.linspace(-2.0, 2.0, 10)]
    m = make_map([*over, SEEN[-2], SEEN[-1]])
    assert cell(grid_of(m), 1.3, -0.2) == OCCUPIED


def test_an_obstacle_that_many_more_keyframes_see_through_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    m = make_map(12 * [look(-1.5, 1.0, 1.0, 0.0)])
    m.keyframes[3].X[110:130, 150:170] *= 0.5  # something stood there once
    place = 0.76, 1.0
    assert cell(grid_of(m), *place) == OCCUPIED
    monkeypatch.setattr(occupancy, "OVERRULED", 5)
    assert cell(grid_of(m), *place) == FREE


def test_single_wrong_points_are_no_obstacles() -> None:
    m = make_map([look(-1.5, 1.0, 1.0, 0.0)])
    m.keyframes[0].X[120, 161:164] *= 0.5
    assert cell(grid_of(m), 0.76, 0.98) == FREE
    assert cell(grid_of(m, replace(CONFIG, min_points=3)), 0.76, 0.98) == OCCUPIED


def test_beyond_the_range_nothing_is_an_obstacle_but_the_way_is_free() -> None:
    grid = grid_of(make_map([look(-1.5, 1.0, 1.0, 0.0)]), replace(CONFIG, max_range=3.0))
    assert cell(grid, 1.2, 1.0) == FREE
    assert cell(grid, 2.0, 1.0) == cell(grid, HIGH[0], 1.0) == UNKNOWN


def test_points_of_little_confidence_and_points_that_are_nowhere_are_not_looked_at() -> None:
    m = make_map([look(-1.5, 1.0, 1.0, 0.0)])
    m.keyframes[0].X[:5] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, 0.0])[:, None, None]
    assert cell(grid_of(m), HIGH[0], 1.0) == OCCUPIED
    assert grid_of(m, replace(CONFIG, min_conf=2.5)).cells.size == 0


def test_a_map_too_large_is_refused_with_a_way_out() -> None:
    config = replace(CONFIG, max_cells=1000)
    refusal = grid_of(make_map(SEEN), config).refusal
    assert "max_cells is 1000" in refusal and "5 x 4 wide" in refusal
    better = float(refusal.split("resolution to ")[1].rstrip("."))
    assert 0.1 < better < 0.2
    assert grid_of(make_map(SEEN), replace(config, resolution=better + 0.01)).refusal == ""


def test_heights_in_the_wrong_order_are_refused_because_everything_would_be_free() -> None:
    refusal = grid_of(make_map(SEEN[:1]), replace(CONFIG, min_height=2.0)).refusal
    assert "min_height is 2 and max_height 1.5" in refusal


def test_an_empty_map_has_an_empty_grid() -> None:
    assert grid_of(KeyframeMap()).cells.shape == (0, 0)


def test_only_what_has_changed_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    m, builder, looked = make_map(SEEN), GridBuilder(), []
    monkeypatch.setattr(occupancy, "SeenKeyframe", lambda k, *rest: (looked.append(k.id), SeenKeyframe(k, *rest))[1])

    def check(expected: list[int], config: GridConfig = CONFIG) -> None:
        looked.clear()
        grid = finish(builder.steps(m, config))
        assert looked == expected
        fresh = grid_of(m, config)
        np.testing.assert_array_equal(grid.cells, fresh.cells)
        np.testing.assert_array_equal(grid.origin, fresh.origin)

    everything = list(range(len(SEEN)))
    check(everything)
    check([])
    m.keyframes[2].X[10:20] *= 0.9
    check([2])
    m.move({4: Sim3.exp(0.1 * np.ones(7)) @ m.keyframes[4].T_world_cam})
    check([4])
    m.remove_keyframe(1, 0, Sim3.identity())
    check([])
    m.T_map_world = SE3.exp(np.array([0.0, 0.0, 0.1, 0.0, 0.0, 0.3])) @ T_MAP_WORLD
    check([i for i in everything if i != 1])
    check([i for i in everything if i != 1], replace(CONFIG, resolution=0.1))
    assert builder.nbytes > 0


def test_a_furnished_room() -> None:
    sequence = SimulatedSequence(SimulationConfig(frames=40, fps=2.0, width=160, height=120))
    rays = sequence.camera.unproject(np.stack(np.meshgrid(np.arange(160), np.arange(120)), axis=-1))
    m = KeyframeMap()
    m.T_map_world = T_MAP_WORLD
    for i in range(0, 40, 2):
        m.add_keyframe(keyframe(i, sequence.T_world_cam[i], sequence.depth.depth(i), rays, sequence.camera.K))
    grid = grid_of(m)
    corners = np.array([r.origin for r in sequence.world.zones[0].scene.rectangles if r.size[1] > HEIGHT])
    assert len(corners) >= 4
    h, w = grid.cells.shape
    np.testing.assert_allclose(grid.origin, corners[:, :2].min(0), atol=0.15)
    np.testing.assert_allclose(grid.origin + np.array([w, h]) * 0.05, corners[:, :2].max(0), atol=0.15)
    stops = [k.T_world_cam.translation for k in m.keyframes.values()]
    assert all(cell(grid, *(T_MAP_WORLD @ at)[:2]) == FREE for at in stops)
    assert (grid.cells[[1, -2]] == OCCUPIED).mean() > 0.4 and (grid.cells[:, [1, -2]] == OCCUPIED).mean() > 0.4
