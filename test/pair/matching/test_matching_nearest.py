# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.functional import normalize

from st3r_ros.pair.matching import nearest as search
from st3r_ros.pair.matching.nearest import nearest, nearest_points


def unit_vectors(count: int, channels: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(count, channels, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200, 1024, 3001])
@pytest.mark.parametrize("queries", [1, 7, 150])
def test_it_is_the_greatest_product(count, queries):
    q, database = unit_vectors(queries, 24, 0), unit_vectors(count, 24, 1)
    found = nearest(q, database)
    greatest = (q.double() @ database.double().T).max(dim=1)
    assert torch.equal(found.index, greatest.indices)
    torch.testing.assert_close(found.score, greatest.values.float())


@pytest.mark.parametrize("block", [1, 100, 64 * 64, 12345, 2**18])
def test_the_block_does_not_matter(block):
    q, database = unit_vectors(210, 24, 2), unit_vectors(1500, 24, 3)
    assert torch.equal(nearest(q, database, block=block).index, nearest(q, database).index)
    usable = torch.rand(1500, generator=torch.Generator().manual_seed(4)) < 0.7
    points = [nearest_points(q[:, :3], database[:, :3], usable, block=size).index for size in (block, None)]
    assert torch.equal(*points)


def test_no_queries_find_nothing():
    assert nearest(torch.zeros(0, 24), unit_vectors(10, 24, 5)).index.shape == (0,)


@pytest.mark.parametrize("distance", [1, 63, 64, 65, 700])
def test_of_equal_rows_the_first_is_found(distance):
    database = unit_vectors(700, 24, 6).repeat(2, 1)
    database[distance : distance + 700] = database[:700].clone()
    first = torch.stack([(database == row).all(dim=1).int().argmax() for row in database])
    assert torch.equal(nearest(database, database).index, first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_single(dtype):
    q, database = unit_vectors(300, 24, 7).to(dtype), unit_vectors(2000, 24, 8).to(dtype)
    assert torch.equal(nearest(q, database).index, (q.double() @ database.double().T).argmax(dim=1))


def test_products_in_half_precision_hardly_change_the_result(monkeypatch):
    """As on a GPU: the best groups are told by coarse products, the best row by fine ones."""
    q, database = unit_vectors(500, 24, 9).half(), unit_vectors(20000, 24, 10).half()
    fine = nearest(q, database)
    monkeypatch.setattr(search, "for_products", lambda vectors: vectors)
    coarse = nearest(q, database)
    assert (coarse.index == fine.index).float().mean() > 0.995
    torch.testing.assert_close(coarse.score, fine.score, atol=1e-3, rtol=0)


@pytest.mark.parametrize("count", [1, 64, 100, 5000])
def test_points_are_found_by_distance_among_the_usable(count):
    generator = torch.Generator().manual_seed(11)
    q, database = torch.randn(400, 3, generator=generator), torch.randn(count, 3, generator=generator)
    usable = torch.rand(count, generator=generator) < 0.5
    usable[0] = True
    found = nearest_points(q, database, usable)
    distances = torch.where(usable, torch.cdist(q.double(), database.double()), torch.inf)
    assert torch.equal(found.index, distances.argmin(dim=1))
    torch.testing.assert_close(found.score, -distances.amin(dim=1).square().float())


def test_no_usable_point_has_no_score():
    found = nearest_points(torch.zeros(3, 3), torch.randn(70, 3), torch.zeros(70, dtype=torch.bool))
    assert (found.score == -torch.inf).all()
