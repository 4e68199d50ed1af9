# SPDX-License-Identifier: Apache-2.0
"""The order of the stamps of a stream: a single wrong stamp, or a jump in time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from st3r_ros.errors import FrameError
from st3r_ros.io.stamps import format_stamp, span

STEP_S = 10.0
"""Maximum step to the next stamp, seconds, for a steady stream."""
BACK_S = 1.0
"""Maximum step backwards, seconds."""


class Verdict(Enum):
    """What a stamp says: it follows the images before, or it confirms the doubtful one before, or it is doubtful itself."""

    FOLLOWS = "follows"
    CONFIRMS = "confirms"
    DOUBTFUL = "doubtful"


@dataclass(frozen=True)
class _Known:
    """A stamp: its arrival on a steady clock, the step to it, and whether it agrees with the node's clock."""

    stamp_ns: int
    arrived_s: float
    step_s: float
    fits_clock: bool

    def is_followed_by(self, stamp_ns: int, arrived_s: float) -> bool:
        longest_s = max(STEP_S, 3.0 * self.step_s) + 2.0 * (arrived_s - self.arrived_s)
        return -BACK_S <= (stamp_ns - self.stamp_ns) * 1e-9 <= longest_s


class StampOrder:
    """Distinguishes a single wrong stamp from a jump in time, after which further images have the new time."""

    def __init__(self) -> None:
        self._last: _Known | None = None
        self._doubtful: _Known | None = None

    @property
    def last_ns(self) -> int | None:
        """The last stamp that is not in doubt."""
        return self._last.stamp_ns if self._last is not None else None

    def believe(self) -> None:
        """The doubtful stamp is right."""
        self._last, self._doubtful = self._doubtful, None

    def check(self, stamp_ns: int, arrived_s: float, *, fits_clock: bool = False) -> Verdict:
        """Judges the next stamp.

        arrived_s: time of arrival on a steady clock, seconds. fits_clock: whether the stamp agrees with the node's clock, which
        is enough for the first one, and for others where the one before agreed as well: the clock has jumped with the images.
        """
        last, doubtful = self._last, self._doubtful
        if last is not None and last.is_followed_by(stamp_ns, arrived_s):
            verdict, before = Verdict.FOLLOWS, last
        elif doubtful is not None and doubtful.is_followed_by(stamp_ns, arrived_s):
            verdict, before = Verdict.CONFIRMS, doubtful
        elif fits_clock and (last is None or last.fits_clock):
            verdict, before = Verdict.FOLLOWS, None
        else:
            verdict, before = Verdict.DOUBTFUL, last or doubtful
        step_s = 0.0 if before is None else max(0.0, (stamp_ns - before.stamp_ns) * 1e-9)
        known = _Known(stamp_ns, arrived_s, step_s, fits_clock)
        if verdict is Verdict.DOUBTFUL:
            self._last = last or doubtful  # of two first ones that disagree either may be right
            self._doubtful = known
        else:
            self._last, self._doubtful = known, None
        return verdict


def stray(stamp_ns: int, other_ns: int, neighbour: str) -> FrameError:
    """Why an image is skipped whose stamp is far from that of its neighbour, the "last" or the "next" image."""
    step_s = (stamp_ns - other_ns) * 1e-9
    where = f"{span(step_s)} after" if step_s > 0 else f"{span(-step_s)} before"
    return FrameError(f"Its stamp {format_stamp(stamp_ns)} s is {where} the {neighbour} image's.")
