# SPDX-License-Identifier: Apache-2.0
"""What a new keyframe takes time for, on another thread while frames are tracked; applied completely between two frames.

First comes its survey: dense depth, ties, loops. Then the newest keyframes are optimized together. Until a survey has been
applied, nobody adds or removes keyframes or edges or moves keyframes: what it looks at is the map itself.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TypeVar

from st3r_ros.slam.keyframes.map_builder import MapBuilder, Optimum
from st3r_ros.slam.keyframes.survey import Survey
from st3r_ros.slam.tracking.tracker import Tracked
from st3r_ros.types import Edge, Keyframe

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LocallyMapped:
    """What has been applied. completed: the keyframe that has got its depth and ties, if any. moved: ids.

    loops: edges of verified loops, to be tried. loops_rejected: number of candidates that did not agree with the map.
    """

    completed: Keyframe | None = None
    moved: tuple[int, ...] = ()
    loops: tuple[Edge, ...] = ()
    loops_rejected: int = 0


class LocalMapping:
    """Surveys new keyframes, one after the other, and optimizes the newest ones.

    executor: runs it; None does it at once, for repeatable runs.
    """

    def __init__(self, builder: MapBuilder, executor: Executor | None = None) -> None:
        self._builder, self._executor = builder, executor
        self._survey: Future[Survey] | None = None
        self._optimum: Future[Optimum | None] | None = None
        self._due = False

    @property
    def surveying(self) -> bool:
        """Whether the graph and the poses of the map are being looked at, and must stay as they are."""
        return self._survey is not None

    @property
    def busy(self) -> bool:
        """Whether anything is still to be applied."""
        return self.surveying or self._due or self._optimum is not None

    def begin(self, keyframe: Keyframe, previous: Keyframe, tracked: Tracked) -> None:
        """Surveys a new keyframe, made of a frame tracked against `previous`. The survey before has been applied."""
        assert self._survey is None
        self._survey = self._run(lambda: self._builder.surveyor.survey(keyframe, previous, tracked))

    def apply(self, *, wait: bool = False) -> LocallyMapped | None:
        """Applies what is finished; None when nothing is. wait: for the survey, or where there is none for the optimization.

        Keyframes that are completed while others are optimized are optimized together, later.
        """
        if self._survey is not None:
            return self._complete(self._survey) if wait or self._survey.done() else None
        if self._due and self._optimum is None:
            self._due, self._optimum = False, self._run(self._builder.optimization())
        if self._optimum is None or not (wait or self._optimum.done()):
            return None
        done, self._optimum = self._optimum, None
        optimum = done.result()
        return LocallyMapped(moved=tuple(self._builder.take(optimum)) if optimum is not None else ())

    def _complete(self, done: Future[Survey]) -> LocallyMapped:
        self._survey = None
        survey = done.result()
        self._builder.complete(survey)
        self._due = True
        loops = [self._builder.edge(survey.keyframe, loop.other, loop.matches, "loop") for loop in survey.loops.loops]
        return LocallyMapped(survey.keyframe, (), tuple(loops), survey.loops.rejected)

    def _run(self, work: Callable[[], T]) -> Future[T]:
        if self._executor is not None:
            return self._executor.submit(work)
        done: Future[T] = Future()
        done.set_result(work())
        return done
