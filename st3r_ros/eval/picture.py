# SPDX-License-Identifier: Apache-2.0
"""A picture of a map: the coloured cloud from above and from the side, with the estimated and the true camera path."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from st3r_ros.eval.raster import PlotWindow, level_axes, rasterise, robust_bounds
from st3r_ros.geometry import so3
from st3r_ros.geometry.leveling import up_of_cameras
from st3r_ros.types import PointCloud, Trajectory

DPI = 110
PANEL_WIDTH, MIN_PANEL_HEIGHT, MAX_PANEL_HEIGHT = 9.5, 1.5, 8.0
LEFT, RIGHT, TOP, GAP, BOTTOM = 0.8, 0.2, 0.85, 0.75, 0.6
MARGIN = 0.04
LEVEL_NAMES = ("along", "across", "up")
ESTIMATE_COLOR, TRUTH_COLOR = "#e11d48", "#1d4ed8"
MAX_POINTS = 2_000_000
"""Points drawn at most, more than there are pixels: of a larger cloud every n-th, and it has its points in an order of places."""
OUTLINE = [patheffects.withStroke(linewidth=4.2, foreground="white")]


@dataclass(frozen=True, eq=False)
class DrawnScene:
    """Everything in level coordinates (along, across, up), map units: (.., 3) each, colors (N, 3) uint8."""

    points: np.ndarray
    colors: np.ndarray
    estimate: np.ndarray
    keyframes: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Panel:
    """One projection of the scene: its two level coordinates, their range, and the height in inches."""

    name: str
    dims: tuple[int, int]
    window: PlotWindow
    height: float


def draw_map(
    cloud: PointCloud,
    estimate: Trajectory,
    keyframes: Trajectory,
    truth: Trajectory | None = None,
    *,
    title: str = "",
    unit: str = "map units",
) -> bytes:
    """The picture as PNG bytes.

    cloud, estimate, keyframes: in map coordinates. truth: aligned with them (`align_truth`). unit: name of the map's unit.
    The limits follow the bulk of the cloud, so that outliers do not shrink the view. Empty parts are not drawn.
    """
    axes = _level_axes(cloud, estimate)
    drawn = slice(None, None, max(1, -(-len(cloud) // MAX_POINTS)))
    scene = DrawnScene(
        points=cloud.points[drawn] @ axes.T.astype(np.float32),
        colors=cloud.colors[drawn],
        estimate=estimate.positions @ axes.T,
        keyframes=keyframes.positions @ axes.T,
        truth=truth.positions @ axes.T if truth is not None else np.zeros((0, 3)),
    )
    panels = _lay_out(scene)
    width = LEFT + PANEL_WIDTH + RIGHT
    height = TOP + panels[0].height + GAP + panels[1].height + BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    top = height - TOP
    for panel in panels:
        top -= panel.height
        rectangle = (LEFT / width, top / height, PANEL_WIDTH / width, panel.height / height)
        _draw(figure.add_axes(rectangle), scene, panel, unit)
        top -= GAP
    figure.text(LEFT / width, 1.0 - 0.3 / height, title, fontsize=12, fontweight="bold", va="center")
    if len(estimate):
        figure.axes[0].legend(loc="upper right", fontsize=9, framealpha=0.85)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _level_axes(cloud: PointCloud, estimate: Trajectory) -> np.ndarray:
    """Rows along, across, up."""
    if len(estimate) == 0:
        return np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    rotation = so3.from_quaternion_xyzw(estimate.quaternions_xyzw)
    return level_axes(up_of_cameras(rotation), rotation[:, :, 2].mean(axis=0), cloud.points if len(cloud) else estimate.positions)


def _lay_out(scene: DrawnScene) -> list[Panel]:
    """The two panels, at the same scale in all directions."""
    bounds = robust_bounds(scene.points, np.concatenate([scene.estimate, scene.truth]))
    centre, size = (bounds.low + bounds.high) / 2.0, (1.0 + 2.0 * MARGIN) * (bounds.high - bounds.low)
    size = np.maximum(size, 0.02 * max(float(size.max()), 1e-6))
    inches_per_unit = min(PANEL_WIDTH / size[0], MAX_PANEL_HEIGHT / max(size[1], size[2]))
    panels = []
    for name, vertical in (("from above", 1), ("from the side", 2)):
        height = max(MIN_PANEL_HEIGHT, inches_per_unit * size[vertical])
        half_width, half_height = PANEL_WIDTH / inches_per_unit / 2.0, height / inches_per_unit / 2.0
        x, y = centre[0], centre[vertical]
        panels.append(
            Panel(name, (0, vertical), PlotWindow(x - half_width, x + half_width, y - half_height, y + half_height), height)
        )
    return panels


def _draw(axes: Axes, scene: DrawnScene, panel: Panel, unit: str) -> None:
    window, dims = panel.window, list(panel.dims)
    image = rasterise(scene.points[:, dims], scene.colors, window, round(PANEL_WIDTH * DPI), round(panel.height * DPI))
    axes.imshow(image, extent=(window.left, window.right, window.bottom, window.top), interpolation="none", aspect="auto")
    if len(scene.estimate):
        axes.plot(*scene.estimate[:, dims].T, color=ESTIMATE_COLOR, lw=2.6, path_effects=OUTLINE, label="estimated path")
    if len(scene.truth):
        # Above the estimate, so that both are visible where they agree.
        axes.plot(*scene.truth[:, dims].T, color=TRUTH_COLOR, lw=1.5, ls=(0, (3, 2)), label="true path")
    if len(scene.keyframes):
        axes.plot(*scene.keyframes[:, dims].T, "o", color=ESTIMATE_COLOR, mec="white", mew=0.6, ms=4, label="keyframes")
    if len(scene.estimate):
        axes.plot(*scene.estimate[:1, dims].T, "*", color=ESTIMATE_COLOR, mec="white", ms=16, label="start")
    axes.set(
        xlim=(window.left, window.right),
        ylim=(window.bottom, window.top),
        xlabel=f"{LEVEL_NAMES[dims[0]]} [{unit}]",
        ylabel=f"{LEVEL_NAMES[dims[1]]} [{unit}]",
    )
    axes.set_title(panel.name, fontsize=10, loc="left")
    axes.set_facecolor("#f8fafc")
    axes.grid(color="#94a3b8", alpha=0.25, lw=0.6)
