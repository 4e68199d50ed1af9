# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from st3r_ros.network.rope import rope_table, rotate

ROWS, COLUMNS = 5, 7


def turned(x: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """The vectors x (n, D) as they are at one position of the grid."""
    table = rope_table(ROWS, COLUMNS, x.shape[-1], dtype=torch.float64)
    return rotate(x[None], table[row * COLUMNS + column].expand(len(x), -1, -1))[0]


@pytest.fixture(params=[4, 16, 64])
def vectors(request) -> torch.Tensor:
    return torch.randn(2, request.param, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_it_turns_and_does_not_stretch(vectors):
    torch.testing.assert_close(turned(vectors, 0, 0), vectors)
    torch.testing.assert_close(turned(vectors, 3, 4).norm(dim=1), vectors.norm(dim=1))
    assert not torch.allclose(turned(vectors, 3, 4), vectors)


def test_products_depend_on_the_offset_of_two_positions_alone(vectors):
    q, k = vectors[:1], vectors[1:]

    def product(a: tuple[int, int], b: tuple[int, int]) -> float:
        return float((turned(q, *a) * turned(k, *b)).sum())

    assert product((2, 5), (1, 2)) == pytest.approx(product((4, 4), (3, 1)))
    assert product((2, 5), (1, 2)) != pytest.approx(product((2, 5), (2, 2)), rel=1e-6)
    assert product((2, 5), (1, 2)) != pytest.approx(product((2, 5), (1, 3)), rel=1e-6)


def test_rows_turn_the_first_half_of_the_channels_and_columns_the_second(vectors):
    half = vectors.shape[1] // 2
    torch.testing.assert_close(turned(vectors, 3, 0)[:, half:], vectors[:, half:])
    torch.testing.assert_close(turned(vectors, 0, 3)[:, :half], vectors[:, :half])
    torch.testing.assert_close(turned(vectors, 3, 0)[:, :half], turned(vectors.roll(half, dims=1), 0, 3)[:, half:])


def test_the_first_channel_turns_by_one_radian_a_step():
    x = torch.zeros(1, 16, dtype=torch.float64)
    x[0, 0] = 1.0
    for row in range(ROWS):
        angle = torch.tensor(float(row), dtype=torch.float64)
        torch.testing.assert_close(turned(x, row, 0)[0, [0, 4]], torch.stack((angle.cos(), angle.sin())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_table_is_of_the_dtype_that_is_asked_for(dtype):
    table = rope_table(ROWS, COLUMNS, 16, dtype=dtype)
    assert table.shape == (ROWS * COLUMNS, 2, 16) and table.dtype == dtype
    torch.testing.assert_close(table.float(), rope_table(ROWS, COLUMNS, 16), rtol=0.0, atol=torch.finfo(dtype).eps)
