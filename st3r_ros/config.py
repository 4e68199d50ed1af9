# SPDX-License-Identifier: Apache-2.0
"""All settings of the package: frozen dataclasses that validate themselves, and the only place of defaults.

A field made with `setting(...)` has a description and a range; ROS parameters and command line options are declared from these
fields. A bad value raises `ConfigError` with the name, the value and what is allowed;
nothing is clamped.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from st3r_ros.errors import ConfigError
from st3r_ros.frame_names import frame_name


def setting(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
    frame: bool = False,
) -> Any:
    """A dataclass field with a description, a closed range or choices, and whether it may change while running.

    frame: the setting is the name of a TF frame; a leading slash is removed.
    """
    metadata = {"description": description, "low": low, "high": high, "choices": choices, "live": live, "frame": frame}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Validated:
    """Base class of the configurations: checks type, range and choices of every field."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if "description" in item.metadata:
                _check(item, getattr(self, item.name))
                if item.metadata["frame"]:
                    object.__setattr__(self, item.name, frame_name(getattr(self, item.name)))


def _check_frames(config: Validated, root: str, *others: str) -> None:
    """Checks that `root` is not empty and that `others` are different frames."""
    name = getattr(config, root)
    if not name:
        raise ConfigError(f"{root} is ''; it must name a TF frame.")
    for other in others:
        if getattr(config, other) == name:
            raise ConfigError(f"{root} and {other} are both '{name}'; a TF frame cannot be its own parent.")


def _check(item: dataclasses.Field, value: Any) -> None:
    kind = type(item.default)
    number_ok = kind is float and isinstance(value, int | float) and not isinstance(value, bool)
    if not (type(value) is kind or number_ok):
        raise ConfigError(f"{item.name} is {value!r}, a {type(value).__name__}; it must be a {kind.__name__}.")
    choices, low, high = item.metadata["choices"], item.metadata["low"], item.metadata["high"]
    if choices and value not in choices:
        raise ConfigError(f"{item.name} is {value!r}; it must be one of {', '.join(choices)}.")
    if kind in (int, float) and not math.isfinite(value):
        raise ConfigError(f"{item.name} is {value!r}; it must be a finite number.")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ConfigError(f"{item.name} is {value!r}; it must be {_range(low, high)}.")


def _range(low: float | None, high: float | None) -> str:
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"between {low} and {high}"


@dataclass(frozen=True)
class MapperConfig(Validated):
    """Tracking, keyframes and the local optimization (`slam/`)."""

    init_parallax_deg: float = setting(
        0.5, "Parallax that a quarter of the matches must exceed before a map can begin, degrees.", low=0.1, high=45.0
    )
    keyframe_match_fraction: float = setting(
        0.5,
        "A new keyframe is added when the matches fall below this share of the keyframe's maximum.",
        low=0.01,
        high=1.0,
        live=True,
    )
    lost_match_fraction: float = setting(
        0.05,
        "A frame is lost when its inliers fall below this share of the keyframe's maximum.",
        low=0.0,
        high=1.0,
        live=True,
    )
    min_inliers: int = setting(15, "Minimum number of inliers of a pose.", low=6, high=10000, live=True)
    window_size: int = setting(
        10,
        "Keyframes in the local optimization; with `opencv`, which adjusts frames and points too, at most 8.",
        low=2,
        high=50,
        live=True,
    )
    edge_matches: int = setting(1024, "Maximum number of matches per edge of the pose graph.", low=16, high=100000)
    loop_closure: bool = setting(
        True, "Recognize places seen before and correct the whole map when the camera returns to one.", live=True
    )
    max_keyframes: int = setting(500, "Maximum number of keyframes; beyond it the most redundant ones are dropped.", low=4)
    memory_budget_mb: int = setting(
        2000, "Memory for keyframes, MB; beyond it the most redundant ones are dropped. 0 = no limit.", low=0
    )
    relocalization_period: float = setting(
        0.2, "Minimum time between two attempts to relocalize a lost camera, seconds.", low=0.0, high=60.0, live=True
    )
    known_baseline: float = setting(
        0.0, "Measured distance between the cameras of the first two keyframes, metres; 0 = unknown.", low=0.0
    )


@dataclass(frozen=True)
class RelocalizerConfig(Validated):
    """When a pose relative to a reference or in a saved map is accepted (`slam/places/relocalizer.py`)."""

    candidates: int = setting(
        6, "Number of keyframes of a map that a query is compared with; all references are compared.", low=1, high=100, live=True
    )
    min_inliers: int = setting(40, "Minimum number of matches that agree on a pose.", low=6, high=10000, live=True)
    min_inlier_ratio: float = setting(
        0.25, "Minimum share of a candidate's matches that agree on its pose.", low=0.0, high=1.0, live=True
    )
    max_rmse_px: float = setting(3.0, "Maximum reprojection error (RMS) of the inliers, pixels.", low=0.1, live=True)
    min_spread: float = setting(
        0.04,
        "Minimum extent of the inliers in both directions, as a share of the image's diagonal.",
        low=0.0,
        high=0.5,
        live=True,
    )
    max_position_sigma: float = setting(
        0.1,
        "Maximum standard deviation of the position, as a share of the distance to the scene.",
        low=0.001,
        high=10.0,
        live=True,
    )
    max_rotation_sigma_deg: float = setting(
        3.0, "Maximum standard deviation of the rotation, degrees.", low=0.01, high=90.0, live=True
    )
    ambiguity_ratio: float = setting(
        0.25,
        "A different second pose with this share of the inliers of the best one makes the answer AMBIGUOUS.",
        low=0.05,
        high=1.0,
        live=True,
    )


@dataclass(frozen=True)
class CloudConfig(Validated):
    """The dense map that is published and written."""

    voxel_size: float = setting(
        0.02, "Edge of the voxels that thin the cloud, map units; 0 keeps every point.", low=0.0, high=100.0, live=True
    )
    min_conf: float = setting(1.0, "Minimum confidence of a pixel in the cloud.", low=0.0, live=True)
    min_height: float = setting(
        -1e6, "Minimum height (z in map_frame) of a point in the cloud, map units.", low=-1e6, high=1e6, live=True
    )
    max_height: float = setting(
        1e6, "Maximum height (z in map_frame) of a point in the cloud, map units.", low=-1e6, high=1e6, live=True
    )
    max_range: float = setting(0.0, "Maximum distance of a point from its camera, map units; 0 = no limit.", low=0.0, live=True)
    max_points: int = setting(
        2_000_000, "Maximum number of points of the cloud; a larger one is thinned evenly. 0 = no limit.", low=0, live=True
    )


@dataclass(frozen=True)
class GridConfig(Validated):
    """The occupancy grid for navigation: occupied and free cells between two heights."""

    enabled: bool = setting(False, "Compute the grid and publish it on ~/grid.", live=True)
    resolution: float = setting(0.05, "Edge of a cell, map units.", low=0.001, high=100.0, live=True)
    min_height: float = setting(
        0.1,
        "Minimum height (z in map_frame) of an obstacle, map units; lower points are floor.",
        low=-1e6,
        high=1e6,
        live=True,
    )
    max_height: float = setting(1.5, "Maximum height (z in map_frame) of an obstacle, map units.", low=-1e6, high=1e6, live=True)
    max_range: float = setting(
        5.0,
        "Maximum distance of an obstacle from its camera, map units; free space is cleared up to this distance.",
        low=0.01,
        high=1000.0,
        live=True,
    )
    min_conf: float = setting(1.0, "Minimum confidence of a pixel in the grid.", low=0.0, live=True)
    min_points: int = setting(5, "Minimum number of points in an occupied cell.", low=1, high=100000, live=True)
    max_cells: int = setting(
        4_000_000, "Maximum number of cells; no grid is made for a larger map.", low=1, high=100_000_000, live=True
    )


_PAIR_MODEL = "The two-view model, by the name of its group of settings; opencv needs no weights."
CAMERA_AXES = ("auto", "optical", "body")
_CAMERA_AXES = (
    "Axes of the images' frame: optical (z forward) or body (x forward, z up); auto assumes optical unless TF and the name of "
    "the frame show body axes."
)


IMAGE_TRANSPORTS = ("raw", "compressed", "foxglove", "ffmpeg")


@dataclass(frozen=True)
class InputConfig(Validated):
    """What a node for images hears, and in what frames it answers: the settings of mapping and relocalization alike."""

    pair_model: str = setting("opencv", _PAIR_MODEL)
    checkpoint: str = setting("", "Weights of the pair model: file, folder, Hub id or published name; '' for a model without.")
    image_transport: str = setting(
        "raw",
        "How images arrive: raw (Image), compressed (CompressedImage), or as a video (foxglove: CompressedVideo, ffmpeg: "
        "FFMPEGPacket).",
        choices=IMAGE_TRANSPORTS,
    )
    image_reliability: str = setting(
        "best_effort",
        "QoS of the image subscription: best_effort, or reliable (for compressed images over a lossy link).",
        choices=("best_effort", "reliable"),
    )
    rectified: str = setting(
        "auto",
        "Whether the images are rectified, so that P of camera_info is their K and nothing is undistorted; auto goes by the name "
        "of the topic (image_rect).",
        choices=("auto", "yes", "no"),
    )
    camera_axes: str = setting("auto", _CAMERA_AXES, choices=CAMERA_AXES)
    input_wait: float = setting(
        2.0,
        "Maximum time that the first images wait for camera_info and the TF of camera and odometry, seconds.",
        low=0.0,
        high=60.0,
    )
    publish_tf: bool = setting(
        True,
        "Broadcast TF at the stamp of each image that has a pose: map -> base_frame, or map -> odom_frame if it is set; for "
        "relocalization reference_frame -> child.",
        live=True,
    )
    autostart: bool = setting(True, "Configure and activate at the start, without a lifecycle manager.")

    @property
    def fixed_frame(self) -> str:
        """The TF frame that poses are published in."""
        raise NotImplementedError

    @property
    def moving_frame(self) -> str:
        """The TF frame whose pose is published, "" for the camera itself."""
        raise NotImplementedError

    @property
    def odometry_frame(self) -> str:
        """The TF frame of odometry between the two, "" without odometry."""
        return ""

    @property
    def odometry_wait(self) -> float:
        """Maximum time that an image waits for odometry, seconds."""
        return 0.0


@dataclass(frozen=True)
class MappingNodeConfig(InputConfig):
    """The ROS node `st3r_mapping`; its other parameters are in `NODE_SETTINGS`."""

    mode: str = setting(
        "mapping",
        "mapping: create a map, or continue the one in map_path. localization: localize in map_path, leave it unchanged.",
        choices=("mapping", "localization"),
    )
    map_path: str = setting("", "Folder of a saved map to load at the start; '' for a new map, or to wait for ~/load_map.")
    save_on_shutdown: bool = setting(False, "Save the map in map_path, which may be a new folder, at shutdown.", live=True)
    mask_file: str = setting("", "Image file that is black where no image is matched or mapped (the robot itself); '' for none.")
    map_frame: str = setting("map", "TF frame of the map and of everything published in it.", frame=True)
    base_frame: str = setting(
        "base_link", "The robot's base frame, whose pose is published; '' for the camera itself.", frame=True
    )
    odom_frame: str = setting(
        "",
        "TF frame of odometry, for a metric map; the node then broadcasts map -> odom_frame. '' for no odometry.",
        frame=True,
    )
    odom_wait: float = setting(0.1, "Maximum time that an image waits for the odometry at its stamp, seconds.", low=0.0, high=5.0)
    transform_publish_period: float = setting(
        0.05, "Period of the broadcast of map -> odom_frame, seconds.", low=0.005, high=10.0
    )
    transform_tolerance: float = setting(
        0.1,
        "Time by which map -> odom_frame is stamped ahead, so that it is available for lookups, seconds.",
        low=0.0,
        high=5.0,
        live=True,
    )
    map_publish_period: float = setting(
        1.0, "Minimum time between two map clouds, keyframe graphs or paths, seconds.", low=0.0, high=3600.0, live=True
    )
    status_period: float = setting(0.5, "Period of the status messages, seconds.", low=0.02, high=60.0)
    output_dir: str = setting(
        "", "Folder for cloud and trajectory, written when the node is deactivated or shut down; '' for none."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_frames(self, "map_frame", "base_frame", "odom_frame")
        if self.odom_frame:
            _check_frames(self, "odom_frame", "base_frame")

    @property
    def fixed_frame(self) -> str:
        """See `InputConfig`."""
        return self.map_frame

    @property
    def moving_frame(self) -> str:
        """See `InputConfig`."""
        return self.base_frame

    @property
    def odometry_frame(self) -> str:
        """See `InputConfig`."""
        return self.odom_frame

    @property
    def odometry_wait(self) -> float:
        """See `InputConfig`."""
        return self.odom_wait


@dataclass(frozen=True)
class CameraNodeConfig(Validated):
    """The ROS node `st3r_camera`, which plays a recording, a stream or a webcam."""

    source: str = setting("", "Source to play: folder or data set, video, bag, stream address, webcam index, or sim:room.")
    camera: str = setting("", "Calibration file (docs/calibration.md); '' for the calibration that comes with the source.")
    frame_id: str = setting("camera_optical_frame", "TF frame of the images.", frame=True)
    rate: float = setting(1.0, "Playback speed relative to the stamps; 0 plays as fast as possible.", low=0.0, high=1000.0)
    loop: bool = setting(False, "Start again at the end; the stamps then jump back.")
    jpeg_quality: int = setting(80, "Quality of the JPEG images on image/compressed.", low=1, high=100)
    publish_clock: bool = setting(False, "Publish the stamp of each image on /clock.")
    stamp_now: bool = setting(
        False, "Use the time of publishing as the stamp, like a live camera, instead of the source's stamps."
    )
    wait_for_subscriber: bool = setting(True, "Start when the images have a subscriber.")
    every: int = setting(1, "Play only every n-th image.", low=1)
    max_frames: int = setting(0, "Number of images to play; 0 plays all.", low=0)


@dataclass(frozen=True)
class MapCommandConfig(Validated):
    """The command `st3r map`."""

    pair_model: str = setting(MappingNodeConfig.pair_model, _PAIR_MODEL)
    checkpoint: str = setting("", "Weights of the pair model: file, folder, Hub id or published name; '' for a model without.")
    camera: str = setting("", "Calibration file (docs/calibration.md); '' for the calibration that comes with the input.")
    masks: str = setting("", "Folder of masks with the names of the images, or one mask for all: black is left out; '' for none.")
    truth: str = setting("", "File of true poses (docs/inputs.md) to compare with; '' for those that come with the input.")
    out: str = setting("st3r_map", "Folder for the results.")
    every: int = setting(1, "Take only every n-th image.", low=1)
    max_frames: int = setting(0, "Images after which the mapping ends; 0 takes all.", low=0)
    refine: bool = setting(True, "Adjust all keyframes, frames and points of the finished map together (opencv).")
    save_map: str = setting("", "Folder to save the map in at the end; '' saves none.")
    map: str = setting("", "Folder of a saved map to continue; '' starts a new map.")
    localize_only: bool = setting(False, "Localize the camera in that map and leave it unchanged.")


EXPORT_FORMATS = ("ply", "tum", "colmap", "nerfstudio")


@dataclass(frozen=True)
class ExportCommandConfig(Validated):
    """The command `st3r export`."""

    format: str = setting("ply", "Format of the export.", choices=EXPORT_FORMATS)
    out: str = setting("", "File (ply) or new folder for the result; '' for a name next to the map.")
    points: str = setting(
        "both",
        "Points of a COLMAP model: matches (with tracks), thinned cloud (without tracks), or both.",
        choices=("both", "matches", "cloud"),
    )
    text: bool = setting(False, "Write a COLMAP model as text instead of binary.")
    images: str = setting(
        "working",
        "Images of a COLMAP model or nerfstudio data set: the map's own, or the originals at full resolution, undistorted.",
        choices=("working", "original"),
    )
    originals: str = setting(
        "", "Folder of the original images, or the input that was mapped; '' looks for them where they were."
    )


@dataclass(frozen=True)
class PairCommandConfig(Validated):
    """The command `st3r pair`."""

    pair_model: str = setting("mast3r", _PAIR_MODEL)
    checkpoint: str = setting("", "Weights of the pair model: file, folder, Hub id or published name; '' for a model without.")
    out: str = setting("st3r_pair", "Folder for the results.")
    fine: bool = setting(False, "Match again at full resolution, in overlapping windows (MASt3R).")


@dataclass(frozen=True)
class DemoConfig(Validated):
    """The command `st3r demo`."""

    input: str = setting("sim:room", "Input: sim:room, or a folder or data set, video, bag, stream address or webcam index.")
    out: str = setting("demo", "Folder for the results.")
    view: bool = setting(False, "Show the map in the browser, during the demo and afterwards.")


@dataclass(frozen=True)
class SimulationConfig(Validated):
    """A simulated sequence; these are the options of `sim:room?seed=3&frames=200`."""

    world: str = setting(
        "room",
        "Kind of world.",
        choices=("room", "corridor", "rooms", "twins", "straight", "corners", "facade"),
    )
    seed: int = setting(0, "Each seed gives a different world.", low=0, high=2**31 - 1)
    frames: int = setting(300, "Images of the sequence.", low=1, high=100000)
    fps: float = setting(15.0, "Images per second.", low=1.0, high=200.0)
    width: int = setting(640, "Width of the images, pixels.", low=32, high=4096)
    height: int = setting(480, "Height of the images, pixels.", low=32, high=4096)
    fov_deg: float = setting(65.0, "Horizontal field of view, degrees.", low=20.0, high=120.0)
    noise: float = setting(1.5, "Standard deviation of the image noise, grey levels.", low=0.0, high=50.0)
    exposure: float = setting(0.0, "Relative amplitude of slow brightness changes.", low=0.0, high=0.9)
    start: str = setting(
        "going",
        "How the camera starts: going at once, standing still for two seconds, or turning on the spot for three.",
        choices=("going", "standing", "turning"),
    )
    length: float = setting(100.0, "Length of the path through the rooms of sim:rooms, metres.", low=40.0, high=200.0)
    kidnap: str = setting(
        "none", "Interruption of the view: a black second, a white wall, or a jump.", choices=("none", "black", "white", "jump")
    )


@dataclass(frozen=True)
class RelocalizationNodeConfig(InputConfig):
    """The ROS node `st3r_relocalization`; its other parameters are in `NODE_SETTINGS`."""

    rate: float = setting(
        0.0,
        "Maximum rate at which live images are localized, 1/s; 0 localizes only on ~/relocalize.",
        low=0.0,
        high=1000.0,
        live=True,
    )
    image_wait: float = setting(
        2.0,
        "Maximum time that ~/relocalize waits for a live image, and maximum age for use_latest of ~/set_reference, seconds.",
        low=0.01,
        high=60.0,
        live=True,
    )
    reference: str = setting("", "Image file set as the reference 'reference' at the start; '' for none.")
    reference_camera: str = setting("", "Calibration file (docs/calibration.md) of that image; '' if unknown.")
    reference_dir: str = setting("", "Folder in which references are stored for the next start; '' does not store them.")
    map_path: str = setting(
        "", "Folder of a saved map to load at the start, which takes precedence over references; '' for none."
    )
    reference_frame: str = setting(
        "reference", "TF frame of the poses: that of the reference's camera, or of the map (map).", frame=True
    )
    child_frame: str = setting(
        "",
        "TF frame whose pose is published, such as base_link, connected to the camera by TF; '' for the camera itself.",
        frame=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_frames(self, "reference_frame", "child_frame")

    @property
    def fixed_frame(self) -> str:
        """See `InputConfig`."""
        return self.reference_frame

    @property
    def moving_frame(self) -> str:
        """See `InputConfig`."""
        return self.child_frame


@dataclass(frozen=True)
class ViewerConfig(Validated):
    """The viewer in the browser: the command `st3r view`, and the node's part that is the same."""

    host: str = setting(
        "127.0.0.1",
        "Address the viewer listens on. 127.0.0.1 is this machine only; 0.0.0.0 gives the whole network access, including the "
        "buttons.",
    )
    port: int = setting(8080, "TCP port the viewer listens on; 0 takes a free one.", low=0, high=65535)
    allowed_hosts: str = setting(
        "",
        "Further names under which a browser may open the viewer, separated by commas, such as 'robot.example.org': the viewer "
        "answers to names of this machine only, and to no page from elsewhere.",
    )
    max_points: int = setting(
        500_000, "Maximum number of points shown; a larger cloud is thinned evenly.", low=1000, high=20_000_000
    )


@dataclass(frozen=True)
class ViewerNodeConfig(ViewerConfig):
    """The ROS node `st3r_viewer`."""

    mapping_node: str = setting("st3r_mapping", "Name of the mapping node to show, with its namespace if it differs.")
    update_period: float = setting(
        0.5, "Minimum time between two updates of cloud, path or keyframe graph, seconds.", low=0.05, high=60.0
    )
    thumbnails: bool = setting(
        True, "Show images in the keyframes, from keyframe_cloud: some megabytes on the network per keyframe."
    )


@dataclass(frozen=True)
class MappingSettings:
    """All settings of the node `st3r_mapping`: those of `node` have no prefix, the other groups are named as their fields."""

    node: MappingNodeConfig
    mapper: MapperConfig
    relocalizer: RelocalizerConfig
    cloud: CloudConfig
    grid: GridConfig


@dataclass(frozen=True)
class RelocalizationSettings:
    """All settings of the node `st3r_relocalization`, in groups like `MappingSettings`."""

    node: RelocalizationNodeConfig
    relocalizer: RelocalizerConfig


def groups_of(settings: type) -> dict[str, type[Validated]]:
    """The configurations of a class like `MappingSettings` by the prefix of their parameters, "" for `node`."""
    return {"" if name == "node" else name: kind for name, kind in get_type_hints(settings).items()}


NODE_SETTINGS: dict[str, dict[str, type[Validated]]] = {
    "mapping": groups_of(MappingSettings),
    "relocalization": groups_of(RelocalizationSettings),
    "viewer": {"": ViewerNodeConfig},
}
"""The parameters of the nodes in groups; mapping and relocalization also have those of every pair model (`pair.PAIR_MODELS`)."""
