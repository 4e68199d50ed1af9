# SPDX-License-Identifier: Apache-2.0
"""The numbers of a pair: poses, focal lengths, matches, confidences, times; as JSON and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import st3r_ros
from st3r_ros.geometry.relative_pose import RelativePose, pose_by_alignment, pose_by_pnp
from st3r_ros.pair.reconstruction import ReconstructedImage, Reconstruction
from st3r_ros.results import peak_rss_mb
from st3r_ros.types import Matches, PairModel

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PNP_THRESHOLD_PX = 4.0
ALIGNED_POINTS = 20_000


@dataclass(frozen=True)
class PoseSummary:
    """T_0_1 as a (4, 4) matrix by rows, with derived values; lengths in the unit of the summary.

    scale_ratio: scale of the first order of the pair relative to the second; 1 when only the first was used.
    """

    T_0_1: tuple[tuple[float, ...], ...]
    translation: float
    rotation_deg: float
    parallax_deg: float
    inliers: int
    inlier_share: float
    scale_ratio: float


@dataclass(frozen=True)
class ImageSummary:
    """An image in its own camera.

    Sizes are (width, height). Focal lengths are in pixels, None when the pointmap gives none. claimed: share of the pixels with
    depth. confidence, depth: their quantiles there, share -> value.
    """

    path: str
    size: tuple[int, int]
    working_size: tuple[int, int]
    focal: float | None
    focal_original: float | None
    claimed: float
    confidence: dict[str, float]
    depth: dict[str, float]


@dataclass(frozen=True)
class PairSummary:
    """summary.json. matches is None for one image alone. pose: PnP on the matches; alignment: of the two orders' pointmaps.

    pose_note: why there is no pose, or "". unit: of every length.
    """

    version: str
    model: str
    checkpoint: str
    metric: bool
    unit: str
    device: str
    dtype: str
    focal_source: str
    images: tuple[ImageSummary, ...]
    matches: int | None
    pose: PoseSummary | None
    pose_note: str
    alignment: PoseSummary | None
    timings_ms: dict[str, float]
    peak_rss_mb: float
    files: tuple[str, ...]


def summarise(
    found: Reconstruction,
    model: PairModel,
    *,
    paths: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    checkpoint: str,
    timings_ms: Mapping[str, float],
    files: Sequence[str],
) -> PairSummary:
    """The numbers of a reconstruction. paths, sizes (width, height): of the image files, one per image."""
    pose, note, alignment = None, "", None
    if found.matches is not None:
        first, second = found.images
        pose, note = find_pose(first, second, found.matches)
        alignment = align(second)
    return PairSummary(
        version=st3r_ros.__version__,
        model=model.name,
        checkpoint=checkpoint,
        metric=model.traits.metric,
        unit="m" if model.traits.metric else "model units",
        device=model.traits.device,
        dtype=model.traits.dtype,
        focal_source=found.focal_source,
        images=tuple(_summarise_image(*item) for item in zip(found.images, paths, sizes, strict=True)),
        matches=None if found.matches is None else len(found.matches),
        pose=None if pose is None else _summarise_pose(pose),
        pose_note=note,
        alignment=None if alignment is None else _summarise_pose(alignment),
        timings_ms={name: round(value, 3) for name, value in timings_ms.items()},
        peak_rss_mb=peak_rss_mb(),
        files=tuple(files),
    )


def find_pose(first: ReconstructedImage, second: ReconstructedImage, matches: Matches) -> tuple[RelativePose | None, str]:
    """The pose of camera 1 from points of image 0 and the pixels of image 1 that match them; or None and the reason."""
    if not np.isfinite(second.K).all():
        return None, "The pointmap of image 1 gives no focal length, so the pose cannot be computed from the matches."
    column, row = np.rint(matches.pixels0.numpy()).astype(np.int64).T
    points0 = np.where(first.conf[row, column, None] > 0.0, first.X_0[row, column], np.nan)
    pose = pose_by_pnp(points0, matches.pixels1.double().numpy(), second.K, PNP_THRESHOLD_PX)
    if pose is None:
        return None, f"No pose agrees with even 6 of the {len(matches)} matches within {PNP_THRESHOLD_PX:g} pixels."
    return pose, ""


def align(second: ReconstructedImage) -> RelativePose | None:
    """The pose of camera 1 that aligns its own pointmap with the one in camera 0's coordinates."""
    step = int(np.ceil(np.sqrt(second.conf.size / ALIGNED_POINTS)))
    rows = (slice(step // 2, None, step), slice(step // 2, None, step))
    conf = np.minimum(second.conf[rows], second.conf_own[rows]).ravel()
    claimed = conf > 0.0
    return pose_by_alignment(second.X_0[rows].reshape(-1, 3)[claimed], second.X_own[rows].reshape(-1, 3)[claimed], conf[claimed])


def summary_lines(summary: PairSummary) -> list[str]:
    """The summary as text, line by line."""
    lines = [f"{summary.model} on {summary.device} in {summary.dtype}."]
    lines += [f"Image {index}: {_image_text(image, summary)}" for index, image in enumerate(summary.images)]
    if summary.matches is not None:
        lines.append(f"Matches: {summary.matches}.")
    if summary.pose is not None:
        lines.append(f"Camera 1 seen from camera 0, by PnP on the matches: {_pose_text(summary.pose, summary.unit)}")
        lines += ["  " + " ".join(f"{number:10.5f}" for number in row) for row in summary.pose.T_0_1]
    if summary.pose_note:
        lines.append(summary.pose_note)
    if summary.alignment is not None:
        text = _pose_text(summary.alignment, summary.unit)
        lines.append(f"By aligning the two orders' pointmaps: {text} Scale ratio {summary.alignment.scale_ratio:.3f}.")
    timings = ", ".join(f"{name} {value:.0f} ms" for name, value in summary.timings_ms.items())
    lines.append(f"Time: {timings}. Memory: {summary.peak_rss_mb:.0f} MB.")
    return lines


def _summarise_image(seen: ReconstructedImage, path: str, size: tuple[int, int]) -> ImageSummary:
    height, width = seen.image.shape[:2]
    claimed = seen.conf_own > 0.0
    return ImageSummary(
        path=path,
        size=size,
        working_size=(width, height),
        focal=_finite(seen.K[0, 0]),
        focal_original=_finite(0.5 * (seen.K_original[0, 0] + seen.K_original[1, 1])),
        claimed=float(claimed.mean()),
        confidence=_quantiles(seen.conf_own[claimed]),
        depth=_quantiles(seen.X_own[..., 2][claimed]),
    )


def _summarise_pose(pose: RelativePose) -> PoseSummary:
    return PoseSummary(
        T_0_1=tuple(tuple(row) for row in pose.T_0_1.as_matrix().tolist()),
        translation=pose.baseline,
        rotation_deg=pose.rotation_deg,
        parallax_deg=pose.parallax_deg,
        inliers=int(pose.inliers.sum()),
        inlier_share=pose.inlier_share,
        scale_ratio=pose.scale_ratio,
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _quantiles(values: np.ndarray) -> dict[str, float]:
    """Empty where no value is finite."""
    known = values[np.isfinite(values)]
    return {f"{share:g}": float(np.quantile(known, share)) for share in QUANTILES} if len(known) else {}


def _image_text(image: ImageSummary, summary: PairSummary) -> str:
    text = f"{image.path}, {image.size[0]}x{image.size[1]} processed at {image.working_size[0]}x{image.working_size[1]}; "
    if image.focal is None or image.focal_original is None:
        text += "its pointmap gives no focal length"
    else:
        text += f"focal length {image.focal:.4g} pixels ({image.focal_original:.4g} in the file; {summary.focal_source})"
    if not image.depth:
        return text + "; no depth."
    for name, quantiles, unit in (("depth", image.depth, f" {summary.unit}"), ("confidence", image.confidence, "")):
        low, middle, high = (quantiles[share] for share in ("0.05", "0.5", "0.95"))
        text += f"; {name} {middle:.3g}{unit} ({low:.3g} to {high:.3g})"
    return text + ("." if image.claimed == 1.0 else f" at {image.claimed:.0%} of the pixels.")


def _pose_text(pose: PoseSummary, unit: str) -> str:
    return (
        f"{pose.translation:.4g} {unit} away, rotated by {pose.rotation_deg:.2f} degrees, "
        f"parallax {pose.parallax_deg:.2f} degrees; {pose.inliers} points agree ({pose.inlier_share:.0%})."
    )
