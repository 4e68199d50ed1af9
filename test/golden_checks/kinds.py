# SPDX-License-Identifier: Apache-2.0
"""Selects the check of a file by its name."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from golden_checks.checkpoint_files import check_checkpoint, check_keys
from golden_checks.function_files import check_postprocess, check_rope
from golden_checks.geometry_files import check_canonical, check_focal, check_geometry
from golden_checks.match_files import check_synthetic, check_tiny
from golden_checks.network_files import check_network_file, set_of
from golden_checks.preprocess_files import check_pixels, check_preprocess
from golden_checks.procedural import SETS, procedural_network
from golden_checks.results import Check, Result, Skipped
from st3r_ros.checkpoints.checkpoint import load_network
from st3r_ros.errors import St3rError
from st3r_ros.network.network import PairNetwork

FUNCTION_KINDS = {
    "match": ((r"match_synthetic.*\.npz", check_synthetic), (r"match_tiny_.*\.npz", check_tiny)),
    "preprocess": ((r"preprocess.*\.json", check_preprocess), (r"preprocess_pixels.*\.npz", check_pixels)),
    "rope": ((r"rope2d.*\.npz", check_rope),),
    "postprocess": ((r"postprocess.*\.npz", check_postprocess),),
    "focal": ((r"focal.*\.npz", check_focal),),
    "geometry": ((r"geometry.*\.npz", check_geometry),),
    "canonical": ((r"canonical_view.*\.npz", check_canonical),),
}
KINDS = (*SETS, *FUNCTION_KINDS)
WEIGHTS = ("procedural", "pth")


def kind_of(path: Path) -> str | None:
    """The kind of a file, one of `KINDS`, or None."""
    for kind, checks in FUNCTION_KINDS.items():
        if any(re.fullmatch(pattern, path.name) for pattern, _ in checks):
            return kind
    name = set_of(path) or re.sub(r"keys_(\w+)\.json|(\w+)\.pth", r"\1\2", path.name)
    return name if name in SETS else None


class Checker:
    """Checks one file after the other; keeps the network of the last set."""

    def __init__(self, weights: str = "procedural") -> None:
        """weights: "procedural", or "pth" to take those of `<set>.pth` beside each network file."""
        self.weights = weights
        self._source: str | Path | None = None
        self._network: PairNetwork | None = None

    def check(self, path: Path) -> Iterator[Result]:
        """Every array of a file that has a kind. A file that cannot be read fails."""
        try:
            yield from self._check(path)
        except (St3rError, OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            yield Check(path.name, f"{type(error).__name__}: {error}", "not readable", float("inf"), 0.0)

    def _check(self, path: Path) -> Iterator[Result]:
        kind = kind_of(path)
        if kind in FUNCTION_KINDS:
            check = next(check for pattern, check in FUNCTION_KINDS[kind] if re.fullmatch(pattern, path.name))
            yield from check(path)
        elif path.suffix == ".pth":
            yield from check_checkpoint(path)
        elif path.suffix == ".json":
            yield from check_keys(path)
        elif self.weights == "pth" and not path.with_name(f"{kind}.pth").is_file():
            yield Skipped(path.name, "", f"there is no {kind}.pth beside it")
        elif kind:
            yield from check_network_file(path, self._network_for(kind, path))

    def _network_for(self, kind: str, path: Path) -> PairNetwork:
        source = path.with_name(f"{kind}.pth") if self.weights == "pth" else kind
        if self._network is None or source != self._source:
            self._network = None  # before the next one is built, so that memory holds one
            self._network = procedural_network(kind) if source == kind else load_network(source)
            self._source = source
        return self._network
