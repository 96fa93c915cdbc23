"""What is shown of a head: levels, nodes, branches; without the faint, opaque, or as dots."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from relight_heads import TINY, visible
from vultus.methods.gsheadrelight.gaussians import HeadGaussians
from vultus.methods.gsheadrelight.sampling import RelightableSampler, SamplingSettings
from vultus.methods.gsheadrelight.shown_gaussians import ShownGaussians, shown_gaussians
from vultus.methods.head_views import ViewRig

COUNTS = [20, 80, 320, 1280]
STARTS = [0, 20, 100, 420]
Head = tuple[HeadGaussians, HeadGaussians]


@pytest.fixture(scope="module")
def head() -> Head:
    generator = visible()
    ws = torch.randn(1, TINY.num_ws, TINY.w_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return generator.gaussians_and_anchors(ws)


def shown(head: Head, settings: ShownGaussians) -> HeadGaussians:
    return shown_gaussians(*head, settings, TINY)


def assert_are(found: HeadGaussians, of: HeadGaussians, rows: list[int]) -> None:
    for part in fields(HeadGaussians):
        assert torch.equal(getattr(found, part.name), getattr(of, part.name)[:, rows])


def test_by_default_everything_is_shown_as_it_is(head: Head) -> None:
    assert shown(head, ShownGaussians()) is head[0]
    assert head[0].means.shape[1] == sum(COUNTS) == TINY.num_gaussians


def test_levels_are_shown_coarse_first(head: Head) -> None:
    rows = [*range(20), *range(100, 420)]
    assert_are(shown(head, ShownGaussians(levels=(2, 0))), head[0], rows)


def test_nodes_are_shown_inside_the_box(head: Head) -> None:
    assert_are(shown(head, ShownGaussians(nodes=True)), head[1].bounded(), list(range(420)))
    some = shown(head, ShownGaussians(nodes=True, levels=(1,)))
    assert_are(some, head[1].bounded(), list(range(20, 100)))


def test_a_branch_is_all_that_descends_from_a_node(head: Head) -> None:
    """Found by walking from every Gaussian to its parents."""

    def root(level: int, index: int) -> int:
        return index if level == 0 else root(level - 1, index // 4)

    rows = [
        STARTS[level] + index
        for level, count in enumerate(COUNTS)
        for index in range(count)
        if root(level, index) == 7
    ]
    assert len(rows) == 1 + 4 + 16 + 64
    assert_are(shown(head, ShownGaussians(branch=7)), head[0], rows)


def test_children_of_a_branch_lie_in_the_box_of_their_node(head: Head) -> None:
    """Which they would not if they were another node's."""
    parent = shown(head, ShownGaussians(nodes=True, levels=(1,), branch=4))
    children = shown(head, ShownGaussians(levels=(2,), branch=4))
    reach = parent.log_scales.exp().norm(dim=2)[0]
    for index in range(4):
        own = children.means[0, 4 * index : 4 * index + 4]
        assert float((own - parent.means[0, index]).norm(dim=1).max()) <= float(reach[index]) + 1e-6


def test_near_branches_are_those_of_the_nearest_nodes(head: Head) -> None:
    first = head[1].means[0, :20]
    distances = [float((point - first[7]).norm()) for point in first]
    nearest = sorted(sorted(range(20), key=lambda index: distances[index])[:4])
    assert 7 in nearest
    found = shown(head, ShownGaussians(branch=7, branch_near=3, levels=(0,)))
    assert_are(found, head[0], nearest)
    assert shown(head, ShownGaussians(branch=7, branch_near=19)) is head[0]


def test_faint_gaussians_are_left_out(head: Head) -> None:
    opacities = head[0].opacity_logits[0, :, 0].sigmoid()
    limit = float(opacities.median())
    rows = [row for row, opacity in enumerate(opacities.tolist()) if opacity >= limit]
    assert 0 < len(rows) < TINY.num_gaussians
    assert_are(shown(head, ShownGaussians(cull_below=limit)), head[0], rows)
    coarse = ShownGaussians(cull_below=limit, levels=(0,))
    assert_are(shown(head, coarse), head[0], [row for row in rows if row < 20])
    faint = replace(head[0], opacity_logits=torch.zeros_like(head[0].opacity_logits))
    with pytest.raises(ValueError, match=r"cull_below 0.75 leaves nothing: .* opacity is 0\.5$"):
        shown((faint, head[1]), ShownGaussians(cull_below=0.75))


def test_opaque_and_grown_gaussians_are_otherwise_the_same(head: Head) -> None:
    found = shown(head, ShownGaussians(opaque=True, grow=-2.0))
    assert float(found.opacity_logits.sigmoid().min()) > 1.0 - 1e-6
    assert torch.equal(found.log_scales, head[0].log_scales - 2.0)
    kept = {"opacity_logits": head[0].opacity_logits, "log_scales": head[0].log_scales}
    assert_are(replace(found, **kept), head[0], list(range(1700)))


def sampler(**settings: object) -> RelightableSampler:
    chosen = ShownGaussians(**settings)  # pyright: ignore[reportArgumentType]
    return RelightableSampler(visible(), ViewRig(), SamplingSettings(shown=chosen))


def test_a_sampler_shows_what_it_is_told_to() -> None:
    def look(**settings: object) -> torch.Tensor:
        source = sampler(**settings)
        return source.look(source.head(source.people((1,))), source.rig.label()).alpha

    whole, dots, one = look(), look(grow=-3.0), look(branch=3)
    assert float(dots.sum()) < 0.5 * float(whole.sum())
    assert float(one.sum()) < float(whole.sum())
    assert not torch.equal(look(nodes=True), whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": ()}, "levels must be different, and at least one"),
        ({"levels": (1, 1)}, r"levels must be different, and at least one, got \(1, 1\)"),
        ({"branch_near": 2}, "branch_near needs branch, got 2 without"),
        ({"branch": 0, "branch_near": -1}, "branch_near must be at least 0, got -1"),
        ({"cull_below": 1.0}, r"cull_below must be in \[0, 1\), got 1.0"),
        ({"cull_below": float("nan")}, r"cull_below must be in \[0, 1\), got nan"),
        ({"grow": float("inf")}, "grow must be finite, got inf"),
        ({"levels": (4,)}, r"levels must be 0 to 3, as this generator has Gaussians, got \(4,\)"),
        ({"levels": (-1,)}, r"levels must be 0 to 3, as this generator has Gaussians"),
        ({"levels": (3,), "nodes": True}, "levels must be 0 to 2, as this generator has nodes"),
        ({"branch": 20}, "branch must be 0 to 19, got 20"),
        ({"branch": 0, "branch_near": 20}, "branch_near must be below 20, got 20"),
    ],
)
def test_what_shows_nothing_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(**changes)
