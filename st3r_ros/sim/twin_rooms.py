# SPDX-License-Identifier: Apache-2.0
"""Two identical rooms on one side of a corridor; one is the other rotated by half a turn.

Each room has an identical lobby at both doors, with doorways so far out of line that the outside is not visible from the room.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from st3r_ros.sim import furniture, textures
from st3r_ros.sim.interior import DOOR_HEIGHT, DOOR_WIDTH, Box, Style, furnished, outwards
from st3r_ros.sim.paths import STEP, Route, heading_along, length_of, resampled, swaying, through, waves
from st3r_ros.sim.scene import Place, Scene
from st3r_ros.sim.world import Twins, World, Zone

_ROOM_A, _EAST_A, _CORRIDOR, _WEST_B, _ROOM_B, _WEST_A, _EAST_B, _BLIND_A, _BLIND_B = range(9)  # the zones

_LOBBY = (1.1, 2.35)  # half sizes including half the walls, metres
_CORRIDOR_WIDTH = 2.4
_OFFSET = 2.6  # metres between the doorways of a lobby, along its walls
_PLAIN = Style(furniture.NARROW, gaps=(0.3, 1.0), lonely=0, lamps=(1, 2))
_TOUR = (0.16, 0.9)  # share of the path between the doors of a room that is the same in both
_GLANCE = 0.3  # radians


@dataclass(frozen=True)
class _Unit:
    """Room and lobbies in room coordinates; symmetric under half a turn.

    half: half size of the room including half the walls, metres. door: (x, y) of the doorway to the eastern lobby; the path leads
    east.
    """

    half: tuple[float, float]
    door: tuple[float, float]

    @property
    def east(self) -> Place:
        """The eastern lobby."""
        return Place(self.half[0] + _LOBBY[0], self.door[1] + _OFFSET / 2)

    @property
    def exit(self) -> Place:
        """The doorway out of the eastern lobby, local x outwards."""
        return Place(self.half[0] + 2 * _LOBBY[0], self.door[1] + _OFFSET)

    @property
    def doors(self) -> tuple[Place, Place, Place, Place]:
        """Doorways into the western lobby, the room, the eastern lobby, and out of it; local x along the path."""
        (x, y), out = self.door, self.exit
        return Place(-out.x, -out.y), Place(-x, -y), Place(x, y), out


def twin_rooms(seed: int) -> World:
    """A path through a room, along a corridor, and through the room's twin."""
    rng = np.random.default_rng([seed, 4])
    half = float(rng.uniform(3.6, 4.0)), float(rng.uniform(3.1, 3.4))
    unit = _Unit(half, (half[0], 1.15 - half[1]))
    home = Place(), Place(0.0, float(rng.uniform(8.5, 11.0)), np.pi)
    doors = unit.doors
    inside = [through(doors[i], doors[i + 1], bulge, 1.1) for i, bulge in enumerate((0.0, float(rng.uniform(-0.5, 0.5)), 0.0))]
    enter, leave = home[0].moved(unit.exit.x, unit.exit.y), home[1].moved(doors[0].x, doors[0].y)
    bend = Place(enter.x + _CORRIDOR_WIDTH / 2, (enter.y + leave.y) / 2, np.pi / 2)
    outside = np.concatenate([through(enter, bend, 0.0, 0.8), through(bend, leave, 0.0, 0.8)])
    zones = _zones(seed, unit, home, inside, outside)
    a, b = ({k: zones[k] for k in group} for group in ((_ROOM_A, _EAST_A, _WEST_A), (_ROOM_B, _EAST_B, _WEST_B)))
    T_a_b = zones[_ROOM_A].T_world_zone @ zones[_ROOM_B].T_world_zone.inverse()
    return World(zones, _way(rng, home, inside, outside), grain=2.0, twins=Twins(T_a_b, a, b))


def _zones(seed: int, unit: _Unit, home: tuple[Place, Place], inside: list[np.ndarray], outside: np.ndarray) -> tuple[Zone, ...]:
    rngs = [np.random.default_rng([seed, 4, k]) for k in range(4)]
    first, second, third, fourth = unit.doors
    plans = [Box(Place(), unit.half), Box(unit.east, _LOBBY), Box(Place(-unit.east.x, -unit.east.y), _LOBBY)]
    joints = [[_back(second), third], [_back(third), fourth], [_back(first), second]]  # of room, eastern and western lobby
    line = np.concatenate(inside)
    scenes = [
        furnished(rng, plan.inner, [plan.local(door) for door in doors], _into(plan, line), style)
        for rng, plan, doors, style in zip(rngs, plans, joints, (Style(), _PLAIN, _PLAIN), strict=False)
    ]

    def place(kind: int, at: Place, *leads_to: int) -> Zone:
        plan = Box(at.moved(plans[kind].place.x, plans[kind].place.y), plans[kind].half)
        doors = [at.moved(door.x, door.y, door.yaw) for door in joints[kind]]
        return plan.zone(scenes[kind], list(zip(doors, leads_to, strict=True)))

    (a, b), ends = home, (_back(first), fourth)
    return (
        place(0, a, _WEST_A, _EAST_A),
        place(1, a, _ROOM_A, _CORRIDOR),
        _corridor(rngs[3], _back(a.moved(fourth.x, fourth.y)), b.moved(first.x, first.y), outside),
        place(2, b, _CORRIDOR, _ROOM_B),
        place(0, b, _WEST_B, _EAST_B),
        place(2, a, _BLIND_A, _ROOM_A),
        place(1, b, _ROOM_B, _BLIND_B),
        *(_closed_door(rngs[3], at.moved(end.x, end.y, end.yaw)) for at, end in zip(home, ends, strict=True)),
    )


def _corridor(rng: np.random.Generator, south: Place, north: Place, way: np.ndarray) -> Zone:
    """East of two doors that lead out of it westwards."""
    low, high = south.y - 1.5, north.y + 1.5
    plan = Box(Place(south.x + _CORRIDOR_WIDTH / 2, (low + high) / 2), (_CORRIDOR_WIDTH / 2, (high - low) / 2))
    scene = furnished(rng, plan.inner, [plan.local(south), plan.local(north)], _into(plan, way), replace(_PLAIN, lamps=(1, 4)))
    return plan.zone(scene, [(south, _EAST_A), (north, _WEST_B)])


def _back(door: Place) -> Place:
    """A doorway seen from its other side."""
    return door.moved(0, 0, np.pi)


def _into(box: Box, line: np.ndarray) -> np.ndarray:
    """A line (P, 2) in the coordinates of a box."""
    return box.place.to_local(np.pad(line, ((0, 0), (0, 1))))[:, :2]


def _closed_door(rng: np.random.Generator, door: Place) -> Zone:
    """The end of an opening that leads nowhere, local x outwards."""
    scene, (x, z) = Scene(), (DOOR_WIDTH, DOOR_HEIGHT)
    scene.rectangle(Place(), (-x / 2, 0.02, z), (x, 0, 0), (0, 0, -z), material=textures.wood(rng))
    return Zone(scene, outwards(door), (-x / 2, 0.0, x / 2, 0.1))


def _way(rng: np.random.Generator, home: tuple[Place, Place], inside: list[np.ndarray], outside: np.ndarray) -> Route:
    """Through the room, the corridor and the twin, with the same points, sway and glances in both rooms."""
    unit = np.concatenate(inside)
    twice = [np.stack([place.to_world((x, y, 0.0))[:2] for x, y in unit]) for place in home]
    period = length_of(unit) + length_of(outside)
    rounds = max(1, round(period / STEP))
    points = resampled(np.concatenate([twice[0], outside, twice[1]]), period / rounds)
    lobby, room = length_of(inside[0]), length_of(inside[1])
    start, end = (round((lobby + share * room) / STEP) for share in _TOUR)
    count = rounds + end - start + 1
    yaw = heading_along(points) + _GLANCE * waves(rng, len(points), [6.0, 3.5], rounds * STEP)
    return Route(swaying(rng, points, yaw, rounds * STEP)[start : start + count], again=end - start + 1)
