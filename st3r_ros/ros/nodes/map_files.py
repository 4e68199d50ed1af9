# SPDX-License-Identifier: Apache-2.0
"""Saved maps of the mapping node: loaded, saved, exported. Everything here runs on the worker thread, or before it starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from st3r_ros.config import EXPORT_FORMATS, CloudConfig, MappingNodeConfig
from st3r_ros.errors import ConfigError, OutputError
from st3r_ros.mapping_run import MappingRun
from st3r_ros.maps.export import export_cloud, export_map
from st3r_ros.maps.save import check_map_folder
from st3r_ros.saved_maps import keep_map, open_map
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import PairModel, PointCloud


class MapFiles:
    """Loading, saving and exporting of the map of a run. `folder` is where it was loaded from or saved last, "" at first."""

    def __init__(self, run: MappingRun, model: PairModel, config: MappingNodeConfig) -> None:
        self._run, self._model = run, model
        self._checkpoint, self._frozen = config.checkpoint, config.mode == "localization"
        self.folder = config.map_path

    def begin(self, *, may_be_new: bool) -> str:
        """Loads map_path, if set, and logs it. may_be_new: whether the folder may be missing, to be created at the end.

        Raises:
            MapFileError, OutputError: the map cannot be loaded, or a new one cannot be saved there.
        """
        if self._frozen:
            self._run.load(KeyframeMap(), frozen=True)
        if may_be_new and not self._frozen:
            check_map_folder(self.folder)
            if not Path(self.folder).exists():
                return f"Starting a new map, which will be saved in '{self.folder}'."
        return self.load("") if self.folder else ""

    def load(self, folder: str) -> str:
        """Begins the run anew in a saved map; folder "" is the last one. Returns a message.

        Raises:
            ConfigError, MapFileError: there is none, or it was made with another pair model; the current map is kept.
        """
        folder = self._named(folder)
        saved = open_map(folder, self._model.name, self._checkpoint)
        self._run.load(saved.map, frozen=self._frozen)
        self.folder = folder
        what = "localizing the camera in it" if self._frozen else "mapping continues when the camera is found in it"
        return f"Loaded '{folder}': {saved.info.keyframes} keyframes; {what}."

    def save(self, folder: str) -> str:
        """Saves the map; folder "" is the last one. Returns a message.

        Raises:
            ConfigError, OutputError: nothing was saved.
        """
        folder = self._named(folder)
        saved = keep_map(folder, self._run.mapper.map, self._model.name, self._checkpoint)
        self.folder = folder
        return f"Saved '{folder}': {saved.keyframes} keyframes, {saved.bytes / 1e6:.1f} MB."

    def export(self, kind: str, path: str, cloud: CloudConfig, whole: Callable[[], PointCloud]) -> str:
        """Exports the map for other programs. Returns a message. whole: gives its cloud with these settings.

        Raises:
            ConfigError, OutputError: nothing was written.
        """
        kind = kind or EXPORT_FORMATS[0]
        if kind not in EXPORT_FORMATS:
            raise ConfigError(f"The format is '{kind[:50]}'; it must be one of {', '.join(EXPORT_FORMATS)}.")
        if not path:
            raise ConfigError("The path is empty; give the file (ply) or the new folder to write.")
        keyframe_map = self._run.mapper.map
        if not keyframe_map.frames:
            raise OutputError("There is nothing to export: the map is empty.")
        try:
            written = export_cloud(path, whole()) if kind == "ply" else export_map(path, keyframe_map, kind, cloud)
        except (OSError, ValueError) as error:  # an invalid path
            raise OutputError(f"'{path[:200]}' cannot be written: {error}.") from error
        scale = keyframe_map.scale
        return f"Wrote {written} to '{path}', in {f'metres (from {scale.source})' if scale.metric else 'arbitrary units'}."

    def _named(self, folder: str) -> str:
        if not (folder or self.folder):
            raise ConfigError("No folder is given and none is known; give the folder of the map.")
        return folder or self.folder
