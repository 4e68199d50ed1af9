# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from st3r_ros.eval.association import associate

stamps = st.lists(st.integers(0, 10**12), max_size=30)


@given(queries=stamps, references=stamps, tolerance=st.integers(0, 10**11))
def test_pairs_are_the_nearest_within_the_tolerance(queries, references, tolerance):
    queries, references = np.array(queries, np.int64), np.sort(np.array(references, np.int64))
    found = dict(zip(*(a.tolist() for a in vars(associate(queries, references, tolerance)).values()), strict=True))
    for index, query in enumerate(queries):
        distances = np.abs(references - query)
        if len(references) and distances.min() <= tolerance:
            assert distances[found[index]] == distances.min()
        else:
            assert index not in found


def test_epoch_stamps_are_compared_to_the_nanosecond():
    now = 1_700_000_000_000_000_000
    assert len(associate(np.array([now + 20_000_000]), np.array([now]))) == 1
    assert len(associate(np.array([now + 20_000_001]), np.array([now]))) == 0
