"""The sRGB curve against its definition in double precision."""

from __future__ import annotations

import pytest
import torch

from vultus.core.srgb import linear_to_srgb, srgb_to_linear


def _encode_by_definition(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def test_encoding_follows_the_definition_of_the_standard() -> None:
    values = [0.0, 1e-6, 0.003, 0.0031308, 0.0032, 0.18, 0.5, 1.0, 4.0]
    expected = torch.tensor([_encode_by_definition(v) for v in values], dtype=torch.float64)
    encoded = linear_to_srgb(torch.tensor(values, dtype=torch.float64))
    torch.testing.assert_close(encoded, expected, rtol=0, atol=1e-15)


def test_decoding_undoes_encoding() -> None:
    linear = torch.linspace(-0.5, 8, 10_001, dtype=torch.float64)
    # The pieces of the standard meet only to within 3e-8.
    torch.testing.assert_close(srgb_to_linear(linear_to_srgb(linear)), linear, rtol=0, atol=1e-7)


def test_all_bytes_survive_the_round_trip_in_float32() -> None:
    encoded = torch.arange(256) / 255
    again = (linear_to_srgb(srgb_to_linear(encoded)) * 255).round().int()
    assert torch.equal(again, torch.arange(256, dtype=torch.int32))


def test_middle_grey_is_where_everybody_knows_it() -> None:
    assert float(linear_to_srgb(torch.tensor(0.18)) * 255) == pytest.approx(117.6, abs=0.1)


@pytest.mark.parametrize("function", [linear_to_srgb, srgb_to_linear])
def test_gradients_are_right_and_finite_at_zero_and_below(function) -> None:
    points = torch.tensor([-1.0, 0.0, 1e-3, 0.2, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, points)
