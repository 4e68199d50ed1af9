# SPDX-License-Identifier: Apache-2.0
"""Place recognition by global descriptors of a pair model: every image of a sequence is looked up among the others.

Two images show the same place when each shows at least 30 % of what the other one shows, and other places below 3 %; that is
computed from true depth and poses. Without depth the viewing directions decide (below 35 degrees, above 60), which is right for
a camera that moves around an object. Images less than --gap seconds apart are skipped, because finding them is too easy.

recall@k: share of the images whose place is seen at another time for which one of the k most similar images shows at least 20 %
of the same. AP: average precision over all pairs of the same and of other places. The similarities are those of same places (the
5 % and 50 % quantiles) and of other places (50 %, 95 %, 99 %): where they lie apart there is a threshold between them.
wasted: the images per query that pass --min-similarity and --min-lift, of the three most similar ones, when everything that
shows any of the same is taken away: what a mapper would check in vain on new ground.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import harness
import numpy as np
import torch
from harness import Row, Table
from mapping_bench.cases import MODELS, NOISY_DEPTH

from noisy_depth.correspondence import correspond
from noisy_depth.model import NoisyDepthModel
from noisy_depth.views import DepthFrames, TrueView, TrueViews
from st3r_ros.errors import InputError
from st3r_ros.geometry import so3
from st3r_ros.runtime import start_pair_model
from st3r_ros.sequences import open_sequence
from st3r_ros.slam.places.retrieval import PlaceIndex
from st3r_ros.types import Trajectory

DEFAULT_SEQUENCES = ["sim:room?seed=1", "sim:corridor?seed=1&frames=600"]
SAME, FOUND, OTHER = 0.3, 0.2, 0.03
SAME_DEG, OTHER_DEG = 35.0, 60.0
VIEW_SIZE = 160
ALIKE = 3
FIGURES = (("recall1", "recall@1", ">8", ".0%"), ("recall3", "recall@3", ">8", ".0%"), ("precision", "AP", ">5", ".2f"))
FIGURES += (("same5", "same 5%", ">8", ".3f"), ("same50", "50%", ">6", ".3f"), ("other50", "other 50%", ">10", ".3f"))
FIGURES += (("other95", "95%", ">6", ".3f"), ("other99", "99%", ">6", ".3f"), ("wasted", "wasted", ">7", ".2f"))
TABLE = Table((("sequence", "sequence", "<40", ""), ("images", "images", ">6", ""), *FIGURES, ("ms", "ms", ">5", ".0f")))
EXAMPLES = """examples:
  python bench/retrieval.py
  python bench/retrieval.py {kitchen,fox} sim:{room,corridor}'?seed=1&frames=600' --min-similarity 0.08
  python bench/retrieval.py kitchen --pair-model mast3r --checkpoint mast3r"""


@dataclass(frozen=True, eq=False)
class Described:
    """N images. seconds: (N,). descriptors: (N, D) unit float32. overlap: (N, N) the smaller share that two images show of each
    other, in [0, 1]. ms: median CPU time of describing an image.
    """

    seconds: np.ndarray
    descriptors: torch.Tensor
    overlap: np.ndarray
    ms: float


def describe(source: str, chosen: argparse.Namespace) -> Described:
    """Encodes and describes the images of a sequence, and finds out which of them show the same."""
    sequence: Any = open_sequence(source)
    if sequence.truth is None:
        raise InputError(f"'{source}' has no true poses; give a folder with groundtruth.txt, or a simulated world.")
    noisy = chosen.pair_model == NOISY_DEPTH
    views = TrueViews(sequence, VIEW_SIZE) if noisy or getattr(sequence, "depth", None) is not None else None
    model: Any = NoisyDepthModel(views.of) if noisy and views else start_pair_model(chosen.pair_model, chosen.checkpoint)
    every = chosen.every
    frames: Any = DepthFrames(sequence, views, every=every, pictures=True) if views else open_sequence(source, every=every)
    seconds, descriptors, seen, taken = [], [], [], []
    for frame in frames:
        features = model.encode(frame)
        with harness.clocks(taken, time.process_time):
            descriptors.append(model.describe(features).cpu())
        seconds.append(frame.stamp)
        seen.append(views.of(frame) if views else frame.stamp_ns)
    overlap = overlap_of_views(seen) if views else overlap_of_directions(sequence.truth, np.array(seen))
    return Described(np.array(seconds), torch.stack(descriptors), overlap, harness.median([cpu_ms for _, cpu_ms in taken]))


def overlap_of_views(views: list[TrueView]) -> np.ndarray:
    """(N, N) shares that two views show of each other, the smaller one."""
    shares = np.array([[correspond(view0, view1).overlap for view1 in views] for view0 in views])
    return np.minimum(shares, shares.T)


def overlap_of_directions(truth: Trajectory, stamps_ns: np.ndarray) -> np.ndarray:
    """(N, N): 1 where two images look in a similar direction, 0 where they do not, something between elsewhere."""
    nearest = np.abs(truth.stamps_ns[None] - stamps_ns[:, None]).argmin(1)
    axes = so3.from_quaternion_xyzw(truth.quaternions_xyzw[nearest])[:, :, 2]
    degrees = np.degrees(np.arccos(np.clip(axes @ axes.T, -1.0, 1.0)))
    return np.where(degrees < SAME_DEG, 1.0, np.where(degrees > OTHER_DEG, 0.0, (SAME + OTHER) / 2))


def evaluate(described: Described, gap: float = 3.0, min_similarity: float = -1.0, min_lift: float = -2.0) -> Row:
    """The figures of one sequence, NaN where nothing is seen twice. gap: seconds between images that are compared."""
    overlap, similarity = described.overlap, (described.descriptors @ described.descriptors.T).numpy()
    apart = np.abs(described.seconds[:, None] - described.seconds) > gap
    asked = ((overlap >= SAME) & apart).any(1)
    ranked = np.argsort(-np.where(apart, similarity, -np.inf), axis=1, kind="stable")[asked]
    found = np.take_along_axis(overlap[asked] >= FOUND, ranked, 1)
    once = np.triu(apart)
    same, other = similarity[once & (overlap >= SAME)], similarity[once & (overlap < OTHER)]
    quantiles = [("same", same, share) for share in (5, 50)] + [("other", other, share) for share in (50, 95, 99)]
    return {
        "recall1": _mean(found[:, 0]),
        "recall3": _mean(found[:, :ALIKE].any(1)),
        "precision": average_precision(same, other),
        **{f"{of}{share}": float(np.percentile(values, share)) if len(values) else np.nan for of, values, share in quantiles},
        "wasted": wasted_checks(described, apart, min_similarity, min_lift),
    }


def average_precision(same: np.ndarray, other: np.ndarray) -> float:
    """The mean precision at each of the same places when all pairs are sorted by similarity."""
    correct = np.concatenate([np.ones(len(same)), np.zeros(len(other))])[np.argsort(-np.concatenate([same, other]))]
    precision = np.cumsum(correct) / np.arange(1, len(correct) + 1)
    return _mean(precision[correct > 0])


def wasted_checks(described: Described, apart: np.ndarray, min_similarity: float, min_lift: float) -> float:
    """Candidates per image when nothing of the index shows the same."""
    index = PlaceIndex()
    for id, descriptor in enumerate(described.descriptors):
        index.add(id, descriptor)
    count = 0
    for id, descriptor in enumerate(described.descriptors):
        known = np.flatnonzero((described.overlap[id] >= OTHER) | ~apart[id])
        count += len(index.query(descriptor, ALIKE, exclude=known, min_similarity=min_similarity, min_lift=min_lift))
    return count / len(described.descriptors)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = harness.parser(__doc__, EXAMPLES)
    add, sequences = parser.add_argument, "any input of `st3r map` with ground truth"
    add("sequences", nargs="*", metavar="SEQ", default=DEFAULT_SEQUENCES, help=sequences)
    add("--pair-model", choices=MODELS, default="opencv")
    add("--checkpoint", default="", help="weights for mast3r: file, folder, Hub id or published name")
    add("--every", type=harness.positive, default=10, metavar="N", help="take every n-th image (of those with depth)")
    add("--gap", type=float, default=3.0, metavar="S", help="seconds between images that are compared")
    add("--min-similarity", type=float, default=-1.0)
    add("--min-lift", type=float, default=-2.0)
    return parser.parse_args(arguments)


@harness.command
def main(arguments: list[str] | None = None) -> int:
    """Prints a line per sequence; 2 when one cannot be used."""
    chosen = options(arguments)
    status = 0
    print(TABLE.header())
    for source in chosen.sequences:
        described = harness.attempt(source, partial(describe, source, chosen))
        if described is None:
            status = harness.FAILED
        else:
            figures = evaluate(described, chosen.gap, chosen.min_similarity, chosen.min_lift)
            print(TABLE.line({"sequence": source, "images": len(described.seconds), "ms": described.ms, **figures}), flush=True)
    return status


if __name__ == "__main__":
    harness.start(main, one_thread=True)
