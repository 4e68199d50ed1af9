# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.functional import normalize

from st3r_ros.pair.matching.cycles import NeighbourTable as Table
from st3r_ros.pair.matching.cycles import PairTables, both_directions, closed_cycles, grid_pixels
from st3r_ros.pair.matching.matches import flat_index, image_shape, values_at
from st3r_ros.pair.matching.nearest import nearest
from st3r_ros.pair.matching.reciprocal import DescriptorMaps, fast_reciprocal, one_order_matches, symmetric_matches
from st3r_ros.types import Matches

SHAPE = (24, 40)


def random_map(seed: int, shape: tuple[int, int] = SHAPE) -> torch.Tensor:
    return normalize(torch.randn(*shape, 24, generator=torch.Generator().manual_seed(seed)), dim=-1)


def random_maps(seed: int, shape1: tuple[int, int] = (30, 31)) -> DescriptorMaps:
    """Descriptors and confidences of a pair of images of different shapes."""
    conf = [torch.rand(shape, generator=torch.Generator().manual_seed(seed)) + 0.1 for shape in (SHAPE, shape1)]
    return DescriptorMaps(random_map(2 * seed), random_map(2 * seed + 1, shape1), *conf)


def pairs(matches: Matches) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.cat([matches.pixels0, matches.pixels1], dim=1).tolist()]


def swapped(matches: Matches) -> set[tuple[int, ...]]:
    return set(pairs(matches.swapped()))


@pytest.mark.parametrize("subsample", [1, 2, 5, 8])
def test_a_map_matches_itself_pixel_by_pixel(subsample):
    desc = random_map(0)
    matches = fast_reciprocal(desc, desc, subsample=subsample)
    assert torch.equal(matches.pixels0, grid_pixels(SHAPE, subsample, desc.device))
    assert torch.equal(matches.pixels1, matches.pixels0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_permutation_is_recovered(dtype):
    desc0 = random_map(1).to(dtype)
    source = torch.randperm(desc0.shape[0] * desc0.shape[1], generator=torch.Generator().manual_seed(2))
    desc1 = desc0.flatten(0, 1)[source].view(40, 24, 24)
    matches = fast_reciprocal(desc0, desc1, subsample=1)
    assert len(matches) == len(source)
    assert torch.equal(source[flat_index(matches.pixels1, 24)], flat_index(matches.pixels0, 40))


@pytest.mark.parametrize("seed", range(5))
def test_matches_are_reciprocal_distinct_and_sorted(seed):
    maps = random_maps(seed)
    matches = fast_reciprocal(maps.desc0, maps.desc1, subsample=3)
    products = maps.desc0.flatten(0, 1) @ maps.desc1.flatten(0, 1).T
    index0, index1 = flat_index(matches.pixels0, 40), flat_index(matches.pixels1, 31)
    assert torch.equal(products.argmax(dim=1)[index0], index1)
    assert torch.equal(products.argmax(dim=0)[index1], index0)
    assert (index0.diff() > 0).all()
    assert len(matches) > 20


def test_starting_everywhere_finds_every_reciprocal_pair():
    maps = random_maps(5)
    products = maps.desc0.flatten(0, 1) @ maps.desc1.flatten(0, 1).T
    there, back = products.argmax(dim=1), products.argmax(dim=0)
    reciprocal = back[there] == torch.arange(len(there))
    matches = fast_reciprocal(maps.desc0, maps.desc1, subsample=1)
    assert torch.equal(flat_index(matches.pixels0, 40), reciprocal.nonzero()[:, 0])
    assert torch.equal(flat_index(matches.pixels1, 31), there[reciprocal])


def test_more_rounds_keep_what_fewer_found():
    maps = random_maps(6)
    found = [set(pairs(fast_reciprocal(maps.desc0, maps.desc1, subsample=2, max_rounds=n))) for n in (1, 2, 3, 10)]
    assert found[0] < found[1] <= found[2] <= found[3]


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.5, 100.0])
def test_a_tolerance_lets_cycles_end_near_their_start(tolerance):
    maps = random_maps(7)
    starts = torch.tensor([[0, 0], [39, 23], [7, 5], [7, 5], [20, 11], [31, 2], [3, 17]])
    matches = fast_reciprocal(maps.desc0, maps.desc1, starts=starts, pixel_tolerance=tolerance)
    products = maps.desc0.flatten(0, 1) @ maps.desc1.flatten(0, 1).T
    expected = set()
    for x, y in starts.tolist():
        there = int(products[y * 40 + x].argmax())
        y_back, x_back = divmod(int(products[:, there].argmax()), 40)
        miss = ((x - x_back) ** 2 + (y - y_back) ** 2) ** 0.5
        if miss < tolerance or miss == 0:
            expected.add((x, y, there % 31, there // 31))
    assert set(pairs(matches)) == expected
    assert len(matches) == len(expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 3)])
def test_small_images(shape):
    desc = random_map(8, shape)
    assert len(fast_reciprocal(desc, desc, subsample=1)) == shape[0] * shape[1]
    assert len(fast_reciprocal(desc, desc, subsample=8)) == 0
    conf = torch.ones(shape)
    assert len(symmetric_matches(DescriptorMaps(desc, desc, conf, conf), DescriptorMaps(desc, desc, conf, conf))) == 0


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf"), -float("inf")])
def test_descriptors_without_a_direction_are_never_matched(bad):
    desc = random_map(9)
    spoiled = desc.clone()
    spoiled[5:9, 10:20] = bad
    spoiled[0, 0, 0] = bad or float("nan")
    good = torch.ones(SHAPE, dtype=torch.bool)
    good[5:9, 10:20] = good[0, 0] = False
    for first, second in ((spoiled, desc), (desc, spoiled), (spoiled, spoiled)):
        matches = fast_reciprocal(first, second, subsample=1)
        assert torch.equal(matches.pixels0, matches.pixels1)
        assert torch.equal(flat_index(matches.pixels0, 40), good.flatten().nonzero()[:, 0])
    assert len(fast_reciprocal(torch.full_like(desc, bad), desc, subsample=1)) == 0


def test_one_order_is_the_union_of_both_directions_with_the_lesser_confidence():
    maps = random_maps(10)
    matches = one_order_matches(maps.desc0, maps.desc1, maps.conf0, maps.conf1, subsample=4)
    forth, back = fast_reciprocal(maps.desc0, maps.desc1, subsample=4), fast_reciprocal(maps.desc1, maps.desc0, subsample=4)
    assert set(pairs(matches)) == set(pairs(forth)) | swapped(back)
    assert len(matches) == len(set(pairs(matches)))
    conf0, conf1 = values_at(maps.conf0, matches.pixels0), values_at(maps.conf1, matches.pixels1)
    assert torch.equal(matches.weight, torch.minimum(conf0, conf1))


def test_symmetric_is_the_union_of_both_orders_with_the_product_root():
    order01, order10 = random_maps(11), random_maps(12)
    order10.desc0[:12], order10.desc1[:15] = order01.desc0[:12], order01.desc1[:15]
    matches = symmetric_matches(order01, order10, subsample=2)
    singles = [one_order_matches(m.desc0, m.desc1, m.conf0, m.conf1, subsample=2) for m in (order01, order10)]
    first, second = (set(pairs(single)) for single in singles)
    assert set(pairs(matches)) == first | second
    assert len(matches) == len(first | second)
    assert first & second
    for pair, conf in zip(pairs(matches), matches.weight.tolist(), strict=True):
        x0, y0, x1, y1 = pair
        maps = order01 if pair in first else order10
        assert conf == pytest.approx(float((maps.conf0[y0, x0] * maps.conf1[y1, x1]).sqrt()))


def test_no_neighbour_is_searched_twice():
    maps = random_maps(13)
    flats = maps.desc0.flatten(0, 1), maps.desc1.flatten(0, 1)
    searched: tuple[list[int], list[int]] = ([], [])

    def table(own: int) -> Table:
        def search(index: torch.Tensor) -> torch.Tensor:
            searched[own].extend(index.tolist())
            return nearest(flats[own][index], flats[1 - own]).index

        return Table(search, len(flats[own]), torch.device("cpu"))

    usable = [torch.ones(len(flat), dtype=torch.bool) for flat in flats]
    tables = PairTables(table(0), table(1), *usable, image_shape(maps.desc0), image_shape(maps.desc1))
    starts = flat_index(grid_pixels(SHAPE, 4, torch.device("cpu")), SHAPE[1])
    closed_cycles(tables, starts, 1)
    assert sorted(searched[0]) == sorted(starts.tolist())
    assert len(searched[1]) <= len(starts)
    both_directions(tables, 4)
    both_directions(tables, 2)
    for own in (0, 1):
        assert len(searched[own]) == len(set(searched[own])) <= len(flats[own])
