# SPDX-License-Identifier: Apache-2.0
"""Pictures of the results of a pair model: matches, and maps of depth or confidence with a legend."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from st3r_ros.types import Matches

DPI = 100
SHOWN_MATCHES = 60
CELLS = 12  # across the longer side: at most one match is drawn from each cell
GAP_PX, HEADER_PX, MARGIN_PX = 12, 34, 12
LEGEND_PX, LEGEND_TICKS = 96, 6
MIN_PICTURE_PX = 1100
NOTHING = "#d4d4d8"


def draw_matches(image0: np.ndarray, image1: np.ndarray, matches: Matches, title: str) -> bytes:
    """Both images side by side with lines between the best matches, as PNG bytes.

    image0, image1: (h, w, 3) uint8, each of its own size. The colour of a line encodes the position of its end in image 0, so
    that a line with another colour than its neighbours in image 1 is a wrong match.
    """
    pixels0, pixels1, conf = (x.double().numpy() for x in (matches.pixels0, matches.pixels1, matches.weight))
    chosen = spread_best(pixels0, conf, image0.shape[:2])
    pixels0, pixels1 = pixels0[chosen], pixels1[chosen]
    (height0, width0), (height1, width1) = image0.shape[:2], image1.shape[:2]
    height, width = max(height0, height1), width0 + GAP_PX + width1
    scale = max(1.0, MIN_PICTURE_PX / width)
    top0, top1, left1 = (height - height0) / 2, (height - height1) / 2, width0 + GAP_PX
    figure = _figure(scale * width, scale * height, title)
    axes = figure.axes[0]
    for image, left, top in ((image0, 0, top0), (image1, left1, top1)):
        h, w = image.shape[:2]
        axes.imshow(image, extent=(left - 0.5, left + w - 0.5, top + h - 0.5, top - 0.5), interpolation="bilinear")
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ends0, ends1 = pixels0 + np.array([0.0, top0]), pixels1 + np.array([left1, top1])
    colors = matplotlib.colormaps["turbo"](0.05 + 0.9 * pixels0[:, 0] / width0)
    outline = [patheffects.withStroke(linewidth=2.6, foreground="black", alpha=0.35)]
    axes.add_collection(LineCollection(np.stack([ends0, ends1], axis=1), colors=colors, linewidths=1.3, path_effects=outline))
    for ends in (ends0, ends1):
        axes.scatter(ends[:, 0], ends[:, 1], s=22, c=colors, edgecolors="white", linewidths=0.8, zorder=3)
    return _png(figure)


def draw_values(values: np.ndarray, title: str, *, colors: str, logarithmic: bool = False) -> bytes:
    """A map (h, w) as a picture with a colour bar, as PNG bytes; pixels that are not finite are grey.

    colors: name of a matplotlib colour map. The colours span the middle 96 % of the values, to reduce the influence of
    outliers. logarithmic: logarithmic colours for values above 0.
    """
    known = values[np.isfinite(values)]
    low, high = (float(limit) for limit in np.percentile(known, (2.0, 98.0))) if len(known) else (1.0, 2.0)
    if not high > low:
        low, high = low - 0.5 * abs(low) - 1e-6, high + 0.5 * abs(high) + 1e-6
    norm = LogNorm(low, high) if logarithmic and low > 0.0 else Normalize(low, high)
    height, width = values.shape
    scale = max(1.0, 0.5 * MIN_PICTURE_PX / width)
    figure = _figure(scale * width, scale * height, title, right_px=LEGEND_PX)
    axes = figure.axes[0]
    axes.set_facecolor(NOTHING)
    shown = axes.imshow(np.ma.masked_invalid(values), cmap=colors, norm=norm, interpolation="nearest")
    box = axes.get_position()
    free = 1.0 - box.x1
    legend = figure.add_axes((box.x1 + 0.15 * free, box.y0, 0.16 * free, box.height))
    ticks = [float(tick) for tick in norm.inverse(np.linspace(0.0, 1.0, LEGEND_TICKS))]
    bar = figure.colorbar(shown, cax=legend, extend="both", ticks=ticks)
    bar.minorticks_off()
    bar.ax.set_yticklabels([f"{tick:.3g}" for tick in ticks])
    return _png(figure)


def spread_best(pixels: np.ndarray, conf: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Indices of at most `SHOWN_MATCHES` matches, best first: the best of each cell of a grid over the image.

    pixels: (N, 2) in the image of `shape` (h, w). conf: (N,).
    """
    order = np.argsort(-conf, kind="stable")
    cell = np.floor(pixels[order] / (max(shape) / CELLS)).astype(np.int64)
    _, first = np.unique(cell, axis=0, return_index=True)
    return order[np.sort(first)[:SHOWN_MATCHES]]


def _figure(width_px: float, height_px: float, title: str, right_px: float = 0.0) -> Figure:
    """A figure with one frameless picture of that size under a title."""
    full_width, full_height = width_px + 2 * MARGIN_PX + right_px, height_px + HEADER_PX + MARGIN_PX
    figure = Figure(figsize=(full_width / DPI, full_height / DPI), dpi=DPI, facecolor="white")
    axes = figure.add_axes((MARGIN_PX / full_width, MARGIN_PX / full_height, width_px / full_width, height_px / full_height))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    figure.text(MARGIN_PX / full_width, 1.0 - 0.5 * HEADER_PX / full_height, title, fontsize=10, va="center")
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
