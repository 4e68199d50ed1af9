# SPDX-License-Identifier: Apache-2.0
"""A picture of one attempt to localize: query and reference side by side, and which of their matches agree on a pose."""

from __future__ import annotations

import cv2
import numpy as np

from st3r_ros.types import LocalizationResult, LocalizationStatus

SHOWN_AGREEING, SHOWN_OTHERS = 200, 100
BANDS = 12  # rows of cells that sort the matches, to choose them evenly over the image
COLORS = 16
GAP_PX = 8
BACKGROUND, TEXT, DISAGREEING = (24, 24, 27), (244, 244, 245), (228, 228, 231)
FAINT, CLEAR = 0.3, 0.45
FONT, MAX_FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.55
STATUS_COLORS = {LocalizationStatus.LOCALIZED: (34, 197, 94), LocalizationStatus.AMBIGUOUS: (245, 158, 11)}
REFUSED = (239, 68, 68)


def draw_matches(query_image: np.ndarray, reference_image: np.ndarray | None, result: LocalizationResult) -> np.ndarray:
    """The query on the left, the reference on the right, their matches, and a line of text; (H, W, 3) uint8 RGB.

    query_image, reference_image: (h, w, 3) uint8 RGB, undistorted and at the pair model's working size, to which
    `result.pixels` refers; without a reference only the query is drawn. Inliers are coloured by their position in the query, so
    that a line with another colour than its neighbours is a wrong match; outliers are faint. At most `SHOWN_AGREEING` and
    `SHOWN_OTHERS` are drawn, spread over the image.
    """
    images = [query_image] if reference_image is None else [query_image, reference_image]
    canvas = _side_by_side(images)
    if result.pixels is not None and reference_image is not None and len(result.pixels):
        pixels = [p.detach().cpu().numpy().astype(np.float64) for p in (result.pixels.pixels0, result.pixels.pixels1)]
        agree = np.zeros(len(pixels[0]), bool) if result.agree is None else np.asarray(result.agree, bool)
        ends = np.stack([p + _origin(images, side) for side, p in enumerate(pixels)], axis=1)
        others, agreeing = (chosen[_from_all_over(pixels[0][chosen], most)] for chosen, most in _kinds(agree))
        canvas = _draw_others(canvas, ends[others])
        canvas = _draw_agreeing(canvas, ends[agreeing], pixels[0][agreeing, 0] / query_image.shape[1])
    return np.concatenate([canvas, _caption(canvas.shape[1], result)])


def caption_text(result: LocalizationResult) -> str:
    """The caption, one line."""
    status = result.status.value.replace("_", " ").upper()
    if not result.localized and result.reason:
        return f"{status}: {result.reason}"
    of = f" in {result.reference}" if result.reference else ""
    error = f", RMSE {result.rmse_px:.2f} px" if np.isfinite(result.rmse_px) else ""
    unit = "" if result.metric else ", direction only" if result.directional else ", up to scale"
    return f"{status}{of}: {result.inliers} of {result.matches} matches agree{error}{unit if result.localized else ''}"


def _kinds(agree: np.ndarray) -> tuple[tuple[np.ndarray, int], ...]:
    """Indices of outliers and inliers, each with the maximum number to draw."""
    return (np.flatnonzero(~agree), SHOWN_OTHERS), (np.flatnonzero(agree), SHOWN_AGREEING)


def _side_by_side(images: list[np.ndarray]) -> np.ndarray:
    """The images side by side with a gap, vertically centred."""
    height, width = max(i.shape[0] for i in images), sum(i.shape[1] for i in images) + GAP_PX * (len(images) - 1)
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    for side, image in enumerate(images):
        left, top = _origin(images, side)
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _origin(images: list[np.ndarray], side: int) -> np.ndarray:
    """Position (x, y) of the top left pixel of an image on the canvas."""
    top = (max(i.shape[0] for i in images) - images[side].shape[0]) // 2
    return np.array([sum(i.shape[1] + GAP_PX for i in images[:side]), top])


def _from_all_over(pixels: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most `most` of the pixels (N, 2), spread evenly over the image."""
    if len(pixels) <= most:
        return np.arange(len(pixels))
    band = np.floor(BANDS * pixels[:, 1] / (pixels[:, 1].max() + 1.0))
    order = np.lexsort((pixels[:, 0], band))
    return order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)]


def _draw_others(canvas: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Draws faint lines between ends (N, 2, 2)."""
    over = cv2.polylines(canvas.copy(), _polylines(ends), False, DISAGREEING, 1, cv2.LINE_AA)
    return cv2.addWeighted(over, FAINT, canvas, 1.0 - FAINT, 0.0)


def _draw_agreeing(canvas: np.ndarray, ends: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Draws thin lines with dots at their ends; place: (N,) in 0 to 1 selects the colour."""
    ramp = cv2.applyColorMap(np.linspace(12, 243, COLORS).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    groups = [(_polylines(ends[_color(place) == k]), ramp[k].tolist()) for k in range(COLORS)]
    over = canvas.copy()
    for lines, color in groups:
        cv2.polylines(over, lines, False, color, 1, cv2.LINE_AA)
    canvas = cv2.addWeighted(over, CLEAR, canvas, 1.0 - CLEAR, 0.0)
    for lines, color in groups:
        dots = [np.repeat(line[i : i + 1], 2, axis=0) for line in lines for i in (0, 1)]
        cv2.polylines(canvas, dots, False, color, 4, cv2.LINE_AA)  # a thick line of zero length is a dot
    return canvas


def _color(place: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(place * COLORS), 0, COLORS - 1).astype(np.int64)


def _polylines(ends: np.ndarray) -> list[np.ndarray]:
    return list(np.rint(ends).astype(np.int32))


def _caption(width: int, result: LocalizationResult) -> np.ndarray:
    """A strip of this width with a mark in the colour of the status and the text, as large as fits."""
    text = caption_text(result).encode("ascii", "replace").decode()  # the font has only these characters
    indent = 26
    natural = cv2.getTextSize(text, FONT, MAX_FONT_SCALE, 1)[0][0]
    scale = MAX_FONT_SCALE * min(1.0, (width - indent - 8) / natural)
    strip = np.full((28, width, 3), BACKGROUND, np.uint8)
    cv2.rectangle(strip, (8, 8), (18, 19), STATUS_COLORS.get(result.status, REFUSED), cv2.FILLED)
    cv2.putText(strip, text, (indent, 14 + round(10 * scale)), FONT, scale, TEXT, 1, cv2.LINE_AA)
    return strip
