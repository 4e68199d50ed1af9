# SPDX-License-Identifier: Apache-2.0
"""The ground truth of a command: of a file that the user gives, or of the sequence."""

from __future__ import annotations

from pathlib import Path

from st3r_ros.errors import InputError
from st3r_ros.eval.trajectory import why_unmatched
from st3r_ros.io.layouts.recording import Truth
from st3r_ros.io.trajectory import FrameStamps, load_tum
from st3r_ros.sequences import FrameSequence


def truth_for(sequence: FrameSequence, file: str) -> Truth:
    """The true poses to compare a sequence with, and notes on them. file: with them, "" for those of the sequence.

    Raises:
        InputError: the file cannot be read, or holds no pose that can be used.
    """
    stamps = getattr(sequence, "stamps_ns", None)
    if not file:
        truth = Truth(sequence.truth, notes=tuple(sequence.truth_notes))
    else:
        frames = None if stamps is None else FrameStamps(dict(enumerate(stamps.tolist())), complete=True)
        truth = Truth.of_file(load_tum(Path(file).expanduser(), frames), Path(file).name)
        if truth.trajectory is None:
            raise InputError(f"'{file}' cannot be used. {' '.join(truth.notes)}")
    why = "" if truth.trajectory is None or stamps is None else why_unmatched(stamps, truth.trajectory)
    return Truth(truth.trajectory, truth.source, (*truth.notes, *([why] if why else [])))
