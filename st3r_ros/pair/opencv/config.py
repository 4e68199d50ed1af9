# SPDX-License-Identifier: Apache-2.0
"""Settings of this pair model."""

from __future__ import annotations

from dataclasses import dataclass

from st3r_ros.config import Validated, setting


@dataclass(frozen=True)
class OpenCVPairConfig(Validated):
    """The two-view model without weights."""

    image_size: int = setting(
        640, "Longer side of the working image, pixels; smaller images are not enlarged.", low=64, high=4096
    )
    max_points: int = setting(600, "Corners tracked from each keyframe by optical flow.", low=50, high=20000)
    max_features: int = setting(1200, "Keypoints with descriptors per image, used where optical flow fails.", low=50, high=20000)
    match_ratio: float = setting(
        0.85, "Maximum ratio of the best to the second best descriptor distance of a match.", low=0.1, high=1.0
    )
    epipolar_threshold_px: float = setting(1.5, "Maximum distance of a match from its epipolar line, pixels.", low=0.1, high=20.0)
    min_matches: int = setting(20, "Minimum number of matches for a relative pose.", low=8, high=10000)
    min_parallax_deg: float = setting(
        1.0, "Parallax that a quarter of the matches must exceed for dense depth, degrees.", low=0.01, high=45.0
    )
    assumed_fov_deg: float = setting(60.0, "Horizontal field of view assumed without calibration, degrees.", low=10.0, high=170.0)
