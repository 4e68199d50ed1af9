# SPDX-License-Identifier: Apache-2.0
"""Number of points to draw while the view is turned, adapted to the speed of the browsers."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise

FIRST_POINTS = 20_000
"""Number of points that a browser with software rendering can turn."""
FEWEST_POINTS = 5_000
AT_REST = 4
"""Factor of points drawn while the view rests."""
SLOW_S, FAST_S = 0.15, 0.08
_REST_S = 0.6
"""A view that is not heard of for so long rests; one that is drawn slowly rests later."""
_PAUSE_S = 4.0
_LOOKED_AT = 8
_RUN = 3
_FORGET_S = 30.0


class Turning:
    """A browser tells where its camera is whenever it draws, once or twice: how soon it tells again is how long drawing takes.

    points: how many may be drawn while a view turns; at first few, and more once the browsers have proved to be fast.
    """

    def __init__(self) -> None:
        self.points = FIRST_POINTS
        self._times: dict[int, deque[float]] = {}
        self._rests = -math.inf
        self._too_many, self._too_many_at = math.inf, -math.inf

    def moved(self, client: int, now: float, drawn: int) -> None:
        """The camera of a browser has moved, at `now` seconds, with `drawn` points to be seen."""
        times = self._times.setdefault(client, deque(maxlen=_LOOKED_AT))
        if times and now - times[-1] > _PAUSE_S:
            times.clear()
        times.append(now)
        if len(times) > 1:  # the first may tell of a view that was given to it
            moments = list(times)
            longest = max(later - earlier for earlier, later in pairwise(moments))
            self._rests = now + max(_REST_S, 1.5 * longest)
        if len(times) == _LOOKED_AT and self._learn(times, now, drawn):
            times.clear()
            times.append(now)

    def is_on(self, now: float) -> bool:
        """Whether a view is being turned."""
        return now < self._rests

    def limit(self, now: float) -> int:
        """How many points may be drawn now."""
        return self.points if self.is_on(now) else AT_REST * self.points

    def _learn(self, times: deque[float], now: float, drawn: int) -> bool:
        """Whether `points` has changed. A hand that pauses leaves some short times between long ones, a slow browser does not."""
        moments = list(times)
        shortest = min(later - earlier for earlier, later in zip(moments, moments[_RUN:], strict=False))
        if shortest > SLOW_S and self.points > FEWEST_POINTS:
            self._too_many, self._too_many_at = min(self.points, drawn), now
            self.points = max(FEWEST_POINTS, int(self._too_many) // 2)
            return True
        limit = self._too_many if now - self._too_many_at < _FORGET_S else math.inf
        if shortest < FAST_S and 2 * self.points < limit and drawn >= self.points // 2:
            self.points *= 2
            return True
        return False
