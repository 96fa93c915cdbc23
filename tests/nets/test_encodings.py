"""Encoded coordinates: order of the blocks, and waves that double."""

from __future__ import annotations

import math

import torch

from vultus.nets.encodings import frequency_encoding, num_encoded


def test_blocks_are_the_identity_then_sines_and_cosines_of_doubling_frequency() -> None:
    x = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64)
    encoded = frequency_encoding(x, 4)
    assert encoded.shape == (1, num_encoded(3, 4)) == (1, 27)
    assert torch.equal(encoded[:, :3], x)
    for power in range(4):
        for axis in range(3):
            angle = 2**power * float(x[0, axis])
            block = encoded[0, 3 + 6 * power :]
            assert math.isclose(float(block[axis]), math.sin(angle), abs_tol=1e-12)
            assert math.isclose(float(block[3 + axis]), math.cos(angle), abs_tol=1e-12)


def test_no_frequency_leaves_coordinates_as_they_are() -> None:
    x = torch.randn(2, 5, 3)
    assert torch.equal(frequency_encoding(x, 0), x)
