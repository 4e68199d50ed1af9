# SPDX-License-Identifier: Apache-2.0
"""Every setting of the package: frozen dataclasses that validate themselves, and the only home of defaults.

A field made with `setting(...)` carries its description and its range; the ROS parameters and the command line options are
declared by looping over these fields. A bad value raises `ConfigError` with the name, the value and what is allowed;
nothing is clamped.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

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
    """A dataclass field with a description, a closed range or a set of choices, and whether it may change while running.

    frame: it names a TF frame, and is kept without a leading slash.
    """
    metadata = {"description": description, "low": low, "high": high, "choices": choices, "live": live, "frame": frame}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Validated:
    """Base of the configuration dataclasses: checks type, range and choice of every field when made."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if "description" in item.metadata:
                _check(item, getattr(self, item.name))
                if item.metadata["frame"]:
                    object.__setattr__(self, item.name, frame_name(getattr(self, item.name)))


def _check_frames(config: Validated, root: str, *others: str) -> None:
    """The settings `root` and `others` name different frames, and `root` names one."""
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
class OpenCVPairConfig(Validated):
    """The weightless two-view model (`pair/opencv`)."""

    image_size: int = setting(
        640, "Longer side of the working image, pixels; smaller images are not enlarged.", low=64, high=4096
    )
    max_points: int = setting(600, "Corners followed from each keyframe by optical flow.", low=50, high=20000)
    max_features: int = setting(1200, "Keypoints with descriptors per image, where flow finds no way.", low=50, high=20000)
    match_ratio: float = setting(0.85, "Largest ratio of best to second best descriptor distance of a match.", low=0.1, high=1.0)
    epipolar_threshold_px: float = setting(1.5, "Largest distance of a match to its epipolar line, pixels.", low=0.1, high=20.0)
    min_matches: int = setting(20, "Matches below which no geometry is claimed.", low=8, high=10000)
    min_parallax_deg: float = setting(1.0, "Median parallax below which no depth is claimed, degrees.", low=0.01, high=45.0)
    assumed_fov_deg: float = setting(60.0, "Horizontal field of view assumed without calibration, degrees.", low=10.0, high=170.0)


@dataclass(frozen=True)
class MASt3RPairConfig(Validated):
    """The network pair model (`pair/mast3r`), for MASt3R and DUSt3R checkpoints."""

    device: str = setting("auto", "Where the network runs; auto takes CUDA where there is one.", choices=("auto", "cuda", "cpu"))
    dtype: str = setting(
        "auto", "Precision of the network; auto is fp16 on CUDA and fp32 elsewhere.", choices=("auto", "fp32", "bf16", "fp16")
    )
    acceleration: str = setting(
        "auto",
        "How the network is run: kernel by kernel, as CUDA graphs, or compiled (minutes at the start); auto is graphs on CUDA.",
        choices=("auto", "eager", "graphs", "compile"),
    )
    image_size: int = setting(
        0, "Longer side of the working image, pixels; 0 is what the checkpoint was made for.", low=0, high=2048
    )
    batch_size: int = setting(16, "Most pairs decoded at once on CUDA; a CPU takes them one by one.", low=1, high=256)
    matching: str = setting(
        "auto",
        "How pixels are matched: by reciprocal descriptors, or by projecting pointmaps from the last matches; auto does the "
        "second where there are last matches.",
        choices=("auto", "reciprocal", "projective"),
    )
    match_subsample: int = setting(8, "Matches start from every n-th pixel of each row and column.", low=1, high=64)
    min_match_conf: float = setting(
        1.001, "Confidence below which a match is left out: of the descriptors, or of the points where there are none.", low=0.0
    )
    retrieval: str = setting("", "Checkpoint that whitens the descriptors for finding places again; '' does without.")
    assumed_fov_deg: float = setting(
        60.0,
        "Horizontal field of view assumed when neither a calibration nor the first image tells one, degrees.",
        low=10.0,
        high=170.0,
    )


@dataclass(frozen=True)
class MapperConfig(Validated):
    """Tracking, keyframes and the local optimization (`slam/`)."""

    init_parallax_deg: float = setting(3.0, "Median parallax that starts a map, degrees.", low=0.1, high=45.0)
    keyframe_match_fraction: float = setting(
        0.5,
        "A new keyframe is made when matches fall below this share of the most the keyframe had.",
        low=0.01,
        high=1.0,
        live=True,
    )
    lost_match_fraction: float = setting(
        0.05,
        "A frame is lost when its inliers fall below this share of the most the keyframe had.",
        low=0.0,
        high=1.0,
        live=True,
    )
    min_inliers: int = setting(15, "Inliers below which a pose is not trusted.", low=6, high=10000, live=True)
    window_size: int = setting(10, "Keyframes in the local optimization.", low=2, high=50, live=True)
    edge_matches: int = setting(1024, "Most matches sampled per edge of the pose graph.", low=16, high=100000)
    loop_closure: bool = setting(
        True, "Look for places seen before, and correct the whole map when the camera comes back to one.", live=True
    )
    max_keyframes: int = setting(500, "Keyframes in the map at most; beyond that the most redundant ones are dropped.", low=4)
    memory_budget_mb: int = setting(
        2000, "Memory for keyframes, MB; beyond that the most redundant ones are dropped. 0 sets no limit.", low=0
    )
    relocalization_period: float = setting(
        0.2, "Least seconds between two attempts to find a lost camera again.", low=0.0, high=60.0, live=True
    )
    known_baseline: float = setting(
        0.0, "Metres between the cameras of the first two keyframes, where they were measured; 0 = not known.", low=0.0
    )


@dataclass(frozen=True)
class RelocalizerConfig(Validated):
    """When a pose relative to a reference or in a saved map is believed (`slam/relocalizer.py`)."""

    candidates: int = setting(
        6, "Keyframes of a map that a query is compared with; references are all compared.", low=1, high=100, live=True
    )
    min_inliers: int = setting(40, "Matches that must agree on a pose.", low=6, high=10000, live=True)
    min_inlier_ratio: float = setting(
        0.25, "Share of a candidate's matches that must agree on its pose.", low=0.0, high=1.0, live=True
    )
    max_rmse_px: float = setting(3.0, "Largest reprojection error (RMS) of the matches that agree.", low=0.1, live=True)
    min_spread: float = setting(
        0.04,
        "Least extent of the agreeing matches in both directions, as a share of the image's diagonal.",
        low=0.0,
        high=0.5,
        live=True,
    )
    max_position_sigma: float = setting(
        0.1, "Largest uncertainty of the position, as a share of the distance to the scene.", low=0.001, high=10.0, live=True
    )
    max_rotation_sigma_deg: float = setting(3.0, "Largest uncertainty of the rotation, degrees.", low=0.01, high=90.0, live=True)
    ambiguity_ratio: float = setting(
        0.25,
        "A second, different pose with this share of the best one's matches makes the answer AMBIGUOUS.",
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
    min_conf: float = setting(1.0, "Pixels of lower confidence are left out of the cloud.", low=0.0, live=True)
    min_height: float = setting(
        -1e6, "Points lower than this, z in map_frame, are left out, map units.", low=-1e6, high=1e6, live=True
    )
    max_height: float = setting(
        1e6, "Points higher than this, z in map_frame, are left out, map units.", low=-1e6, high=1e6, live=True
    )
    max_range: float = setting(
        0.0, "Points farther from the camera that saw them are left out, map units; 0 keeps all.", low=0.0, live=True
    )
    max_points: int = setting(
        2_000_000, "Points of the cloud at most; a larger one is thinned evenly. 0 sets no limit.", low=0, live=True
    )


@dataclass(frozen=True)
class GridConfig(Validated):
    """The map seen from above, for navigation: what is occupied at the heights of the robot, and what is free."""

    enabled: bool = setting(False, "Make the grid and publish it on ~/grid.", live=True)
    resolution: float = setting(0.05, "Edge of a cell, map units.", low=0.001, high=100.0, live=True)
    min_height: float = setting(
        0.1,
        "Points higher than this, z in map_frame, are obstacles; lower ones are floor, map units.",
        low=-1e6,
        high=1e6,
        live=True,
    )
    max_height: float = setting(
        1.5, "Points higher than this, z in map_frame, are no obstacles, map units.", low=-1e6, high=1e6, live=True
    )
    max_range: float = setting(
        5.0,
        "Points farther from the camera that saw them are not looked at, only the way to there, map units.",
        low=0.01,
        high=1000.0,
        live=True,
    )
    min_conf: float = setting(1.0, "Pixels of lower confidence are not looked at.", low=0.0, live=True)
    min_points: int = setting(5, "Points that must be seen in a cell for it to be occupied.", low=1, high=100000, live=True)
    max_cells: int = setting(4_000_000, "Cells at most; of a larger map no grid is made.", low=1, high=100_000_000, live=True)


CAMERA_AXES = ("auto", "optical", "body")
_CAMERA_AXES = (
    "Axes of the images' frame: optical (z forward) or body (x forward, z up); auto takes them for optical unless TF and the "
    "frame's name show that they are a body's."
)


IMAGE_TRANSPORTS = ("raw", "compressed", "foxglove", "ffmpeg")


@dataclass(frozen=True)
class MappingNodeConfig(Validated):
    """The ROS node `st3r_mapping`; the groups `mapper`, `cloud`, `opencv` and `mast3r` are its other parameters."""

    pair_model: str = setting("opencv", "The two-view model: opencv, or mast3r for MASt3R and DUSt3R checkpoints.")
    checkpoint: str = setting("", "Weights of the pair model: file, folder, Hub id or published name; '' for a model without.")
    mode: str = setting(
        "mapping",
        "mapping: make a map, or go on in map_path. localization: find the camera in map_path and leave that as it is.",
        choices=("mapping", "localization"),
    )
    map_path: str = setting("", "Folder of a saved map that is loaded at the start; '' begins a new one, or awaits ~/load_map.")
    save_on_shutdown: bool = setting(
        False, "Save the map in map_path, which then may be new, when the node is shut down.", live=True
    )
    image_transport: str = setting(
        "raw",
        "How images arrive: raw (Image), compressed (CompressedImage), or as a video (foxglove: CompressedVideo, ffmpeg: "
        "FFMPEGPacket).",
        choices=IMAGE_TRANSPORTS,
    )
    image_reliability: str = setting(
        "best_effort",
        "Lost images are lost (best_effort), or sent again (reliable: for compressed images over a bad link).",
        choices=("best_effort", "reliable"),
    )
    map_frame: str = setting("map", "TF frame of the map and of everything published in it.", frame=True)
    base_frame: str = setting("base_link", "TF frame of the robot whose pose is published; '' for the camera itself.", frame=True)
    odom_frame: str = setting(
        "",
        "TF frame of odometry; with it the map is metric and map -> odom_frame is broadcast. '' for no odometry.",
        frame=True,
    )
    camera_axes: str = setting("auto", _CAMERA_AXES, choices=CAMERA_AXES)
    odom_wait: float = setting(0.1, "Seconds that an image may wait for the odometry of its stamp.", low=0.0, high=5.0)
    publish_tf: bool = setting(
        True, "Broadcast map -> base_frame at the stamp of each tracked image, or map -> odom_frame where it is set.", live=True
    )
    transform_publish_period: float = setting(0.05, "Seconds between two broadcasts of map -> odom_frame.", low=0.005, high=10.0)
    transform_tolerance: float = setting(
        0.1,
        "Seconds that map -> odom_frame is stamped ahead, so that it is there when it is needed.",
        low=0.0,
        high=5.0,
        live=True,
    )
    rectified: str = setting(
        "auto",
        "Whether the images are rectified, so that P of camera_info is their K and nothing is undistorted; auto goes by the name "
        "of the topic (image_rect).",
        choices=("auto", "yes", "no"),
    )
    input_wait: float = setting(
        2.0, "Seconds that the first images wait for camera_info and for the TF of camera and odometry.", low=0.0, high=60.0
    )
    map_publish_period: float = setting(
        1.0, "Least seconds between two map clouds, keyframe graphs or paths.", low=0.0, high=3600.0, live=True
    )
    status_period: float = setting(0.5, "Seconds between two status messages.", low=0.02, high=60.0)
    output_dir: str = setting("", "Folder for the map and the trajectory when the node is deactivated or ends; '' for none.")
    autostart: bool = setting(True, "Configure and activate at start, without a lifecycle manager.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_frames(self, "map_frame", "base_frame", "odom_frame")
        if self.odom_frame:
            _check_frames(self, "odom_frame", "base_frame")


@dataclass(frozen=True)
class CameraNodeConfig(Validated):
    """The ROS node `st3r_camera`, which plays a recording or a webcam."""

    source: str = setting("", "What is played: image folder, video, TUM sequence, bag, webcam index, or sim:room.")
    camera: str = setting("", "Calibration file (ROS yaml); '' for the calibration that comes with the source.")
    frame_id: str = setting("camera_optical_frame", "TF frame of the images.", frame=True)
    rate: float = setting(1.0, "Speed relative to the stamps; 0 plays as fast as the images can be read.", low=0.0, high=1000.0)
    loop: bool = setting(False, "Begin again at the end; the stamps then jump back.")
    jpeg_quality: int = setting(80, "Quality of the JPEG images on image/compressed.", low=1, high=100)
    publish_clock: bool = setting(False, "Publish each image's stamp as /clock.")
    stamp_now: bool = setting(False, "Stamp with the time of sending, as a live camera does, instead of the source's stamps.")
    wait_for_subscriber: bool = setting(True, "Begin when somebody subscribes to the images.")
    every: int = setting(1, "Play only every n-th image.", low=1)
    max_frames: int = setting(0, "Images after which the playing ends; 0 plays all.", low=0)


@dataclass(frozen=True)
class MapCommandConfig(Validated):
    """The command `st3r map`."""

    pair_model: str = setting(MappingNodeConfig.pair_model, "The two-view model: opencv or mast3r.")
    checkpoint: str = setting("", "Weights of the pair model: file, folder, Hub id or published name; '' for a model without.")
    camera: str = setting("", "Calibration file (ROS yaml); '' for the calibration that comes with the input.")
    out: str = setting("st3r_map", "Folder for the results.")
    every: int = setting(1, "Take only every n-th image.", low=1)
    max_frames: int = setting(0, "Images after which the mapping ends; 0 takes all.", low=0)
    save_map: str = setting("", "Folder in which the map is saved at the end; '' saves none.")
    map: str = setting("", "Folder of a saved map that is mapped on in; '' begins a new one.")
    localize_only: bool = setting(False, "Find the camera in that map and leave the map as it is.")


EXPORT_FORMATS = ("ply", "tum", "colmap", "nerfstudio")


@dataclass(frozen=True)
class ExportCommandConfig(Validated):
    """The command `st3r export`."""

    format: str = setting("ply", "What is written.", choices=EXPORT_FORMATS)
    out: str = setting("", "File (ply) or new folder for the result; '' for a name beside the map.")
    points: str = setting(
        "both",
        "Points of a COLMAP model: those of the matches, with tracks; those of the thinned cloud, without; or both.",
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

    pair_model: str = setting("mast3r", "The two-view model: mast3r or opencv.")
    checkpoint: str = setting("", "Weights of the pair model: file, folder, Hub id or published name; '' for a model without.")
    out: str = setting("st3r_pair", "Folder for the results.")
    fine: bool = setting(False, "Match again at full resolution, in overlapping windows (MASt3R).")


@dataclass(frozen=True)
class DemoConfig(Validated):
    """The command `st3r demo`."""

    input: str = setting("sim:room", "What is mapped: sim:room, or an image folder, video, TUM sequence, bag or webcam index.")
    out: str = setting("demo", "Folder for the results.")
    view: bool = setting(False, "Show the map in the browser while it is made, and afterwards.")


@dataclass(frozen=True)
class SimulationConfig(Validated):
    """A simulated sequence; these are the options of `sim:room?seed=3&frames=200`."""

    world: str = setting("room", "What is built.", choices=("room", "corridor", "rooms", "twins"))
    seed: int = setting(0, "Another seed is another world.", low=0, high=2**31 - 1)
    frames: int = setting(300, "Images of the sequence.", low=1, high=100000)
    fps: float = setting(15.0, "Images per second.", low=1.0, high=200.0)
    width: int = setting(640, "Width of the images, pixels.", low=32, high=4096)
    height: int = setting(480, "Height of the images, pixels.", low=32, high=4096)
    fov_deg: float = setting(65.0, "Horizontal field of view, degrees.", low=20.0, high=120.0)
    noise: float = setting(1.5, "Standard deviation of the image noise, grey levels.", low=0.0, high=50.0)
    exposure: float = setting(0.0, "Share by which the brightness slowly rises and falls.", low=0.0, high=0.9)
    length: float = setting(100.0, "Way through all the rooms of sim:rooms, metres.", low=40.0, high=200.0)
    kidnap: str = setting(
        "none", "What befalls the camera: a black second, a white wall, a jump.", choices=("none", "black", "white", "jump")
    )


@dataclass(frozen=True)
class RelocalizationNodeConfig(Validated):
    """The ROS node `st3r_relocalization`; the groups `relocalizer`, `opencv` and `mast3r` are its other parameters."""

    pair_model: str = setting("opencv", "The two-view model: opencv, or mast3r for MASt3R and DUSt3R checkpoints.")
    checkpoint: str = setting("", "Weights of the pair model: file, folder, Hub id or published name; '' for a model without.")
    image_transport: str = setting(
        "raw",
        "How images arrive: raw (Image), compressed (CompressedImage), or as a video (foxglove: CompressedVideo, ffmpeg: "
        "FFMPEGPacket).",
        choices=IMAGE_TRANSPORTS,
    )
    image_reliability: str = setting(
        "best_effort",
        "Lost images are lost (best_effort), or sent again (reliable: for compressed images over a bad link).",
        choices=("best_effort", "reliable"),
    )
    rectified: str = setting(
        "auto",
        "Whether the images are rectified, so that P of camera_info is their K and nothing is undistorted; auto goes by the name "
        "of the topic (image_rect).",
        choices=("auto", "yes", "no"),
    )
    input_wait: float = setting(
        2.0, "Seconds that the first images wait for camera_info and for the TF of the camera.", low=0.0, high=60.0
    )
    rate: float = setting(
        0.0, "Live images localized per second, at most; 0 localizes on ~/relocalize only.", low=0.0, high=1000.0, live=True
    )
    image_wait: float = setting(
        2.0,
        "Seconds that ~/relocalize waits for a live image, and how old use_latest of ~/set_reference may be.",
        low=0.01,
        high=60.0,
        live=True,
    )
    reference: str = setting("", "Image file that is set as the reference 'reference' at the start; '' for none.")
    reference_camera: str = setting("", "Calibration file (ROS yaml) of that image; '' when it is not known.")
    reference_dir: str = setting("", "Folder that keeps the references for the next start; '' forgets them at the end.")
    map_path: str = setting("", "Folder of a saved map that is loaded at the start and goes before references; '' for none.")
    reference_frame: str = setting(
        "reference", "TF frame that poses are in: of the reference's camera, or of the map (map).", frame=True
    )
    child_frame: str = setting(
        "",
        "TF frame whose pose is published, such as base_link, which TF ties to the camera; '' for the camera itself.",
        frame=True,
    )
    camera_axes: str = setting("auto", _CAMERA_AXES, choices=CAMERA_AXES)
    publish_tf: bool = setting(True, "Broadcast reference_frame -> child at the stamp of each localized image.", live=True)
    autostart: bool = setting(True, "Configure and activate at start, without a lifecycle manager.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_frames(self, "reference_frame", "child_frame")


@dataclass(frozen=True)
class ViewerConfig(Validated):
    """The viewer in the browser: the command `st3r view`, and the node's part that is the same."""

    host: str = setting(
        "127.0.0.1",
        "Address the viewer listens on. 127.0.0.1 is this machine alone; 0.0.0.0 lets everybody on the network look and press "
        "the buttons.",
    )
    port: int = setting(8080, "TCP port the viewer listens on; 0 takes a free one.", low=0, high=65535)
    allowed_hosts: str = setting(
        "",
        "Further names under which a browser may open the viewer, separated by commas, such as 'robot.example.org': the viewer "
        "answers to names of this machine only, and to no page from elsewhere.",
    )
    max_points: int = setting(500_000, "Points shown at most; a larger cloud is thinned evenly.", low=1000, high=20_000_000)


@dataclass(frozen=True)
class ViewerNodeConfig(ViewerConfig):
    """The ROS node `st3r_viewer`."""

    mapping_node: str = setting("st3r_mapping", "Name of the mapping node that is watched, with its namespace if it has another.")
    update_period: float = setting(0.5, "Least seconds between two clouds, paths or keyframe graphs shown.", low=0.05, high=60.0)
    thumbnails: bool = setting(
        True, "Show pictures in the keyframes, taken from keyframe_cloud: some megabytes on the network per keyframe."
    )
