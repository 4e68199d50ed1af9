# SPDX-License-Identifier: Apache-2.0
"""The occupancy of the map as nav_msgs/OccupancyGrid messages."""

from __future__ import annotations

from collections.abc import Callable

from geometry_msgs.msg import Point, Pose
from nav_msgs.msg import MapMetaData, OccupancyGrid
from std_msgs.msg import Header

from st3r_ros.config import GridConfig
from st3r_ros.products.occupancy import GridBuilder, Occupancy
from st3r_ros.products.steps import Steps
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap


def grid_message(header: Header, grid: Occupancy) -> OccupancyGrid:
    """An OccupancyGrid: cell (0, 0) at the origin, x along the rows, row after row; 100 occupied, 0 free, -1 unknown."""
    h, w = grid.cells.shape
    x, y = grid.origin.tolist()
    info = MapMetaData(map_load_time=header.stamp, resolution=grid.resolution, width=w, height=h)
    info.origin = Pose(position=Point(x=x, y=y))
    message = OccupancyGrid(header=header, info=info)
    message.data.frombytes(grid.cells.tobytes())
    return message


class MapGrid:
    """The grid of a whole map as messages; unchanged keyframes are not processed again.

    warn: called with the reason why there is no grid.
    """

    def __init__(self, warn: Callable[[str], object]) -> None:
        self._builder = GridBuilder()
        self._warn = warn

    @property
    def nbytes(self) -> int:
        """Memory kept for the next message, bytes."""
        return self._builder.nbytes

    def steps(self, header: Header, keyframe_map: KeyframeMap, config: GridConfig) -> Steps[OccupancyGrid | None]:
        """The grid of the current map; None when it is disabled or the map is too large."""
        if not config.enabled:
            self._builder = GridBuilder()
            return None
        grid = yield from self._builder.steps(keyframe_map, config)
        if grid.refusal:
            self._warn(grid.refusal)
            return None
        return grid_message(header, grid)
