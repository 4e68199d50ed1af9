# SPDX-License-Identifier: Apache-2.0
"""The visual words for place recognition, trained by `tools/train_vocabulary.py`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

VOCABULARY_FILE = Path(__file__).with_name("vocabulary.npz")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """words: (K, 128) float32 centres of RootSIFT descriptors. axes: (128, P) float32, takes the difference of a descriptor and
    its word to the P directions in which such differences vary most, each divided by its standard deviation.
    """

    words: torch.Tensor
    axes: torch.Tensor

    @property
    def size(self) -> int:
        """Length D = K P of the global descriptors."""
        return len(self.words) * self.axes.shape[1]

    def nearest(self, descriptors: torch.Tensor) -> torch.Tensor:
        """The word (N,) int64 of each local descriptor (N, 128)."""
        return (descriptors @ self.words.T - 0.5 * self.words.square().sum(1)).argmax(1)

    def aggregate(self, descriptors: torch.Tensor) -> torch.Tensor:
        """The global descriptor (D,) float32 of an image's local ones (N, 128): unit length, zero where there are none.

        Per word, the sum of the differences to it (VLAD: Jegou et al., CVPR 2010), brought to length 1, so that texture that
        repeats counts once (Arandjelovic and Zisserman, All about VLAD, CVPR 2013).
        """
        nearest = self.nearest(descriptors)
        differences = (descriptors - self.words[nearest]) @ self.axes
        sums = torch.zeros(len(self.words), self.axes.shape[1]).index_add_(0, nearest, differences)
        return torch.nn.functional.normalize(torch.nn.functional.normalize(sums, dim=1).flatten(), dim=0)


@cache
def shipped_vocabulary() -> Vocabulary:
    """The vocabulary that comes with the package."""
    with np.load(VOCABULARY_FILE, allow_pickle=False) as arrays:
        return Vocabulary(*(torch.from_numpy(arrays[name].astype(np.float32)) for name in ("words", "axes")))
