"""Visibility bits in words."""

import pytest
import torch

from vultus.kernels.ray_mesh import pack_visibility, unpack_visibility


@pytest.mark.parametrize("num_lights", [1, 31, 32, 33, 100])
def test_unpacking_undoes_packing(num_lights: int) -> None:
    generator = torch.Generator().manual_seed(num_lights)
    visible = torch.randint(0, 2, (7, num_lights), generator=generator, dtype=torch.uint8)
    words = pack_visibility(visible)
    assert words.shape == (7, -(-num_lights // 32))
    assert torch.equal(unpack_visibility(words, num_lights), visible)


def test_the_lowest_bit_comes_first() -> None:
    visible = torch.zeros(1, 40, dtype=torch.uint8)
    visible[0, [0, 3, 31, 33]] = 255
    assert pack_visibility(visible).tolist() == [[1 + 8 - 2**31, 2]]


def test_a_wrong_number_of_lights_is_refused() -> None:
    words = torch.zeros(2, 2, dtype=torch.int32)
    for num_lights in (32, 65):
        with pytest.raises(ValueError, match="must fill 2 words"):
            unpack_visibility(words, num_lights)


@pytest.mark.parametrize("num_lights", [32, 40])
def test_flags_may_lie_in_any_order_in_memory(num_lights: int) -> None:
    generator = torch.Generator().manual_seed(0)
    by_light = torch.randint(0, 2, (num_lights, 5), generator=generator).to(torch.uint8)
    words = pack_visibility(by_light.T)
    assert words.is_contiguous()
    assert torch.equal(words, pack_visibility(by_light.T.contiguous()))
