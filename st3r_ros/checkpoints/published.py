# SPDX-License-Identifier: Apache-2.0
"""The checkpoints published by NAVER LABS Europe, and where they are stored locally. This package contains no weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SERVER = "https://download.europe.naverlabs.com/ComputerVision"
LICENSE = "CC BY-NC-SA 4.0"
LICENSE_SUMMARY = (
    f"These weights are NAVER's, under {LICENSE}: give credit, no commercial use, share changes under the same terms. "
    "The data sets they were trained on have terms of their own, some stricter, which also bind you. "
    "This package is Apache-2.0; its licence does not cover the weights. Using them is your responsibility."
)
UNKNOWN_LICENSE = "This package does not know the licence of these weights; ask their publisher."


@dataclass(frozen=True)
class PublishedCheckpoint:
    """name: short name for users. url: of the file. hub_id: the same weights on the Hub, "" for none."""

    name: str
    url: str
    hub_id: str
    description: str

    @property
    def file_name(self) -> str:
        """Last part of the url."""
        return self.url.rpartition("/")[2]


CATALOGUE = (
    PublishedCheckpoint(
        "mast3r",
        f"{SERVER}/MASt3R/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric.pth",
        "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
        "MASt3R ViT-L/B 512: pointmaps in metres, descriptors (2.75 GB)",
    ),
    PublishedCheckpoint(
        "dust3r",
        f"{SERVER}/DUSt3R/DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth",
        "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt",
        "DUSt3R ViT-L/B 512: pointmaps up to scale (2.29 GB)",
    ),
    PublishedCheckpoint(
        "dust3r-224",
        f"{SERVER}/DUSt3R/DUSt3R_ViTLarge_BaseDecoder_224_linear.pth",
        "naver/DUSt3R_ViTLarge_BaseDecoder_224_linear",
        "DUSt3R ViT-L/B 224: small and fast, pointmaps up to scale (2.13 GB)",
    ),
)
NAMES = tuple(entry.name for entry in CATALOGUE)


def find_published(text: str) -> PublishedCheckpoint | None:
    """The entry for a name, a file name, a path, a url or a Hub id; None for any other text."""
    last = text.partition("?")[0].rpartition("/")[2]
    return next((entry for entry in CATALOGUE if text and (text in (entry.name, entry.hub_id) or last == entry.file_name)), None)


def license_note(text: str) -> str:
    """The licence note for the weights that `text` (as in `find_published`) denotes."""
    return LICENSE_SUMMARY if find_published(text) else UNKNOWN_LICENSE


def weights_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where `st3r download` stores files: st3r_ros in $XDG_CACHE_HOME, or in ~/.cache."""
    cache = environment.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "st3r_ros"
