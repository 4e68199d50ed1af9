# SPDX-License-Identifier: Apache-2.0
"""The shared data types, and the protocol of the pair models.

Conventions: images are RGB; pixel coordinates are (x, y) with the centre of the top left pixel at (0, 0); cameras are optical
frames (x right, y down, z forward); transforms are labelled `T_a_b` and map coordinates of b to coordinates of a;
`X_a_b` is a pointmap: one 3-D point per pixel of image b, in the coordinates of camera a.
"""

from __future__ import annotations

import enum
import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

    from st3r_ros.geometry.camera import Camera
    from st3r_ros.geometry.transforms import SE3, Sim3
    from st3r_ros.pair.reconstruction import Reconstruction, Stage


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a stream.

    id: number of the frame in the stream, from 0 (skipped, unreadable images are counted).
    stamp_ns: capture time, integer nanoseconds, so that stamps pass through exactly.
    image: (H, W, 3) uint8 RGB, contiguous.
    camera: intrinsics of this image at this size, or None when uncalibrated.
    T_odom_cam: pose of the camera by odometry, metres, or None without odometry.
    source: where the image comes from: the path of its file; for other inputs what `st3r map` takes (a bag with its topic, a
    video), or the live topic, which together with the stamp tell which image it is.
    mask: (H, W) bool, False where a pixel is neither matched nor mapped; None where all can be used.
    lens: the camera that has taken the image, where its distortion was removed since.
    """

    id: int
    stamp_ns: int
    image: np.ndarray
    camera: Camera | None = None
    T_odom_cam: SE3 | None = None
    source: str = ""
    mask: np.ndarray | None = None
    lens: Camera | None = None

    @property
    def stamp(self) -> float:
        """Capture time in seconds."""
        return self.stamp_ns * 1e-9


@dataclass(eq=False)
class Features:
    """The features of one image. Pair models subclass it with their own data.

    image: (h, w, 3) uint8 RGB at the model's working size.
    K: (3, 3) float64 intrinsics at that size (assumed ones when `K_known` is False).
    mask: (h, w) bool at that size, False where a pixel is neither matched nor mapped; None where all can be used.
    """

    image: np.ndarray
    K: np.ndarray
    K_known: bool
    mask: np.ndarray | None = field(default=None, kw_only=True)


@dataclass(frozen=True, eq=False)
class Matches:
    """Correspondences between image 0 and image 1 of a pair, from the first stage of matching to the map.

    pixels0, pixels1: (N, 2) tensors, int64 while they are pixel centres, float32 once they are refined and in a `PairPrediction`.
    weight: (N,) float32, 1 by default. In a `PairPrediction`, the relative trust of each match in (0, 1]; in matching and in a
    `Reconstruction`, its confidence as the network predicts it, above 0.
    possible: number of matches of a pair with full overlap, 0 where it is not counted; `len / possible` measures overlap.
    """

    pixels0: torch.Tensor
    pixels1: torch.Tensor
    weight: torch.Tensor = field(default=None)  # type: ignore[assignment]
    possible: int = 0

    def __post_init__(self) -> None:
        if self.weight is None:
            import torch

            ones = torch.ones(len(self.pixels0), device=self.pixels0.device)
            object.__setattr__(self, "weight", ones)

    def __len__(self) -> int:
        return int(self.pixels0.shape[0])

    def swapped(self) -> Matches:
        """The same with image 0 and image 1 exchanged."""
        return Matches(self.pixels1, self.pixels0, self.weight, self.possible)

    def chosen(self, which: torch.Tensor) -> Matches:
        """The matches at the indices (M,) int64, in that order, or where the mask (N,) bool is True; `possible` is kept."""
        return Matches(self.pixels0[which], self.pixels1[which], self.weight[which], self.possible)

    def to(self, device: torch.device | str) -> Matches:
        """The same on a device."""
        return Matches(self.pixels0.to(device), self.pixels1.to(device), self.weight.to(device), self.possible)


@dataclass(frozen=True, eq=False)
class PairPrediction:
    """The geometry of two images, all in camera 0's coordinates and in the pair's own scale.

    X_0_0, X_0_1: (h, w, 3) float32 pointmaps of image 0 and of image 1, None when only matches were asked for.
    conf0, conf1: (h, w) float32, 0 = unknown; None with the pointmaps. A pixel of confidence c has a relative depth
    error of `ModelTraits.relative_depth_sigma / sqrt(c)`.
    parallax_deg: angle between the two rays of a match, degrees, that a quarter of the matches exceed; 0 for a pure rotation, NaN
    when it was not computed.
    putative: whether the matches were not checked to agree on one geometry.
    """

    matches: Matches
    parallax_deg: float
    X_0_0: torch.Tensor | None = None
    X_0_1: torch.Tensor | None = None
    conf0: torch.Tensor | None = None
    conf1: torch.Tensor | None = None
    putative: bool = False


@dataclass(frozen=True)
class ModelTraits:
    """What a pair model can do, and how.

    metric: whether pointmaps are in metres. monocular_depth: whether an image paired with itself has depth, so that a map can
    begin with the first frame; otherwise `PairPrediction.parallax_deg` says when two frames have parallax.
    relative_depth_sigma: relative depth error of a pixel of confidence 1.
    place_similarity, place_lift: minimum similarity of two descriptors, and its minimum excess over the typical value, for the
    two images to be matched as the same place.
    assumed_fov_deg: horizontal field of view that it assumes for images without a calibration, degrees; None where it estimates
    their focal length.
    device, dtype: where and in what precision it computes, as torch names them. torch_threads: that suit it, 0 for torch's own
    choice.
    """

    metric: bool
    monocular_depth: bool
    relative_depth_sigma: float
    place_similarity: float = -1.0
    place_lift: float = 0.0
    assumed_fov_deg: float | None = None
    device: str = "cpu"
    dtype: str = "float32"
    torch_threads: int = 0

    @property
    def uncalibrated(self) -> str:
        """How images without a calibration are used, as a clause for people."""
        if self.assumed_fov_deg is None:
            return "the focal length is estimated from the first image"
        return f"a horizontal field of view of {self.assumed_fov_deg:g} degrees is assumed"


F = TypeVar("F", bound=Features)


class PairModel(Protocol[F]):
    """A two-view model: encode each image once, then predict the geometry of any pair of encoded images.

    Its features are its own subclass F of `Features`; they are passed back only to the model. Several threads may use it at once:
    one tracks, another one completes keyframes.
    name: of what it computes with, as saved maps record it. traits: what it can do.
    """

    name: str
    traits: ModelTraits

    def encode(self, frame: Frame) -> F:
        """Features of one undistorted image."""
        ...

    def predict(
        self,
        features0: F,
        features1: F,
        *,
        T_0_1: SE3 | None = None,
        seed: Matches | None = None,
        dense: bool = True,
        verified: bool = True,
    ) -> PairPrediction:
        """Pointmaps, confidences and matches of a pair.

        T_0_1: the relative pose, if the caller knows it more accurately than two images give (a model may ignore it); the
        prediction then has the scale of that pose.
        seed: approximate matches of image 1 with image 0, such as those of the previous frame.
        dense: False when only matches are needed; the pointmaps may then be None.
        verified: False when putative matches do, because the caller knows about where the cameras are and asks again where they
        do not fit; a model may verify them all the same.
        """
        ...

    def adopt(self, features: F, pixels: torch.Tensor) -> None:
        """Passes the pixels (N, 2) of a new keyframe with known map points, so that later matches use the same points.

        A model that matches every pixel does nothing.
        """
        ...

    def describe(self, features: F) -> torch.Tensor:
        """Global descriptor of the image, (D,) float32 of unit length: the dot product of two is the similarity of the places."""
        ...

    def reconstruct(
        self, image0: np.ndarray, image1: np.ndarray | None = None, *, fine: bool = False, stage: Stage = nullcontext
    ) -> Reconstruction:
        """Pointmaps in both orders and matches of two images (H, W, 3) uint8 RGB, or the pointmap of one.

        fine: matches at full resolution, where the model can. stage: measures the stages.

        Raises:
            ConfigError: one image is not enough for the model.
        """
        ...


class MappingState(enum.Enum):
    """State of the mapper after a frame."""

    WAITING = "waiting"
    INITIALIZING = "initializing"
    TRACKING = "tracking"
    LOST = "lost"
    RELOCALIZED = "relocalized"
    PAUSED = "paused"


@dataclass(eq=False)
class Keyframe:
    """A keyframe of the map. `T_world_cam` changes with every optimization, the pointmap with every fusion.

    X: (h, w, 3) canonical pointmap in the keyframe's own camera and scale. conf: (h, w) summed confidence. Both float32 while
    frames are fused into them, float16 afterwards.
    image: (h, w, 3) uint8 RGB, undistorted, at the model's working size. K: (3, 3) float64 at that size.
    calibrated: rays of pixels follow from K, known or assumed; otherwise from the directions of the pointmap.
    descriptor: (D,) float32 global descriptor, None before it was computed.
    features: of the pair model, None when they were dropped; they are recomputed from `image`.
    source, lens: as in `Frame`. mask: as in `Features`.
    """

    id: int
    frame_id: int
    stamp_ns: int
    T_world_cam: Sim3
    X: torch.Tensor
    conf: torch.Tensor
    image: np.ndarray
    K: np.ndarray
    K_known: bool = True
    calibrated: bool = True
    descriptor: torch.Tensor | None = None
    features: Features | None = None
    source: str = ""
    lens: Camera | None = None
    mask: np.ndarray | None = None

    def median_depth(self) -> float:
        """Of every 8th known pixel in both directions, in units of the world; 0 when none is known."""
        known = self.X[::8, ::8, 2][self.conf[::8, ::8] > 0]
        return float(known.float().median()) * float(self.T_world_cam.scale) if len(known) else 0.0


EDGE_PIXEL_STEP = 1.0 / 16.0
"""Resolution in pixels of the matches that an edge keeps."""


def packed_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (N, 2) between 0 and 2047 as (N, 2) int16 in steps of EDGE_PIXEL_STEP, on the CPU."""
    import torch

    return (pixels / EDGE_PIXEL_STEP).round().to(torch.int16).cpu()


@dataclass(frozen=True, eq=False)
class Edge:
    """A pair of keyframes connected by sampled matches, packed into ten bytes each; create it with `Edge.pack`.

    kind: "sequential" between keyframes that follow each other or see the same by their poses, "loop" where the camera came
    back to a place. packed_i, packed_j: (N, 2) int16 in sixteenths of a pixel. packed_weight: (N,) float16.
    """

    i: int
    j: int
    kind: str
    packed_i: torch.Tensor
    packed_j: torch.Tensor
    packed_weight: torch.Tensor

    @staticmethod
    def pack(i: int, j: int, kind: str, pixels_i: torch.Tensor, pixels_j: torch.Tensor, weight: torch.Tensor) -> Edge:
        """From pixels (N, 2) between 0 and 2047 and weights (N,)."""
        import torch

        return Edge(i, j, kind, packed_pixels(pixels_i), packed_pixels(pixels_j), weight.to(torch.float16).cpu())

    @property
    def pixels_i(self) -> torch.Tensor:
        """Pixels of keyframe i, (N, 2) float32."""
        return self.packed_i.float() * EDGE_PIXEL_STEP

    @property
    def pixels_j(self) -> torch.Tensor:
        """Pixels of keyframe j, (N, 2) float32."""
        return self.packed_j.float() * EDGE_PIXEL_STEP

    @property
    def weight(self) -> torch.Tensor:
        """Relative trust of each match, (N,) float32."""
        return self.packed_weight.float()

    def __len__(self) -> int:
        return int(self.packed_weight.shape[0])


@dataclass(frozen=True, eq=False)
class FramePose:
    """A tracked frame, relative to its keyframe so that it follows every correction of the map."""

    frame_id: int
    stamp_ns: int
    keyframe_id: int
    T_kf_cam: Sim3


@dataclass(frozen=True)
class MapScale:
    """The source of the map's unit: "none" (arbitrary), "network", "odometry" or "baseline" (metres).

    sigma: relative standard deviation of the unit (0.07 = 7 %), NaN when unknown.
    """

    source: str = "none"
    sigma: float = math.nan

    @property
    def metric(self) -> bool:
        """Whether the map's unit is the metre."""
        return self.source != "none"


@dataclass(frozen=True, eq=False)
class MappingUpdate:
    """The result of one frame.

    T_world_cam: pose of the frame, None unless it was tracked. covariance: (6, 6) float64 of the camera pose, order
    (translation, rotation about fixed axes), in world axes, metres (map units) and radians, None with it.
    changed_keyframes: ids whose pose or pointmap changed. new_keyframe: id, or None.
    timings_ms: stage name -> milliseconds. message: one sentence when something noteworthy happened, else "".
    rescaled: factor of every length of the map when its unit changed with this frame, otherwise 1.
    T_odom_cam: pose of the camera by odometry, None without it or where it cannot be true. odometry_fault: why not, else "".
    odometry_doubt: how odometry that is used contradicts the camera, else "".
    note: the message if it is about a rare event, else "".
    completed_keyframes: ids of those that have got their dense depth and ties, which may take longer than a frame.
    """

    frame_id: int
    stamp_ns: int
    state: MappingState
    T_world_cam: SE3 | None = None
    covariance: np.ndarray | None = None
    new_keyframe: int | None = None
    changed_keyframes: tuple[int, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    message: str = ""
    rescaled: float = 1.0
    T_odom_cam: SE3 | None = None
    odometry_fault: str = ""
    odometry_doubt: str = ""
    note: str = ""
    completed_keyframes: tuple[int, ...] = ()


class LocalizationStatus(enum.Enum):
    """Outcome of localizing a camera relative to a reference or in a map."""

    LOCALIZED = "localized"
    NO_REFERENCE = "no_reference"
    NO_CANDIDATE = "no_candidate"
    TOO_FEW_MATCHES = "too_few_matches"
    AMBIGUOUS = "ambiguous"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, eq=False)
class LocalizationResult:
    """The pose of a query image, or the reason why it is unknown.

    reference: name of the reference, or of the keyframe ("keyframe 12"), that the values refer to; "" without one.
    keyframe_id: of that keyframe, None when it is not one of a map.
    T_ref_cam: pose of the query's camera in the frame of the reference or of the map, None unless LOCALIZED.
    covariance: (6, 6) float64, order (translation, rotation about fixed axes), in the reference's axes, None with it.
    metric: whether the translation is in metres. directional: it is a direction only, of length 1.
    matches, inliers: their numbers. rmse_px: of the inliers' reprojection, NaN without any. inlier_ratio: their share.
    focal_px: of the query, at the size `pixels` refer to; focal_estimated: whether it was estimated here, because the query has
    no calibration. reference_assumed: whether the reference, or the keyframe, has none.
    doubt: one sentence when the query's calibration seems wrong, otherwise "".
    pixels: matches of query (0) and reference (1), at the pair model's working size, None without any; agree: (M,) bool.
    prediction: of query (0) and keyframe (1), None for other references.
    query_image, reference_image: the working images (h, w, 3) uint8 that `pixels` are in, None where there is none.
    reason: one sentence for a person. latency_ms: time it took.
    """

    status: LocalizationStatus
    reason: str
    reference: str = ""
    keyframe_id: int | None = None
    T_ref_cam: SE3 | None = None
    covariance: np.ndarray | None = None
    metric: bool = False
    directional: bool = False
    matches: int = 0
    inliers: int = 0
    rmse_px: float = math.nan
    focal_px: float = math.nan
    focal_estimated: bool = False
    reference_assumed: bool = False
    doubt: str = ""
    pixels: Matches | None = None
    prediction: PairPrediction | None = None
    agree: np.ndarray | None = None
    query_image: np.ndarray | None = None
    reference_image: np.ndarray | None = None
    latency_ms: float = 0.0

    @property
    def localized(self) -> bool:
        """Whether there is a pose."""
        return self.status is LocalizationStatus.LOCALIZED

    @property
    def inlier_ratio(self) -> float:
        """Share of the matches that agree on the pose; 0 without matches."""
        return self.inliers / self.matches if self.matches else 0.0


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Timed camera poses: stamps_ns (N,) int64 increasing; positions (N, 3) and quaternions_xyzw (N, 4) float64, T_world_cam.

    Quaternions are NaN where only positions are known, as of a total station.
    """

    stamps_ns: np.ndarray
    positions: np.ndarray
    quaternions_xyzw: np.ndarray

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def has_rotations(self) -> bool:
        """Whether the poses are whole."""
        return not np.isnan(self.quaternions_xyzw).any()


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points (N, 3) float32 in the world, colors (N, 3) uint8 RGB, conf (N,) float32."""

    points: np.ndarray
    colors: np.ndarray
    conf: np.ndarray

    def __len__(self) -> int:
        return len(self.points)
