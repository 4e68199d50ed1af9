# SPDX-License-Identifier: Apache-2.0
"""Sums over the points that pairs of cameras see."""

import numpy as np
import pytest
import torch

from st3r_ros.solver.camera_pairs import CameraPairs


@pytest.mark.parametrize("seen", [0.05, 0.5])
def test_the_sums_are_those_of_a_loop_over_all_pairs_of_views(seen):
    rng = np.random.default_rng(0)
    point, camera = (torch.from_numpy(v) for v in np.nonzero(rng.random((60, 9)) < seen + 0.4 * (np.arange(9) < 3)))
    free = torch.arange(9) != 1
    A, B = torch.from_numpy(rng.normal(size=(2, 6, 3, len(camera))))
    expected: dict[tuple[int, int], np.ndarray] = {}
    for m in range(len(camera)):
        for n in range(len(camera)):
            key = int(camera[m]), int(camera[n])
            if point[m] == point[n] and key[0] <= key[1] and free[camera[m]] and free[camera[n]]:
                expected[key] = expected.get(key, 0) + (A[..., m] @ B[..., n].T).numpy()
    pairs = CameraPairs.of(camera, point, free)
    found = dict(zip(zip(pairs.row.tolist(), pairs.column.tolist(), strict=True), pairs.products(A, B).numpy(), strict=True))
    assert found.keys() == expected.keys()
    for key, block in expected.items():
        np.testing.assert_allclose(found[key], block, atol=1e-12)


def test_where_no_camera_may_move_there_are_no_pairs():
    pairs = CameraPairs.of(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.zeros(2, dtype=torch.bool))
    assert len(pairs.row) == 0 and pairs.products(torch.ones(6, 3, 2), torch.ones(6, 3, 2)).shape == (0, 6, 6)
