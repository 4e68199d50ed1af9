# SPDX-License-Identifier: Apache-2.0
"""`st3r export`: writes a saved map for other programs."""

from __future__ import annotations

from pathlib import Path

from st3r_ros.commands.originals import Originals
from st3r_ros.commands.settings import Settings
from st3r_ros.config import ExportCommandConfig
from st3r_ros.errors import ConfigError
from st3r_ros.maps.export import export_map
from st3r_ros.maps.load import load_map
from st3r_ros.maps.staging import resolved


def run_export(folder: str, config: ExportCommandConfig, settings: Settings) -> None:
    """Exports a saved map and prints what was written.

    Raises:
        St3rError: the map cannot be loaded, or the output cannot be written.
    """
    saved = load_map(folder)
    if config.images == "original" and config.format not in ("colmap", "nerfstudio"):
        raise ConfigError(f"images is 'original', but the format {config.format} has no images; export colmap or nerfstudio.")
    if config.originals and config.images != "original":
        raise ConfigError("originals is given, but the map's own images are exported; add --images original.")
    originals = Originals(config.originals) if config.images == "original" else None
    out = Path(config.out) if config.out else _beside(folder, config.format)
    written = export_map(
        out, saved.map, config.format, settings.cloud, points=config.points, text=config.text, originals=originals
    )
    unit = f"metres (from {saved.map.scale.source})" if saved.map.scale.metric else "arbitrary units"
    print(f"Wrote {written} to {out}, in {unit}.")


def _beside(folder: str, export_format: str) -> Path:
    """The place that is named after the map."""
    path = resolved(folder)
    return path.with_name(f"{path.name}.ply" if export_format == "ply" else f"{path.name}_{export_format}")
