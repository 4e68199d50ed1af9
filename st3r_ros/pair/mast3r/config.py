# SPDX-License-Identifier: Apache-2.0
"""Settings of this pair model."""

from __future__ import annotations

from dataclasses import dataclass

from st3r_ros.config import Validated, setting


@dataclass(frozen=True)
class MASt3RPairConfig(Validated):
    """The network pair model, for MASt3R and DUSt3R checkpoints."""

    device: str = setting("auto", "Device of the network; auto uses CUDA if available.", choices=("auto", "cuda", "cpu"))
    dtype: str = setting(
        "auto", "Precision of the network; auto is fp16 on CUDA, fp32 on a CPU.", choices=("auto", "fp32", "bf16", "fp16")
    )
    acceleration: str = setting(
        "auto",
        "How the network runs: eager, as CUDA graphs, or compiled (minutes at the start); auto is graphs on CUDA.",
        choices=("auto", "eager", "graphs", "compile"),
    )
    image_size: int = setting(0, "Longer side of the working image, pixels; 0 uses the size of the checkpoint.", low=0, high=2048)
    batch_size: int = setting(
        16, "Maximum number of pairs decoded at once on CUDA; on a CPU they are decoded one by one.", low=1, high=256
    )
    matching: str = setting(
        "auto",
        "How pixels are matched: by reciprocal descriptors, or by projecting pointmaps starting from the last matches; auto "
        "projects when there are last matches.",
        choices=("auto", "reciprocal", "projective"),
    )
    match_subsample: int = setting(8, "Matches start from every n-th pixel of each row and column.", low=1, high=64)
    min_match_conf: float = setting(
        1.001, "Minimum confidence of a match: that of its descriptors, or of its points for models without descriptors.", low=0.0
    )
    retrieval: str = setting("", "Checkpoint with the whitening for place recognition; '' for none.")
    assumed_fov_deg: float = setting(
        60.0,
        "Horizontal field of view assumed when neither a calibration nor the first image gives one, degrees.",
        low=10.0,
        high=170.0,
    )
