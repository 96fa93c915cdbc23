"""Buffers grow before and after lists stop fitting, and steps are repeated until they fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vultus.kernels import capacity
from vultus.kernels.capacity import (
    Capacity,
    CapacityExceededError,
    Reading,
    check_captured,
    overflow_flag,
    repeat_while_growing,
    shared_capacity,
)
from vultus.kernels.parts import Layout, Part


@pytest.fixture(autouse=True)
def _nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "_shared", {})
    monkeypatch.setattr(capacity, "_flags", {})


def call_with(longest: int, bits: int = 0) -> Callable[[Tensor, Tensor, int], None]:
    """Note what the kernel of a captured call would."""

    def note(peaks: Tensor, flag: Tensor, per_list: int) -> None:
        peaks.copy_(torch.maximum(peaks, torch.tensor([longest, 0, 0])))
        peaks[2] |= bits
        flag |= longest > per_list

    return note


def test_lists_that_fit_easily_change_nothing_but_settle_the_size():
    sizes = Capacity(per_list=512)
    assert sizes.update(400)
    assert sizes.per_list == 512
    assert sizes.is_settled


def test_a_list_close_to_its_end_fits_and_grows_the_buffer():
    sizes = Capacity(per_list=512)
    assert sizes.update(500)
    assert sizes.per_list == 1024


@pytest.mark.parametrize(
    ("longest", "grown"), [(520, 1024), (900, 2048), (4066, 5120), (100_000, 125_952)]
)
def test_a_list_that_does_not_fit_grows_the_buffer_to_a_round_size_with_headroom(longest, grown):
    sizes = Capacity(per_list=512)
    assert not sizes.update(longest)
    assert not sizes.is_settled
    assert sizes.per_list == grown
    assert sizes.update(longest)


def test_room_for_pairs_never_shrinks():
    sizes = Capacity()
    sizes.update(0, 1000)
    sizes.update(0, 10)
    assert sizes.pairs == 1250


def test_the_same_kind_of_call_shares_its_sizes():
    assert shared_capacity("a", 1) is shared_capacity("a", 1)
    assert shared_capacity("a", 1) is not shared_capacity("a", 2)


def part_of(values: torch.Tensor) -> Part:
    (part,) = Layout(counters=(values.shape, values.dtype)).divide(values)
    return part


def refuse_to_copy(part: Part, memory: torch.Tensor) -> None:
    raise AssertionError("counters on a CPU are read where they are")


def refuse(*_: object) -> bool:
    return False


@pytest.mark.gpu
@pytest.mark.parametrize("is_refused", [False, True])
def test_readings_that_are_under_way_at_once_do_not_share_memory(monkeypatch, is_refused):
    """Some are dropped unread, so that their memory is taken again, perhaps before the copy."""
    from vultus.kernels import triton_runtime

    if is_refused:
        monkeypatch.setattr(triton_runtime, "copy_words", refuse)
    counters = torch.zeros(4, dtype=torch.int32, device="cuda")
    values = [part_of(counters + step) for step in range(20)]
    readings = []
    for step in range(20):
        reading = Reading(values[step], 4, triton_runtime.start_copy_of_head)
        if step % 3:
            readings.append((step, reading))
    for step, reading in readings:
        assert reading.wait() == [step] * 4
        assert reading.wait() == [step] * 4


@pytest.mark.gpu
def test_memory_that_a_copy_is_on_its_way_to_is_not_taken_again():
    """The copy that comes late belongs to a reading that nobody waits for, on another stream."""
    from vultus.kernels.triton_runtime import start_copy_of_head

    first, second = (torch.full((5,), k, dtype=torch.int32, device="cuda") for k in (1, 2))
    torch.cuda.synchronize()
    slow = torch.cuda.Stream()
    with torch.cuda.stream(slow):
        torch.cuda._sleep(50_000_000)
        Reading(part_of(first), 5, start_copy_of_head)
    reading = Reading(part_of(second), 5, start_copy_of_head)
    assert reading.wait() == [2] * 5
    slow.synchronize()
    assert reading.wait() == [2] * 5


@pytest.mark.gpu
def test_the_driver_copies_in_the_order_of_the_stream():
    from vultus.kernels.cuda_launch import copy_words

    source = torch.zeros(1000, dtype=torch.int32, device="cuda")
    target = torch.zeros(8, dtype=torch.int32, pin_memory=True)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        source.fill_(7)
        assert copy_words(target.data_ptr(), source.data_ptr(), 6, stream.cuda_stream)
        assert not target.any()
        source.fill_(9)
    stream.synchronize()
    assert target.tolist() == [7] * 6 + [0] * 2


def test_counters_arrive():
    part = part_of(torch.tensor([3, 5, 7], dtype=torch.int32))
    assert Reading(part, 2, refuse_to_copy).wait() == [3, 5]


def test_a_captured_call_that_did_not_fit_is_reported_once():
    sizes = shared_capacity("a")
    with pytest.raises(RuntimeError, match="must run once before"):
        sizes.capture(call_with(10))
    sizes.prepare_capture(torch.device("cpu"))
    sizes.capture(call_with(10))
    check_captured()
    for longest in (5000, 20):
        sizes.capture(call_with(longest))
    with pytest.raises(CapacityExceededError, match="capture the graph again"):
        check_captured()
    assert sizes.per_list >= 5000
    check_captured()


def test_a_graph_keeps_the_buffers_that_it_was_captured_with():
    sizes = shared_capacity("a")
    sizes.prepare_capture(torch.device("cpu"))
    sizes.capture(call_with(600))
    assert not sizes.update(900)
    with pytest.raises(CapacityExceededError):
        check_captured()


def test_a_graph_is_not_blamed_for_the_smaller_buffers_of_an_earlier_one():
    sizes = shared_capacity("a")
    sizes.prepare_capture(torch.device("cpu"))
    sizes.update(0, 100)
    for needed in (400, 3000):
        sizes.capture(call_with(needed))
        sizes.capture_pairs(torch.tensor(needed // 4))
        check_captured()
        # A call between the two graphs needs more, so that the second one gets more room.
        sizes.update(4000, 1000)


def test_a_step_is_repeated_until_it_fits_but_not_for_ever():
    attempts = []

    def step() -> int:
        attempts.append(len(attempts))
        if len(attempts) < 3:
            raise CapacityExceededError("too small")
        return 42

    assert repeat_while_growing(step) == 42
    assert len(attempts) == 3

    def hopeless() -> None:
        raise CapacityExceededError("too small")

    with pytest.raises(CapacityExceededError):
        repeat_while_growing(hopeless)


def test_the_flag_of_an_overflow_stays_up_until_the_check():
    sizes, flag = shared_capacity("a"), overflow_flag(torch.device("cpu"))
    sizes.prepare_capture(torch.device("cpu"))
    flags = []
    for longest in (5, 5000, 5):
        sizes.capture(call_with(longest))
        flags.append(int(flag))
    assert flags == [0, 1, 1]
    with pytest.raises(CapacityExceededError):
        check_captured()
    assert int(flag) == 0


def test_problems_of_captured_calls_are_reported_once():
    sizes = shared_capacity("a")
    sizes.prepare_capture(torch.device("cpu"))
    sizes.capture(call_with(5))
    problems = ("means must be finite", "scales must be finite")
    for bits in (0, 2, 0):
        sizes.capture(call_with(0, bits), problems)
    with pytest.raises(ValueError, match="scales must be finite"):
        check_captured()
    check_captured()


def test_a_problem_leaves_no_flag_up_for_the_next_training():
    sizes, flag = shared_capacity("a"), overflow_flag(torch.device("cpu"))
    sizes.prepare_capture(torch.device("cpu"))
    sizes.capture(call_with(5000))
    sizes.capture(call_with(0, 1), ("means must be finite",))
    with pytest.raises(ValueError, match="means must be finite"):
        check_captured()
    assert int(flag) == 0
    check_captured()


def test_captured_pairs_that_did_not_fit_are_reported():
    sizes = shared_capacity("a")
    sizes.prepare_capture(torch.device("cpu"))
    sizes.update(0, 100)
    sizes.capture(call_with(5))
    sizes.capture_pairs(torch.tensor(120))
    check_captured()
    sizes.capture_pairs(torch.tensor(200))
    assert int(overflow_flag(torch.device("cpu"))) == 1
    with pytest.raises(CapacityExceededError):
        check_captured()
    assert sizes.pairs == 250


def test_captured_calls_are_looked_after_whoever_called_first():
    """Tensors that are made in inference mode could not be written to outside of it."""
    with torch.inference_mode():
        shared_capacity("a").prepare_capture(torch.device("cpu"))
    shared_capacity("a").capture(call_with(100))
    check_captured()


def test_a_problem_of_one_call_does_not_hide_what_others_need():
    kinds = [shared_capacity(name) for name in "ab"]
    for kind in kinds:
        kind.prepare_capture(torch.device("cpu"))
        kind.capture(call_with(3000))
    kinds[0].capture(call_with(0, 1), ["means must be finite"])
    with pytest.raises(ValueError, match="means must be finite"):
        check_captured()
    assert all(kind.per_list >= 3000 for kind in kinds)
    check_captured()
