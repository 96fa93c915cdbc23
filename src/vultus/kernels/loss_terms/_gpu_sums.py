"""Averages in two stages: a kernel adds up what each of its programs sees, this adds that up.

Rows of partial sums belong to terms: first all sums of values, then all counts.
"""

# ruff: noqa: D417 -- flags explain themselves.
from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["add_up", "weigh_means"]


@jit
def add_up(partials, values, is_counted, TERM: constexpr, TERMS: constexpr):
    """Store a program's sum and count of a term."""
    program = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    programs = tl.num_programs(0) * tl.num_programs(1)
    value = tl.sum(tl.where(is_counted, values, 0.0), 0)
    count = tl.sum(is_counted.to(tl.float32), 0)
    tl.store(partials + TERM * programs + program, value)
    tl.store(partials + (TERMS + TERM) * programs + program, count)


@jit
def weigh_means(partials, terms, factors, weights, programs, TERMS: constexpr, BLOCK: constexpr):
    """Weighted averages, zero where nothing was counted; one program per term.

    Args:
        partials: [2 TERMS programs], from ``add_up``.
        terms: Written, [TERMS].
        factors: Written, [TERMS]: what a value counts in its term.
        weights: A number per term.
    """
    term = tl.program_id(0)
    total = tl.zeros([BLOCK], tl.float32)
    count = tl.zeros([BLOCK], tl.float32)
    for start in range(0, programs, BLOCK):
        at = start + tl.arange(0, BLOCK)
        mask = at < programs
        total += tl.load(partials + term * programs + at, mask=mask, other=0.0)
        count += tl.load(partials + (TERMS + term) * programs + at, mask=mask, other=0.0)
    weight = 0.0
    for k in tl.static_range(TERMS):
        weight = tl.where(term == k, weights[k], weight)
    factor = weight / tl.maximum(tl.sum(count, 0), 1.0)
    tl.store(factors + term, factor)
    tl.store(terms + term, factor * tl.sum(total, 0))
