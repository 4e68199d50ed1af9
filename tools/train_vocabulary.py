# SPDX-License-Identifier: Apache-2.0
"""Makes the vocabulary of `pair/opencv` (st3r_ros/pair/opencv/vocabulary.npz) from images of simulated worlds; takes minutes.

    python tools/train_vocabulary.py

The worlds have seeds from 1000 on, so that smaller ones stay unseen for tests and benchmarks. The views are off the usual path
and differently exposed. The same sources give the same vocabulary, up to rounding.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.pair.opencv.place import local_descriptors, place_features
from st3r_ros.pair.opencv.vocabulary import VOCABULARY_FILE, Vocabulary
from st3r_ros.sim.sequence import SimulatedSequence

WORLDS = {"room": 10, "corridor": 7}
FIRST_SEED = 1000
FRAMES, EVERY = 600, 24
WORDS, AXES = 256, 16
TRAINING_DESCRIPTORS = 200_000
ROUNDS = 25


def views(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Grey images (h, w) uint8 of all worlds."""
    for world, count in WORLDS.items():
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            sequence = SimulatedSequence(SimulationConfig(world=world, seed=seed, frames=FRAMES))
            for path_pose in sequence.T_world_cam[::EVERY]:
                shift = rng.uniform(-1, 1, 3) * (0.4, 0.25, 0.4)
                turn = np.deg2rad(rng.uniform(-1, 1, 3) * (10, 20, 10))
                pose = path_pose @ SE3.exp(np.concatenate([shift, turn]))
                yield exposed(sequence.renderer.image(sequence.camera, pose), rng)
            print(f"{world} {seed}", flush=True)


def exposed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The grey image (h, w) uint8 that a sensor would make of an image (h, w, 3): some gamma, gain and noise."""
    bright = 255 * (image / 255.0) ** rng.uniform(0.6, 1.6) * rng.uniform(0.6, 1.1)
    noisy = bright + rng.normal(0.0, rng.uniform(0.5, 3.5), image.shape)
    return cv2.cvtColor(np.clip(noisy, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)


def cluster(descriptors: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Centres (count, D) of descriptors (N, D), by k-means; a cluster that got nothing starts anew."""
    centres = descriptors[drawn(len(descriptors), count, rng)]
    for _ in range(ROUNDS):
        nearest = Vocabulary(centres, centres).nearest(descriptors)
        members = torch.bincount(nearest, minlength=count)
        centres = torch.zeros_like(centres).index_add_(0, nearest, descriptors) / members.clamp_min(1)[:, None]
        centres[members == 0] = descriptors[drawn(len(descriptors), int((members == 0).sum()), rng)]
    return centres


def principal_axes(differences: torch.Tensor, count: int) -> torch.Tensor:
    """(D, count): the directions in which differences (N, D) vary most, each divided by its standard deviation."""
    variances, directions = torch.linalg.eigh(differences.T @ differences / len(differences))
    return (directions / variances.sqrt())[:, -count:].flip(1)


def drawn(size: int, count: int, rng: np.random.Generator) -> torch.Tensor:
    """`count` different numbers below `size`."""
    return torch.from_numpy(rng.choice(size, count, replace=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=VOCABULARY_FILE, metavar="FILE")
    out = parser.parse_args().out
    rng = np.random.default_rng(0)
    sift = place_features()
    found = torch.from_numpy(np.concatenate([local_descriptors(sift, gray) for gray in views(rng)]))
    found = found[drawn(len(found), min(len(found), TRAINING_DESCRIPTORS), rng)]
    words = cluster(found, WORDS, rng)
    axes = principal_axes(found - words[Vocabulary(words, words).nearest(found)], AXES)
    np.savez_compressed(out, words=words.numpy().astype(np.float16), axes=axes.numpy().astype(np.float16))
    print(f"{out}: {WORDS} words from {len(found)} descriptors, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
