# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from st3r_ros.slam.places.retrieval import FIRST_CAPACITY, MIN_TYPICAL, DescriptorError, PlaceIndex, SimilarPlace

SIZE = 16


def random_descriptors(count: int, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def indexed(descriptors: torch.Tensor, first_id: int = 100) -> PlaceIndex:
    index = PlaceIndex()
    for k, descriptor in enumerate(descriptors):
        index.add(first_id + k, descriptor)
    return index


def ids(found: list[SimilarPlace]) -> list[int]:
    return [place.id for place in found]


def test_the_most_similar_come_first_with_their_similarities_also_after_growing():
    descriptors = random_descriptors(5 * FIRST_CAPACITY)
    query = random_descriptors(1, seed=1)[0]
    truth = (descriptors @ query).numpy()
    found = indexed(descriptors).query(query, 7)
    assert ids(found) == (100 + np.argsort(-truth)[:7]).tolist()
    np.testing.assert_allclose([place.similarity for place in found], np.sort(truth)[::-1][:7], rtol=1e-5)


def test_a_keyframe_that_was_removed_is_no_answer_and_the_others_stay():
    descriptors = random_descriptors(20)
    index = indexed(descriptors)
    for gone in (100, 107, 119, 107, 5):  # first, middle, last, again, never there
        index.remove(gone)
    assert len(index) == 17 and 107 not in index and 108 in index
    for k in range(20):
        best = index.query(descriptors[k], 1)[0]
        assert (best.id == 100 + k) == (k not in (0, 7, 19))
    index.add(107, descriptors[7])
    assert ids(index.query(descriptors[7], 1)) == [107]


def test_random_additions_and_removals_agree_with_a_plain_dictionary():
    rng, descriptors, index, plain = np.random.default_rng(2), random_descriptors(300), PlaceIndex(), {}
    for step in range(600):
        id = int(rng.integers(0, 150))
        if rng.random() < 0.6:
            plain[id] = descriptors[step % 300]
            index.add(id, plain[id])
        else:
            plain.pop(id, None)
            index.remove(id)
    query = descriptors[0]
    best = sorted(plain, key=lambda id: (-float(plain[id] @ query), id))
    assert len(index) == len(plain) and ids(index.query(query, 1000)) == best


def test_another_descriptor_for_the_same_keyframe_takes_the_place_of_the_first():
    descriptors = random_descriptors(3)
    index = indexed(descriptors[:2])
    index.add(101, descriptors[2])
    assert len(index) == 2
    assert index.query(descriptors[2], 1)[0].similarity == pytest.approx(1.0)
    assert index.query(descriptors[1], 2, min_similarity=0.99) == []


@pytest.mark.parametrize("exclude", [{103, 104}, [103, 104], np.array([103, 104]), range(103, 105), {103: "a", 104: "b"}.keys()])
def test_what_is_excluded_is_no_answer(exclude):
    descriptors = random_descriptors(10)
    found = indexed(descriptors).query(descriptors[3], 10, exclude=exclude)
    assert set(ids(found)) == set(range(100, 110)) - {103, 104}


def test_only_what_is_similar_enough_is_an_answer():
    descriptors = random_descriptors(50)
    query = normalize(descriptors[4] + 0.3 * descriptors[9], dim=0)
    similarity = (descriptors @ query).tolist()
    found = indexed(descriptors).query(query, 50, min_similarity=0.25)
    assert 2 <= len(found) < 50 and found[0].id == 104
    assert set(ids(found)) == {100 + k for k, value in enumerate(similarity) if value >= 0.25}
    assert indexed(descriptors).query(query, 50, min_similarity=0.999) == []


def test_where_everything_looks_alike_nothing_stands_out():
    common = random_descriptors(1, seed=3)[0]
    alike = normalize(0.95 * common + 0.05 * random_descriptors(40), dim=1)
    query = normalize(0.95 * common + 0.05 * random_descriptors(1, seed=4)[0], dim=0)
    index = indexed(alike)
    assert len(index.query(query, 3, min_similarity=0.9)) == 3
    assert index.query(query, 3, min_similarity=0.9, min_lift=0.1) == []
    index.add(7, query)
    other = indexed(random_descriptors(40))
    other.add(7, query)
    assert ids(other.query(query, 3, min_lift=0.8)) == [7]
    assert other.query(query, 1)[0].lift > 5 * index.query(query, 1)[0].lift


def test_in_a_small_map_nothing_is_typical_yet():
    descriptors = random_descriptors(MIN_TYPICAL)
    index = indexed(descriptors)
    few = index.query(descriptors[0], 1, exclude=[107])[0]
    assert few.lift == few.similarity
    enough = index.query(descriptors[0], 1)[0]
    assert enough.lift != enough.similarity


def test_an_image_without_features_is_like_nothing():
    index = indexed(random_descriptors(10))
    index.add(5, torch.zeros(SIZE))
    assert index.query(torch.zeros(SIZE), 3, min_similarity=0.01) == []
    assert 5 not in ids(index.query(random_descriptors(1)[0], 3, min_similarity=0.01))


def test_an_empty_index_has_no_answer():
    assert PlaceIndex().query(random_descriptors(1)[0], 3) == []
    index = indexed(random_descriptors(2))
    assert index.query(random_descriptors(1)[0], 3, exclude=[100, 101]) == []
    assert index.query(random_descriptors(1)[0], 0) == []


def test_a_descriptor_of_another_model_is_refused_with_both_sizes():
    index = indexed(random_descriptors(2))
    with pytest.raises(DescriptorError, match=r"\(24,\).*\(16,\).*another pair model"):
        index.add(3, torch.ones(24))
    with pytest.raises(DescriptorError, match=r"\(24,\)"):
        index.query(torch.ones(24), 1)
    with pytest.raises(DescriptorError, match="vector"):
        PlaceIndex().add(3, torch.ones(2, 8))
    assert len(index) == 2


def test_numbers_that_are_not_finite_are_refused():
    index = indexed(random_descriptors(2))
    broken = random_descriptors(1)[0]
    broken[3] = torch.nan
    for use in (lambda: index.add(1, broken), lambda: index.query(broken, 1)):
        with pytest.raises(DescriptorError, match="not finite"):
            use()
    assert len(index) == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_descriptors_of_any_type_are_compared(dtype):
    descriptors = random_descriptors(10)
    index = indexed(descriptors.to(dtype))
    best = index.query(descriptors[6].to(dtype).requires_grad_(), 1)[0]
    assert best.id == 106 and best.similarity == pytest.approx(1.0, abs=0.02)


def test_what_is_changed_outside_does_not_change_the_index():
    descriptor = random_descriptors(1)[0]
    index = indexed(descriptor[None])
    before = descriptor.clone()
    descriptor.zero_()
    assert index.query(before, 1)[0].similarity == pytest.approx(1.0)
