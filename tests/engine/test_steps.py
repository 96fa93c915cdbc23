"""What runs steps of a training, on the CPU."""

from __future__ import annotations

import pytest
import torch

from tiny_captures import tiny_surfhead
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence
from vultus.engine.steps import make_steps
from vultus.methods.surfhead.model import SurfHead


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 8], r"order must hold rows of the 8 images, got row 8"),
        ([0, -1], r"order must hold rows of the 8 images, got row -1"),
        ([], r"order must hold at least one row, got none"),
    ],
)
def test_orders_that_leave_the_images_are_refused(
    sequence: HeadSequence, order: list[int], message: str
) -> None:
    avatar = SurfHead(tiny_surfhead(), sequence, 0)
    with pytest.raises(ValueError, match=message):
        make_steps(avatar, FrameStore(sequence, "train"), order)


def test_steps_on_a_cpu_add_up_in_the_same_order_in_every_run(sequence: HeadSequence) -> None:
    avatar = SurfHead(tiny_surfhead(), sequence, 0)
    assert not torch.are_deterministic_algorithms_enabled()
    with make_steps(avatar, FrameStore(sequence, "train"), [0]).context():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
