# SPDX-License-Identifier: Apache-2.0
"""A ring of furnished rooms around a block: each is seen once before the path returns to the first."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from st3r_ros.sim.house import Box, Style, furnished
from st3r_ros.sim.route import STEP, Route, heading_along, length_of, resampled, swaying, through, waves
from st3r_ros.sim.scene import Place
from st3r_ros.sim.world import World
from st3r_ros.sim.zones import Zone

_BAND = (5.0, 6.0)  # metres from the outer wall to the block
_ROOM = 8.0  # approximate length of the path through a room that is not at a corner, metres
_ROUNDS = 1.05  # the last frames see the same as the first ones
_GRAIN = 2.0
_GLANCE = 0.45  # maximum sideways glance of the camera, radians


@dataclass(frozen=True, eq=False)
class _Plan:
    """The random parameters of the ground plan, except its size.

    bands: (4,) metres, depth of the rooms in the south, east, north, west. shares: per side, relative lengths of the rooms
    between the corners, mean 1. shifts: (rooms,) offsets of the doorways from the middle of the wall, metres. bulges: (rooms,)
    metres.
    """

    bands: np.ndarray
    shares: tuple[np.ndarray, ...]
    shifts: np.ndarray
    bulges: np.ndarray

    @staticmethod
    def random(rng: np.random.Generator, length: float) -> _Plan:
        pairs = max(1, round((length - 17.0) / (2 * _ROOM)))
        counts = (-(-pairs // 2), pairs // 2) * 2
        shares = tuple(share / share.mean() if len(share) else share for share in (rng.uniform(0.85, 1.15, n) for n in counts))
        rooms = 4 + sum(counts)
        bulges = rng.uniform(0.2, 0.6, rooms) * rng.choice([-1, 1], rooms)
        return _Plan(rng.uniform(*_BAND, 4), shares, rng.uniform(-0.8, 0.8, rooms), bulges)

    def boxes(self, side: float) -> list[tuple[Box, int]]:
        """The rooms, counter-clockwise from the south-west, each with the direction of its exit: east, north, west or south (0 to
        3).

        side: mean length of the rooms between the corners, metres.
        """
        south, east, north, west = self.bands
        width, height = west + side * len(self.shares[0]) + east, south + side * len(self.shares[1]) + north
        rooms = []
        for turn, (corner, band) in enumerate([(west, south), (south, east), (east, north), (north, west)]):
            along, across = (width, height) if turn % 2 == 0 else (height, width)
            joints = np.cumsum([-along / 2, corner, *(side * self.shares[turn])])
            for start, end in itertools.pairwise(joints):
                at = Place(0.0, 0.0, turn * np.pi / 2).moved((start + end) / 2, (band - across) / 2)
                half = float(end - start) / 2, float(band) / 2
                rooms.append((Box(Place(at.x, at.y), half if turn % 2 == 0 else half[::-1]), turn))
        return rooms

    def doors(self, rooms: list[tuple[Box, int]]) -> list[Place]:
        """The exit doorway of each room, local x in the direction of the path."""
        doors = []
        for (box, turn), shift in zip(rooms, self.shifts, strict=True):
            out = Place(box.place.x, box.place.y, turn * np.pi / 2)
            doors.append(out.moved(box.half[turn % 2], float(shift)))
        return doors

    def lines(self, rooms: list[tuple[Box, int]], doors: list[Place]) -> list[np.ndarray]:
        """The path through each room, (P, 2)."""
        lines = []
        for k, (_, turn) in enumerate(rooms):
            corner = turn != rooms[k - 1][1]
            lines.append(through(doors[k - 1], doors[k], 0.0 if corner else float(self.bulges[k]), 1.15 if corner else 1.0))
        return lines


def ring_of_rooms(seed: int, length: float) -> World:
    """A ring of rooms with a path of `length` metres through all of them, which overlaps a little with its start."""
    rng = np.random.default_rng([seed, 3])
    plan, side = _Plan.random(rng, length), _ROOM
    for _ in range(6):  # the length of the path is almost linear in the side
        rooms = plan.boxes(side)
        doors = plan.doors(rooms)
        lines = plan.lines(rooms, doors)
        side += (length - sum(map(length_of, lines))) / sum(map(len, plan.shares))
    zones = [_zone(np.random.default_rng([seed, 3, k]), k, rooms, doors, lines) for k in range(len(rooms))]
    return World(tuple(zones), _round(rng, lines, length), grain=_GRAIN)


def _zone(rng: np.random.Generator, k: int, rooms: list[tuple[Box, int]], doors: list[Place], lines: list[np.ndarray]) -> Zone:
    box, after = rooms[k][0], (k + 1) % len(rooms)
    back = doors[k - 1].moved(0, 0, np.pi)
    near = [lines[k - 1][len(lines[k - 1]) // 2 :], lines[k], lines[after][: len(lines[after]) // 2]]
    way = box.place.to_local(np.pad(np.concatenate(near), ((0, 0), (0, 1))))[:, :2]
    corner = rooms[k - 1][1] != rooms[k][1]
    lamps = (2, 1) if corner else (3, 1) if box.half[0] > box.half[1] else (1, 3)
    scene = furnished(rng, box.inner, [box.local(doors[k]), box.local(back)], way, Style(lamps=lamps))
    return box.zone(scene, [(doors[k], after), (back, (k - 1) % len(rooms))])


def _round(rng: np.random.Generator, lines: list[np.ndarray], length: float) -> Route:
    """From the middle of the second room once around and a little further."""
    closed = np.concatenate(lines[1:] + lines[:1])
    closed = np.roll(closed, -len(lines[1]) // 2, axis=0)
    points = resampled(np.concatenate([closed] * 3), STEP)
    start, count = round(length / STEP), round(_ROUNDS * length / STEP)
    yaw = heading_along(points)
    yaw = yaw[start:][:count] + _GLANCE * waves(rng, count, [13.0, 5.0], length)
    return Route(swaying(rng, points[start:][:count], yaw))
