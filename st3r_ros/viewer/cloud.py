# SPDX-License-Identifier: Apache-2.0
"""A cloud on the page, part of which can be shown or hidden without sending it again."""

from __future__ import annotations

from typing import Any

import numpy as np

from st3r_ros.viewer.thinning import layers
from st3r_ros.viewer.turning import FEWEST_POINTS


class LayeredCloud:
    """Layers of points below a node of viser's scene, each spread over the whole cloud, so that the first few show all of it.

    points: number on the page. drawn: number of visible ones.
    """

    def __init__(self, server: Any, node: str) -> None:
        self._server, self._node = server, node
        self._layers: list[Any] = []
        self._sums = [0]
        self.drawn = 0

    @property
    def points(self) -> int:
        """Number of points on the page."""
        return self._sums[-1]

    def show(self, points: np.ndarray, colors: np.ndarray, max_points: int, limit: int, size: float) -> None:
        """Replaces the cloud; points (N, 3) float32, colors (N, 3) uint8. limit, size: as for `draw`."""
        parts = layers(points, FEWEST_POINTS, max_points)
        self._sums = np.cumsum([len(part) for part in parts]).tolist()
        visible = self._visible(limit)
        self.drawn = self._sums[visible - 1]
        with self._server.atomic():
            for layer in self._layers[len(parts) :]:
                layer.remove()
            self._layers = [
                self._server.scene.add_point_cloud(  # replaces the last one of this name
                    f"{self._node}/{number}",
                    points[part],
                    colors[part],
                    point_size=self._point_size(size),
                    point_shading="flat",
                    precision="float32",
                    visible=number < visible,
                )
                for number, part in enumerate(parts)
            ]

    def draw(self, limit: int, size: float) -> None:
        """Draw about `limit` of the points, so large that neighbours touch where they lie on surfaces of extent `size`."""
        visible = self._visible(limit)
        self.drawn = self._sums[visible - 1]
        point_size = self._point_size(size)
        with self._server.atomic():
            for number, layer in enumerate(self._layers):
                if layer.visible != (number < visible):
                    layer.visible = number < visible
                if number < visible and layer.point_size != point_size:
                    layer.point_size = point_size

    def _visible(self, limit: int) -> int:
        """How many layers: a little more than the limit is no harm, and the first is always shown."""
        return max(1, sum(total <= 1.2 * limit for total in self._sums))

    def _point_size(self, size: float) -> float:
        return float(size / np.sqrt(max(self.drawn, 1000)))
