"""Layouts: (T, B, C) with a (B, T) mask against rows."""

import pytest
import torch

from fairseq_powernorm.functional.masking import count_tokens, to_rows, zero_padding
from fairseq_powernorm.functional.moments import mean_and_variance, square_mean


def test_rows_and_padding_come_in_the_same_order():
    x = torch.arange(2 * 3).reshape(2, 3, 1).float()  # T = 2, B = 3
    mask = torch.tensor([[False, False], [False, True], [True, True]])
    rows, padding = to_rows(x, mask)
    assert rows.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert padding.flatten().tolist() == [mask[b, t].item() for t in range(2) for b in range(3)]
    assert count_tokens(rows, padding) == 3
    assert zero_padding(rows, padding).flatten().tolist() == [0, 1, 0, 3, 0, 0]


def test_without_a_mask_every_row_counts():
    rows, padding = to_rows(torch.ones(4, 2), None)
    assert padding is None and count_tokens(rows, padding) == 4 and zero_padding(rows, None) is rows


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_moments_by_hand(dtype):
    rows = torch.tensor([[1.0, 2.0], [3.0, -2.0], [100.0, float("nan")]], dtype=dtype)
    padding = torch.tensor([[False], [False], [True]])
    wide = torch.promote_types(dtype, torch.float32)
    squares, count = square_mean(rows, padding)
    assert squares.tolist() == [5, 4] and count == 2 and squares.dtype == wide
    mean, variance, count = mean_and_variance(rows, padding, torch.zeros(2, dtype=wide))
    assert mean.tolist() == [2, 0] and variance.tolist() == [1, 4] and mean.dtype == variance.dtype == wide


def test_the_variance_does_not_cancel_for_a_far_mean():
    rows = torch.randn(1000, 1, dtype=torch.float64)
    expected = rows.var(unbiased=False)
    _, variance, _ = mean_and_variance((rows + 1e4).float(), None, torch.zeros(1))
    torch.testing.assert_close(variance.double()[0], expected, rtol=1e-3, atol=0)


def test_no_token_at_all_gives_zeros():
    rows, padding = torch.full((2, 3), float("nan")), torch.ones(2, 1, dtype=torch.bool)
    squares, count = square_mean(rows, padding)
    assert squares.tolist() == [0, 0, 0] and count == 0
    mean, variance, _ = mean_and_variance(rows, padding, torch.zeros(3))
    assert mean.tolist() == variance.tolist() == [0, 0, 0]


def test_uint8_masks_are_taken_as_bool():
    _, padding = to_rows(torch.ones(2, 1, 1), torch.tensor([[0, 1]], dtype=torch.uint8))
    assert padding.dtype == torch.bool and padding.flatten().tolist() == [False, True]


@pytest.mark.parametrize("mask", [torch.zeros(2, 2), torch.zeros(3, 2, dtype=torch.bool)])
def test_a_mask_of_another_shape_or_dtype_is_refused(mask):
    with pytest.raises(ValueError, match="padding mask"):
        to_rows(torch.ones(2, 2, 1), mask)
