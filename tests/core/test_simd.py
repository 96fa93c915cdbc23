"""Vectors inside Numba against NumPy, the workers, and the cache that watches other files."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from vultus.core.simd import (
    KERNEL_OPTIONS,
    LANES,
    SIMD_VERSION,
    aligned_floats,
    bits,
    cttz,
    fetch_add,
    hsum,
    hsum16,
    iota,
    run_chunks,
    run_workers,
    source_version,
    splat,
    vexp2,
    vfloor,
    vload,
    vload_u8,
    vlog2,
    vmax,
    vmin,
    vsel,
    vsqrt,
    vstore,
)

compiled = njit(**{**KERNEL_OPTIONS, "cache": False})


@pytest.fixture
def lanes():
    return np.random.default_rng(0).uniform(-3, 3, LANES).astype(np.float32)


def test_arithmetic_mixes_vectors_and_scalars_of_any_type(lanes):
    def function(x, out):
        v = vload(x, 0)
        v += 0.5
        v *= 3
        vstore(out, 0, (2 - v) / (v * v + np.float32(1)) - iota() * v)

    out = np.empty_like(lanes)
    compiled(function)(lanes, out)
    v = (lanes + np.float32(0.5)) * 3
    np.testing.assert_allclose(out, (2 - v) / (v * v + 1) - np.arange(16) * v, rtol=1e-5, atol=1e-5)


def test_masks_select_and_turn_into_bits(lanes):
    def function(x, out):
        v = vload(x, 0)
        inside = (v > -1.0) & (v <= 1.0)
        vstore(out, 0, vsel(inside, v, 9))
        return bits(inside)

    out = np.empty_like(lanes)
    mask = compiled(function)(lanes, out)
    inside = (lanes > -1) & (lanes <= 1)
    assert mask == sum(1 << i for i in range(LANES) if inside[i])
    np.testing.assert_array_equal(out, np.where(inside, lanes, 9))


def test_extrema_take_the_second_argument_for_what_is_not_a_number(lanes):
    def function(x, low, high):
        vstore(low, 0, vmin(vload(x, 0), 1.0))
        vstore(high, 0, vmax(vload(x, 0), 1.0))

    lanes[3] = np.nan
    low, high = np.empty_like(lanes), np.empty_like(lanes)
    compiled(function)(lanes, low, high)
    np.testing.assert_array_equal(low, np.where(np.isnan(lanes), 1, np.fmin(lanes, 1)))
    np.testing.assert_array_equal(high, np.where(np.isnan(lanes), 1, np.fmax(lanes, 1)))


def test_exp2_is_exact_to_a_few_units_in_the_last_place_over_its_range():
    def function(x, out):
        for i in range(0, len(x), LANES):
            vstore(out, i, vexp2(vload(x, i)))

    x = np.linspace(-126, 127.9, 4096, dtype=np.float32)
    out = np.empty_like(x)
    compiled(function)(x, out)
    np.testing.assert_allclose(out, np.exp2(x.astype(np.float64)), rtol=3e-7)
    compiled(function)(np.full(LANES, -1e9, np.float32), out)
    np.testing.assert_allclose(out[:LANES], 2.0**-126, rtol=3e-7)


def test_log2_is_exact_to_a_few_units_in_the_last_place():
    def function(x, out):
        for i in range(0, len(x), 16):
            vstore(out, i, vlog2(vload(x, i)))

    x = np.concatenate(
        [np.exp2(np.linspace(-125, 125, 4096)), np.linspace(0.5, 2, 4096), np.full(16, 1)]
    ).astype(np.float32)
    out = np.empty_like(x)
    compiled(function)(x, out)
    exact = np.log2(x.astype(np.float64))
    assert np.abs((out - exact) / np.maximum(1, np.abs(exact))).max() < 2e-7
    assert not out[-16:].any()


def test_floors_are_whole_numbers_below(lanes):
    def function(x, out):
        vstore(out, 0, vfloor(vload(x, 0)))

    out = np.empty_like(lanes)
    compiled(function)(lanes, out)
    assert np.array_equal(out, np.floor(lanes))


def test_sums_roots_and_bytes_agree_with_numpy(lanes):
    def function(x, image, roots, pixels):
        vstore(roots, 0, vsqrt(vload(x, 0) * vload(x, 0)))
        vstore(pixels, 0, vload_u8(image, 3) + splat(0))
        return hsum(vload(x, 0))

    image = np.arange(200, 240, dtype=np.uint8)
    roots, pixels = np.empty_like(lanes), np.empty_like(lanes)
    total = compiled(function)(lanes, image, roots, pixels)
    assert total == pytest.approx(lanes.sum(), rel=1e-5)
    np.testing.assert_allclose(roots, np.abs(lanes), rtol=1e-6)
    np.testing.assert_array_equal(pixels, image[3:19])


def test_sixteen_sums_at_once_are_in_the_order_of_the_vectors():
    def function(x, out):
        v = vload(x, 0)
        w = iota()
        sums = (v, w, v * 2, w * 2, v * 3, w * 3, v * 4, w * 4)
        sums = (*sums, v * 5, w * 5, v * 6, w * 6, v * 7, w * 7, v * 8, w * 8)
        vstore(out, 0, hsum16(sums))

    x = np.random.default_rng(1).normal(size=LANES).astype(np.float32)
    out = np.empty_like(x)
    compiled(function)(x, out)
    both = [x.astype(np.float64).sum(), np.arange(LANES).sum()]
    np.testing.assert_allclose(out, np.outer(np.arange(1, 9), both).ravel(), rtol=1e-5)


def test_trailing_zeros_visit_every_set_bit():
    def function(mask, out):
        count = 0
        while mask != 0:
            out[count] = cttz(mask)
            mask &= mask - 1
            count += 1
        return count

    out = np.zeros(16, np.int64)
    count = compiled(function)(0b1000_0000_0110_0001, out)
    assert out[:count].tolist() == [0, 5, 6, 15]


def test_scratch_starts_on_a_cache_line():
    def function(size):
        scratch = aligned_floats(size)
        scratch[:] = 1
        return scratch.ctypes.data % 64, scratch.sum()

    for size in (1, 100, 4099):
        assert compiled(function)(size) == (0, size)


def test_workers_share_out_every_item_once():
    def function(job, done):
        while True:
            i = fetch_add(job, 0, 1)
            if i >= len(done):
                break
            done[i] += 1

    for workers in (1, 3):
        done = np.zeros(1000, np.int64)
        run_workers(workers, compiled(function), np.zeros(1, np.int64), done)
        assert (done == 1).all()


def test_chunks_cover_the_range_once_even_with_more_workers_than_items():
    for workers, size in ((1, 10), (3, 10), (4, 2), (2, 0)):
        seen: list[int] = []
        run_chunks(workers, lambda start, stop, s=seen: s.extend(range(start, stop)), size)
        assert sorted(seen) == list(range(size))


def test_an_error_in_a_worker_reaches_the_caller():
    def fail(start, stop):
        if start > 0:
            raise ValueError("second chunk")

    with pytest.raises(ValueError, match="second chunk"):
        run_chunks(2, fail, 10)


def test_the_version_changes_with_the_sources(tmp_path: Path):
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text("x = 1", encoding="utf-8")
    second.write_text("y = 1", encoding="utf-8")
    before = source_version(str(first), str(second))
    second.write_text("y = 2", encoding="utf-8")
    assert source_version(str(first), str(second)) != before
    assert isinstance(SIMD_VERSION, int)


def test_a_cached_kernel_is_compiled_anew_when_a_watched_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(tmp_path)
    constants, module = tmp_path / "watched_constants.py", tmp_path / "watching_kernel.py"
    module.write_text(
        "import watched_constants\n"
        "from watched_constants import VALUE\n"
        "from vultus.core.simd import kernel\n\n\n"
        "@kernel(watched_constants.__file__)\n"
        "def value():\n"
        "    return VALUE\n",
        encoding="utf-8",
    )
    results = []
    for number in ("1", "22"):
        constants.write_text(f"VALUE = {number}\n", encoding="utf-8")
        for name in ("watched_constants", "watching_kernel"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        results.append(importlib.import_module("watching_kernel").value())
    assert results == [1, 22]
    for name in ("watched_constants", "watching_kernel"):
        sys.modules.pop(name)
