# SPDX-License-Identifier: Apache-2.0
"""The command `st3r`: options and help. `commands/` has the implementation, imported when needed, so that --help is fast."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

import st3r_ros
from st3r_ros.config import EXPORT_FORMATS, DemoConfig, ExportCommandConfig, MapCommandConfig, PairCommandConfig, ViewerConfig
from st3r_ros.errors import St3rError
from st3r_ros.pair import PAIR_MODELS

USER_ERROR = 2
INTERRUPTED = 130

app = typer.Typer(
    name="st3r",
    help="Dense 3-D maps from one RGB camera, without ROS. (With ROS: ros2 launch st3r_ros st3r_mapping.launch.py)",
    no_args_is_help=True,
    add_completion=False,
)

_INPUT = "Folder of images or data set, video, ROS bag, stream address (rtsp://...), webcam index, or sim:room."
_SETTINGS = typer.Option([], "--set", metavar="NAME=VALUE", help="Change a setting (`st3r settings` lists them).")
_REFERENCES = typer.Option(
    ..., "--reference", "-r", metavar="REF.jpg|MAP", help="An image (may be given several times), or a saved map's folder."
)
_PAIR_MODEL = f"The two-view model: {' or '.join(PAIR_MODELS)}."
_CHECKPOINT = "Weights of the pair model (mast3r): file, folder, Hub id or published name."
_WEIGHTS = "mast3r, dust3r, dust3r-224, a url, or a Hub id (owner/name)."
_MASKS = "Masks with the names of the images, or one for all: black is neither matched nor mapped."
_TRUTH = "File of true poses to compare with (TUM, EuRoC, KITTI, CSV with a header), instead of those that come with the input."
_VERSION = "Print the version."
_DEFAULTS = MapCommandConfig()
_PAIR_DEFAULTS = PairCommandConfig()
_EXPORT_DEFAULTS = ExportCommandConfig()
_DEMO_DEFAULTS = DemoConfig()
_VIEW_DEFAULTS = ViewerConfig()


def _reported(command: Callable[..., int]) -> Callable[..., None]:
    """Ends the process with the exit code of the command; a user error is one sentence on stderr, without traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            exit_code = command(*args, **kwargs)
        except St3rError as error:
            print(f"Error: {error}", file=sys.stderr)
            exit_code = USER_ERROR
        except ModuleNotFoundError as error:
            print(f"Error: The library '{error.name}' is not installed; `st3r doctor` says how to install it.", file=sys.stderr)
            exit_code = USER_ERROR
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            exit_code = INTERRUPTED
        raise typer.Exit(exit_code)

    return run


@app.command("map")
@_reported
def map_command(
    source: str = typer.Argument(..., metavar="INPUT", help=_INPUT),
    *,
    out: str = typer.Option(_DEFAULTS.out, "--out", "-o", help="Folder for the results."),
    pair_model: str = typer.Option(_DEFAULTS.pair_model, help=_PAIR_MODEL),
    checkpoint: str = typer.Option(_DEFAULTS.checkpoint, help=_CHECKPOINT),
    camera: str = typer.Option(
        _DEFAULTS.camera, help="Calibration file (docs/calibration.md), instead of the one that comes with INPUT."
    ),
    masks: str = typer.Option(_DEFAULTS.masks, metavar="FOLDER|FILE", help=_MASKS),
    truth: str = typer.Option(_DEFAULTS.truth, metavar="FILE", help=_TRUTH),
    every: int = typer.Option(_DEFAULTS.every, help="Take only every n-th image."),
    max_frames: int = typer.Option(_DEFAULTS.max_frames, help="Stop after this many images; 0 takes all."),
    refine: bool = typer.Option(
        _DEFAULTS.refine, "--refine/--no-refine", help="Adjust all images and points of the finished map together (opencv)."
    ),
    save_map: str = typer.Option(_DEFAULTS.save_map, metavar="FOLDER", help="Save the map, for --map and `st3r export`."),
    saved_map: str = typer.Option(_DEFAULTS.map, "--map", metavar="FOLDER", help="Continue a saved map."),
    localize_only: bool = typer.Option(
        False,
        "--localize-only",
        help="With --map: localize only, leave the map unchanged.",
    ),
    settings: list[str] = _SETTINGS,
) -> int:
    """Map a sequence of images: trajectory, dense cloud, picture and summary.

    Ctrl-C ends the mapping; what was mapped until then is written.

    \b
    Examples:
      st3r map images/ --camera camera.yaml
      st3r map drive.mp4 --every 3 --out drive_map
      st3r map recording.mcap --max-frames 500 --set cloud.voxel_size=0.05
      st3r map 0                       (webcam; Ctrl-C ends)
      st3r map sim:room                (a simulated room)
      st3r map images/ --pair-model mast3r --checkpoint mast3r     (after: st3r download mast3r)
      st3r map images/ --save-map office_map                       (then: st3r export office_map --format colmap)
      st3r map more/ --map office_map --save-map office_map        (continues the map and saves it in its place)
      st3r map more/ --map office_map --localize-only              (localizes only)
    """
    from st3r_ros.commands.settings import parse_settings

    config = MapCommandConfig(
        pair_model=pair_model,
        checkpoint=checkpoint,
        camera=camera,
        masks=masks,
        truth=truth,
        out=out,
        every=every,
        max_frames=max_frames,
        refine=refine,
        save_map=save_map,
        map=saved_map,
        localize_only=localize_only,
    )
    parsed = parse_settings(settings)
    from st3r_ros.commands.map import run_map

    return run_map(source, config, parsed)


@app.command("localize")
@_reported
def localize_command(
    references: list[str] = _REFERENCES,
    query: str = typer.Option(..., "--query", "-q", metavar="Q.jpg|FOLDER", help=f"Images to localize: an image file. {_INPUT}"),
    *,
    camera: str = typer.Option(
        "", help="Calibration file (docs/calibration.md) of the references, and of queries without their own."
    ),
    query_camera: str = typer.Option("", help="Calibration of the queries."),
    pair_model: str = typer.Option(_DEFAULTS.pair_model, help=_PAIR_MODEL),
    checkpoint: str = typer.Option(_DEFAULTS.checkpoint, help=_CHECKPOINT),
    masks: str = typer.Option("", metavar="FOLDER|FILE", help=_MASKS),
    depth: str = typer.Option("", metavar="DEPTH.png", help="16-bit depth of the single reference image, for a metric answer."),
    depth_scale: float = typer.Option(1000.0, help="Units of DEPTH.png per metre: 1000 for millimetres, 5000 in TUM layout."),
    json_target: str = typer.Option("", "--json", metavar="FILE|-", help="Write JSON to a file, or to stdout with -."),
    draw: str = typer.Option("", metavar="FILE.png", help="Draw the matches; with several queries their names are appended."),
    settings: list[str] = _SETTINGS,
) -> int:
    """Find where images were taken, relative to a reference image or in a saved map, without an initial guess.

    One line per query: the pose of its camera in the reference's camera (or in the map), or why there is none. With opencv and
    a reference image without depth, the translation is a direction only. Each of several references has its own frame; the
    one with the most inliers answers.

    Returns 0 when at least one query was localized, 1 when none was, 2 for an error in the input.

    \b
    Examples:
      st3r localize --reference dock.jpg --query now.jpg --camera camera.yaml
      st3r localize --reference dock.jpg --query now.jpg --pair-model mast3r --checkpoint mast3r --draw matches.png
      st3r localize --reference dock.jpg --depth dock_depth.png --query images/ --camera camera.yaml --json poses.json
      st3r localize --reference office_map --query images/       (after: st3r map ... --save-map office_map)
      st3r localize -r door.jpg -r window.jpg -q now.jpg --json -
    """
    from st3r_ros.commands.settings import parse_settings

    parsed = parse_settings(settings)
    from st3r_ros.commands.localize import LocalizeOptions, run_localize

    options = LocalizeOptions(
        references=tuple(references),
        query=query,
        camera=camera,
        query_camera=query_camera,
        pair_model=pair_model,
        checkpoint=checkpoint,
        masks=masks,
        depth=depth,
        depth_scale=depth_scale,
        json_target=json_target,
        draw=draw,
    )
    return run_localize(options, parsed)


@app.command("pair")
@_reported
def pair_command(
    image0: str = typer.Argument(..., metavar="A", help="An image file."),
    image1: str = typer.Argument("", metavar="[B]", help="A second one; without it, or with the same, A is processed alone."),
    *,
    out: str = typer.Option(_PAIR_DEFAULTS.out, "--out", "-o", help="Folder for the results."),
    pair_model: str = typer.Option(_PAIR_DEFAULTS.pair_model, help=_PAIR_MODEL),
    checkpoint: str = typer.Option(_PAIR_DEFAULTS.checkpoint, help=_CHECKPOINT),
    fine: bool = typer.Option(
        _PAIR_DEFAULTS.fine, "--fine", help="Match again at full resolution, in overlapping windows (MASt3R)."
    ),
    device: str = typer.Option("", help="auto, cuda or cpu; short for --set mast3r.device=..."),
    dtype: str = typer.Option("", help="auto, fp32, bf16 or fp16; short for --set mast3r.dtype=..."),
    settings: list[str] = _SETTINGS,
    json_target: str = typer.Option("", "--json", metavar="FILE|-", help="Write the summary to a file, or to stdout with -."),
) -> int:
    """Compute depth, matches and relative pose of two images, or the depth of one.

    Writes points (PLY), depth and confidence (pictures, NPY), a picture of the matches and summary.json.

    \b
    Examples:
      st3r download mast3r --accept-license    (once)
      st3r pair left.jpg right.jpg --checkpoint mast3r
      st3r pair left.jpg right.jpg --checkpoint weights.pth --out chair
      st3r pair left.jpg right.jpg --checkpoint mast3r --fine  (large images: matches at full resolution)
      st3r pair room.jpg --checkpoint mast3r   (one image: points and depth)
      st3r pair left.jpg right.jpg --pair-model opencv         (no weights)
    """
    from st3r_ros.commands.settings import parse_settings

    config = PairCommandConfig(pair_model=pair_model, checkpoint=checkpoint, out=out, fine=fine)
    short = {"mast3r.device": device, "mast3r.dtype": dtype}
    parsed = parse_settings([*settings, *(f"{name}={value}" for name, value in short.items() if value)])
    from st3r_ros.commands.pair import run_pair

    run_pair([image0, image1] if image1 else [image0], config, parsed, json_target)
    return 0


@app.command("eval")
@_reported
def eval_command(
    results: str = typer.Argument(
        ..., metavar="OUT", help="Folder of `st3r map`; with --relocalization, JSON of `st3r localize`."
    ),
    sequence: str = typer.Argument(..., metavar="SEQ", help="The sequence it was made from, with ground truth."),
    *,
    relocalization: bool = typer.Option(False, "--relocalization", help="Evaluate poses of `st3r localize`."),
    truth: str = typer.Option("", metavar="FILE", help=_TRUTH),
    camera: str = typer.Option("", help="Calibration file of the depth images, if the sequence has none."),
    json_target: str = typer.Option("", "--json", metavar="FILE|-", help="Write JSON to a file, or to stdout with -."),
) -> int:
    """Compare a map with ground truth: trajectory error after Sim(3) and SE(3) alignment, tracked share, depth errors.

    With --relocalization: errors of localized poses, shares within 0.25 m and 0.5 m, false answers. Queries and reference images
    are identified in SEQ by stamp or file name; a map is aligned with the ground truth by its frames.

    \b
    Examples:
      st3r eval st3r_map sequences/kitchen
      st3r eval st3r_map sequences/kitchen --json -
      st3r localize -r sequences/kitchen/rgb/0.000000.jpg -q sequences/kitchen --json poses.json
      st3r eval --relocalization poses.json sequences/kitchen
    """
    if relocalization:
        from st3r_ros.commands.evaluate import run_relocalization_eval

        run_relocalization_eval(results, sequence, json_target, truth)
        return 0
    from st3r_ros.commands.evaluate import run_eval

    run_eval(results, sequence, camera, json_target, truth)
    return 0


@app.command("export")
@_reported
def export_command(
    saved_map: str = typer.Argument(..., metavar="MAP", help="Folder written by `st3r map --save-map`."),
    *,
    export_format: str = typer.Option(_EXPORT_DEFAULTS.format, "--format", "-f", help=f"One of {', '.join(EXPORT_FORMATS)}."),
    out: str = typer.Option(_EXPORT_DEFAULTS.out, "--out", "-o", help="File (ply) or new folder; by default next to the map."),
    points: str = typer.Option(
        _EXPORT_DEFAULTS.points, help="Points of a COLMAP model: matches (with tracks), cloud (without), or both."
    ),
    text: bool = typer.Option(_EXPORT_DEFAULTS.text, "--text", help="Write a COLMAP model as text instead of binary."),
    images: str = typer.Option(
        _EXPORT_DEFAULTS.images, help="working: the map's own images; original: those it was made from, at full resolution."
    ),
    originals: str = typer.Option(
        _EXPORT_DEFAULTS.originals, metavar="FOLDER|INPUT", help="Where the originals are now, or the input that was mapped."
    ),
    settings: list[str] = _SETTINGS,
) -> int:
    """Write a saved map for other programs.

    ply: the cloud. tum: the poses of all frames and of the keyframes. colmap: images and a COLMAP model, for COLMAP and
    Gaussian-splatting programs. nerfstudio: images, transforms.json and the cloud. Images are named after the files they come
    from; keyframes.csv names the files. Original images are undistorted, as the map's are, and their intrinsics are scaled.

    \b
    Examples:
      st3r map sim:room --save-map room_map
      st3r export room_map --format ply --out room.ply --set cloud.voxel_size=0.01
      st3r export room_map --format tum --out room_poses
      st3r export room_map --format colmap --out room_colmap
      st3r export room_map --format nerfstudio --out room_ns
      st3r export garden_map --format colmap --images original     (full resolution; --originals where they have moved)
    """
    from st3r_ros.commands.settings import parse_settings

    config = ExportCommandConfig(format=export_format, out=out, points=points, text=text, images=images, originals=originals)
    parsed = parse_settings(settings)
    from st3r_ros.commands.export import run_export

    run_export(saved_map, config, parsed)
    return 0


@app.command("view")
@_reported
def view_command(
    saved_map: str = typer.Argument(..., metavar="MAP", help="Folder written by `st3r map --save-map`."),
    *,
    port: int = typer.Option(_VIEW_DEFAULTS.port, help="TCP port; 0 takes a free one."),
    host: str = typer.Option(_VIEW_DEFAULTS.host, help="Address to listen on; 0.0.0.0 allows access from the whole network."),
    allowed_hosts: str = typer.Option(
        _VIEW_DEFAULTS.allowed_hosts, help="Further names under which a browser may open the page, separated by commas."
    ),
    max_points: int = typer.Option(_VIEW_DEFAULTS.max_points, help="Maximum number of points; a larger cloud is thinned evenly."),
    browser: bool = typer.Option(True, "--open/--no-open", help="Open a browser on this desktop."),
    settings: list[str] = _SETTINGS,
) -> int:
    """Show a saved map in the browser: cloud, path, keyframes with their pictures. Ctrl-C ends.

    \b
    Examples:
      st3r map sim:room --save-map room_map
      st3r view room_map
      st3r view room_map --port 9000 --max-points 2000000 --set cloud.voxel_size=0.005
    """
    from st3r_ros.commands.settings import parse_settings

    config = ViewerConfig(host=host, port=port, allowed_hosts=allowed_hosts, max_points=max_points)
    parsed = parse_settings(settings)
    from st3r_ros.commands.view import run_view

    return run_view(saved_map, config, parsed, browser=browser)


@app.command("demo")
@_reported
def demo_command(
    source: str = typer.Option(_DEMO_DEFAULTS.input, "--input", metavar="INPUT", help=_INPUT),
    out: str = typer.Option(_DEMO_DEFAULTS.out, "--out", "-o", help="Folder for the results."),
    view: bool = typer.Option(_DEMO_DEFAULTS.view, "--view", help="Show the map in the browser."),
) -> int:
    """Map a simulated room or your own input: over ROS topics with ROS 2, with the library alone without it.

    \b
    Examples:
      st3r demo
      st3r demo --view
      st3r demo --input my_video.mp4 --out my_map
    """
    from st3r_ros.commands.demo import run_demo

    return run_demo(DemoConfig(input=source, out=out, view=view))


@app.command("settings")
@_reported
def settings_command() -> int:
    """List the settings for `st3r map --set NAME=VALUE`, which are also parameters of the ROS nodes."""
    from st3r_ros.commands.settings import list_settings

    for setting in list_settings():
        typer.echo(f"{setting.name}={setting.default}  ({setting.allowed})\n    {setting.description}")
    return 0


@app.command("download")
@_reported
def download_command(
    name: str = typer.Argument(..., metavar="NAME", help=_WEIGHTS),
    *,
    out: str = typer.Option("", "--out", "-o", help="Folder for the file; by default the cache, in which NAME is looked up."),
    accept_license: bool = typer.Option(False, "--accept-license", help="Accept the licence that is shown."),
    mirror: str = typer.Option("", envvar="ST3R_MIRROR", metavar="URL", help="Download from this server instead."),
) -> int:
    """Download the weights of a network: shows the licence first, resumes an interrupted download, verifies the file.

    \b
    Examples:
      st3r download mast3r --accept-license
      st3r map drive.mp4 --pair-model mast3r --checkpoint mast3r
      st3r download dust3r --out weights/
    """
    from st3r_ros.commands.download import DownloadOptions, run_download

    return run_download(name, DownloadOptions(out=out, accept_license=accept_license, mirror=mirror))


@app.command("doctor")
@_reported
def doctor_command(
    checkpoint: str = typer.Argument("", metavar="[CHECKPOINT]", help="Check these weights instead of the machine."),
    *,
    camera: str = typer.Option("", metavar="FILE", help="Check this calibration file instead (docs/calibration.md)."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> int:
    """Check this machine and say how to install what is missing; or check a weight file, or a calibration.

    Returns 1 when st3r cannot map, or cannot use the weights or the calibration.

    \b
    Examples:
      st3r doctor
      st3r doctor mast3r
      st3r doctor weights/model.safetensors --json
      st3r doctor --camera camera.yaml
    """
    if camera:
        from st3r_ros.commands.camera_report import run_camera_report

        return run_camera_report(camera, as_json)
    if checkpoint:
        from st3r_ros.commands.checkpoint_report import run_checkpoint_report

        return run_checkpoint_report(checkpoint, as_json)
    from st3r_ros.commands.doctor import run_doctor

    return run_doctor(as_json)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"st3r {st3r_ros.__version__}")
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help=_VERSION)) -> None:
    pass


def main(args: list[str] | None = None) -> None:
    """Runs the command line and ends the process: exit code 2 for a user error, 130 for Ctrl-C."""
    app(args, prog_name="st3r")
