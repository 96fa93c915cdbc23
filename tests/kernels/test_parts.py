"""One allocation stands in for several tensors, and kernels can be given its parts."""

from __future__ import annotations

import math

import pytest
import torch

from triton_support import is_interpreting, triton_device
from vultus.kernels.parts import Layout, Part, as_tensor

PLACES = {
    "odd": ((5,), torch.int32),
    "wide": ((3, 7), torch.int64),
    "none": ((0, 4), torch.float32),
    "floats": ((2, 6), torch.float32),
}


def divided() -> tuple[torch.Tensor, list[Part]]:
    layout = Layout(**PLACES)
    memory = torch.arange(layout.words, dtype=torch.int32)
    return memory, layout.divide(memory)


def test_parts_have_their_shapes_and_share_nothing():
    memory, parts = divided()
    for fill, part in enumerate(parts, 1):
        part.tensor().fill_(fill)
    for fill, part, (shape, dtype) in zip(range(1, 5), parts, PLACES.values(), strict=True):
        tensor = part.tensor()
        assert tensor.shape == shape
        assert tensor.dtype == dtype
        assert (tensor == fill).all()
    assert memory.untyped_storage().data_ptr() == parts[0].data_ptr()


def test_addresses_are_those_of_the_tensors_and_aligned():
    memory, parts = divided()
    for part in parts:
        if part.num_words:
            assert part.data_ptr() == part.tensor().data_ptr()
        assert (part.data_ptr() - memory.data_ptr()) % 128 == 0
        assert part.get_device() == -1


def test_the_same_memory_can_be_seen_as_integers():
    _, (_, wide, _, _) = divided()
    wide.tensor().fill_((7 << 32) | 9)
    words = wide.as_integers()
    assert words.data_ptr() == wide.data_ptr()
    assert words.tensor().tolist() == [9, 7] * math.prod(PLACES["wide"][0])
    assert wide.head(3).tolist() == [9, 7, 9]


def test_tensors_are_their_own_tensors():
    tensor = torch.zeros(3)
    _, parts = divided()
    assert as_tensor(tensor) is tensor
    assert as_tensor(parts[3]).shape == (2, 6)


@pytest.mark.triton
def test_parts_are_filled_with_zeros_and_taken_by_prepared_launches():
    device = triton_device()
    from launched_kernels import SCALE_CONSTANTS, scale
    from vultus.kernels.triton_runtime import Launcher, fill_with_zeros

    layout = Layout(source=((8,), torch.float32), target=((8,), torch.float32))
    prepared = Launcher(scale, (1,), 5, 0.5, **SCALE_CONSTANTS)
    for _ in range(3):
        source, target = layout.divide(torch.full((layout.words,), 9, device=device).int())
        source.tensor().copy_(torch.arange(8.0))
        fill_with_zeros(target)
        assert not target.tensor().any()
        assert source.tensor().sum() == 28
        prepared(source, target)
        expected = [0.5 * k + 1 for k in range(5)]
        assert target.tensor().tolist() == [*expected, 0, 0, 0]


@pytest.mark.gpu
def test_memory_is_cleared_by_the_driver_in_the_order_of_the_stream():
    device = triton_device()
    if is_interpreting():
        pytest.skip("needs a GPU")
    from vultus.kernels.cuda_launch import clear_words

    values = torch.ones(1 << 20, dtype=torch.int32, device=device)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        values.fill_(3)
        assert clear_words(values.data_ptr(), 1000, stream.cuda_stream)
        values[:2000] += 1
    stream.synchronize()
    assert values[:1000].eq(1).all()
    assert values[1000:2000].eq(4).all()
