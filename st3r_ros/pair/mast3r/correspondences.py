# SPDX-License-Identifier: Apache-2.0
"""Which of the matchers finds the matches of a pair, and what each of them needs of the network."""

from __future__ import annotations

import torch

from st3r_ros.config import MASt3RPairConfig
from st3r_ros.network.outputs import PairOutput
from st3r_ros.pair.matching.matches import DescriptorMatches, PixelMatches, values_at
from st3r_ros.pair.matching.pointmaps import pointmap_matches
from st3r_ros.pair.matching.projective import projective_matches
from st3r_ros.pair.matching.reciprocal import fast_reciprocal
from st3r_ros.types import Matches

MIN_SHARE_FOLLOWED = 0.1
"""Where fewer of the queries than this find their match from the last ones, the view has jumped."""
