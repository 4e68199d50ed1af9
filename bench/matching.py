# SPDX-License-Identifier: Apache-2.0
"""Time of dense matching, compared with a plain implementation without caching.

The descriptors are random, the worst case, since their cycles close late. The pointmaps are a curved wall from two viewpoints.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict

import harness
import torch
from harness import Table
from torch.nn.functional import normalize

from st3r_ros.pair.mast3r.load import DTYPES, choose_device
from st3r_ros.pair.matching.cycles import grid_pixels
from st3r_ros.pair.matching.matches import flat_index
from st3r_ros.pair.matching.pointmaps import pointmap_matches
from st3r_ros.pair.matching.projective import projective_matches
from st3r_ros.pair.matching.reciprocal import DescriptorMaps, fast_reciprocal, one_order_matches, symmetric_matches
from st3r_ros.pair.matching.subpixel import refine_matches

PLAIN = "fast reciprocal, plain"
PLAIN_QUERIES = 256
TIMES = (("median_ms", "median ms", ">10", ".1f"), ("min_ms", "min ms", ">10", ".1f"))
TABLE = Table((("method", "", "<26", ""), *TIMES, ("ratio", "of plain", ">10", ".2f")), gap="")


def plain_reciprocal(desc0: torch.Tensor, desc1: torch.Tensor, subsample: int, rounds: int = 10) -> torch.Tensor:
    """Pixels of image 0 that fast reciprocal matching finds, by an argmax over whole rows of products in every round."""
    flat0, flat1 = desc0.flatten(0, 1), desc1.flatten(0, 1)
    points = flat_index(grid_pixels((desc0.shape[0], desc0.shape[1]), subsample, desc0.device), desc0.shape[1])
    closed = []
    for _ in range(rounds):
        there = torch.cat([(flat0[part] @ flat1.T).argmax(dim=1) for part in points.split(PLAIN_QUERIES)])
        back = torch.cat([(flat1[part] @ flat0.T).argmax(dim=1) for part in there.split(PLAIN_QUERIES)])
        closed.append(points[back == points])
        points = back[back != points]
        if not len(points):
            break
    return torch.cat(closed).unique()


def wall(height: int, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Pointmaps (H, W, 3) of both images in camera 0: a wall from two places, some 20 pixels apart."""
    pixels = grid_pixels((height, width), 1, device).view(height, width, 2)
    rays = torch.cat([(pixels - pixels[-1, -1] / 2) / width, torch.ones(height, width, 1, device=device)], dim=-1)
    depth = 3.0 + torch.sin(3 * rays[..., :1]) + torch.cos(2 * rays[..., 1:2])
    return rays * depth, rays * depth + torch.tensor([0.15, 0.02, 0.0], device=device)


def methods(height: int, width: int, subsample: int, dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], object]]:
    """Everything that is timed, by name."""
    torch.manual_seed(0)
    desc0, desc1 = (normalize(torch.randn(height, width, 24, device=device), dim=-1).to(dtype) for _ in range(2))
    conf = torch.ones(height, width, device=device)
    maps = DescriptorMaps(desc0, desc1, conf, conf)
    X_0_0, X_0_1 = wall(height, width, device)
    pair, descriptors = (X_0_0[None], X_0_1[None]), (desc0[None], desc1[None])
    matches = fast_reciprocal(desc0, desc1, subsample=subsample)
    if not torch.equal(plain_reciprocal(desc0.float(), desc1.float(), subsample), flat_index(matches.pixels0, width).unique()):
        print(f"(the plain way and the fast one differ in some of {len(matches)} matches, as near ties in {dtype} may)")
    return {
        PLAIN: lambda: plain_reciprocal(desc0, desc1, subsample),
        "fast reciprocal": lambda: fast_reciprocal(desc0, desc1, subsample=subsample),
        "one order": lambda: one_order_matches(desc0, desc1, conf, conf, subsample=subsample),
        "both orders": lambda: symmetric_matches(maps, maps, subsample=subsample),
        "sub-pixel": lambda: refine_matches(desc0, desc1, matches),
        "points": lambda: pointmap_matches(X_0_0, X_0_1, conf, conf, subsample=subsample),
        "projective": lambda: projective_matches(*pair, *descriptors, subsample=subsample),
        "projective, points only": lambda: projective_matches(*pair, subsample=subsample),
        "projective, every pixel": lambda: projective_matches(*pair, *descriptors, subsample=1),
    }


def options() -> argparse.Namespace:
    """The command line."""
    parser = harness.parser(__doc__)
    harness.add_device(parser)
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="of the descriptors")
    parser.add_argument("--size", nargs=2, type=harness.positive, default=(512, 384), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--subsample", type=harness.positive, default=8, help="every n-th pixel is matched")
    parser.add_argument("--runs", type=harness.positive, default=5, help="timed calls of each")
    harness.add_outputs(parser, "also write the results to this file")
    return parser.parse_args()


@harness.command
def main() -> None:
    """Print the table."""
    chosen = options()
    device, (width, height) = choose_device(chosen.device), chosen.size
    name = harness.device_name(device)
    print(f"Matching of two {width}x{height} maps, every {chosen.subsample}th pixel, {chosen.dtype} descriptors, on {name}")
    print(TABLE.header())
    results: dict[str, harness.Row] = {}
    for method, run in methods(height, width, chosen.subsample, DTYPES[chosen.dtype], device).items():
        results[method] = asdict(harness.measure(run, device, chosen.runs, warm_up=1))
        ratio = results[method]["median_ms"] / results[PLAIN]["median_ms"]
        print(TABLE.line({**results[method], "method": method, "ratio": ratio}), flush=True)
    settings = {"device": name, "dtype": chosen.dtype, "size": [width, height], "subsample": chosen.subsample}
    harness.write_json(chosen.json, {**settings, "results": results})


if __name__ == "__main__":
    harness.start(main)
