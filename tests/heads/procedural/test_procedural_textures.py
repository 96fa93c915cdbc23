"""Looks, random people and painted textures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vultus.heads.appearance import HeadAppearance
from vultus.heads.procedural import (
    DEFAULT_LOOK,
    Look,
    ProceduralHead,
    build_appearance,
    paint_appearance,
    random_appearance,
    random_identity,
)
from vultus.heads.procedural.basis import load_basis
from vultus.heads.procedural.hair_paint import strand_pattern
from vultus.heads.procedural.look import EYE_COLORS, HAIR_COLORS
from vultus.heads.procedural.part_paint import atlas_window
from vultus.heads.procedural.textures import position_map, synthesize_textures

_SIZE = 192


@pytest.fixture(scope="module")
def positions() -> np.ndarray:
    return position_map(load_basis(), _SIZE)


@pytest.fixture(scope="module")
def head() -> ProceduralHead:
    return ProceduralHead()


@pytest.fixture(scope="module")
def appearance(head: ProceduralHead) -> HeadAppearance:
    return build_appearance(head, DEFAULT_LOOK, _SIZE)


def test_textures_have_one_size_and_stay_in_range(appearance: HeadAppearance) -> None:
    assert appearance.albedo.shape == (_SIZE, _SIZE, 3)
    for texture in (appearance.albedo, appearance.roughness, appearance.specular):
        assert texture.shape[:2] == (_SIZE, _SIZE)
        assert 0 <= texture.min() <= texture.max() <= 1
    normals = appearance.normal_map * 2 - 1
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(_SIZE, _SIZE), atol=1e-5, rtol=0)


def test_the_appearance_fits_the_topology(head: ProceduralHead, appearance: HeadAppearance) -> None:
    topology = head.topology
    assert appearance.uv_faces.shape == topology.faces.shape
    eyes = topology.face_region("left_eyeball", "right_eyeball")
    assert torch.equal(appearance.eyeball_faces, eyes)
    hair = appearance.label_names.index("hair")
    assert torch.equal(appearance.face_labels == hair, topology.face_region("hair"))


def test_the_position_map_covers_every_skin_triangle(positions: np.ndarray) -> None:
    basis = load_basis()
    skin = basis.parts["skin"].faces
    centers = basis.uv[basis.uv_faces[skin]].mean(1)
    column = (centers[:, 0] * _SIZE).astype(int)
    row = ((1 - centers[:, 1]) * _SIZE).astype(int)
    baked = positions[row, column]
    assert np.isfinite(baked).all()
    # The texel is where the triangle is, up to the size of a texel on the skin (the mouth bag
    # and the folds behind the lids share texels with their neighbours).
    error = np.linalg.norm(baked - basis.vertices[basis.faces[skin]].mean(1), axis=1)
    assert np.median(error) < 2
    assert np.percentile(error, 90) < 6


def test_the_same_seed_paints_the_same_bytes(positions: np.ndarray) -> None:
    first, second = (synthesize_textures(positions, random_appearance(4)) for _ in range(2))
    for name, texture in first.items():
        assert texture.tobytes() == second[name].tobytes(), name


def test_two_seeds_differ(positions: np.ndarray) -> None:
    first = synthesize_textures(positions, DEFAULT_LOOK)["albedo"]
    second = synthesize_textures(positions, replace(DEFAULT_LOOK, seed=8))["albedo"]
    assert np.abs(first - second).mean() > 1e-3


def _albedo_at(positions: np.ndarray, look: Look, xyz: tuple[float, float, float]) -> np.ndarray:
    """Mean albedo within 5 mm of a place on the face."""
    near = np.linalg.norm(np.nan_to_num(positions, nan=1e3) - np.array(xyz), axis=-1) < 5
    assert near.any()
    return synthesize_textures(positions, look)["albedo"][near].mean(0)


def test_tone_goes_from_light_to_dark(positions: np.ndarray) -> None:
    forehead = (0.0, 45.0, 86.0)
    light, middle, dark = (
        _albedo_at(positions, replace(DEFAULT_LOOK, tone=tone), forehead).mean()
        for tone in (0.0, 0.5, 1.0)
    )
    assert light > middle + 0.1
    assert middle > dark + 0.1


def test_lips_are_redder_than_the_chin(positions: np.ndarray) -> None:
    def redness(rgb: np.ndarray) -> float:
        return rgb[0] / rgb[1]

    lip = _albedo_at(positions, DEFAULT_LOOK, (0.0, -74.0, 97.0))
    chin = _albedo_at(positions, DEFAULT_LOOK, (0.0, -95.0, 89.0))
    assert redness(lip) > 1.2 * redness(chin)


def test_a_beard_darkens_the_jaw_and_not_the_forehead(positions: np.ndarray) -> None:
    bare, bearded = DEFAULT_LOOK, replace(DEFAULT_LOOK, beard=0.9)
    jaw, forehead = (20.0, -100.0, 82.0), (0.0, 45.0, 86.0)
    shaved, grown = (_albedo_at(positions, look, jaw).mean() for look in (bare, bearded))
    assert grown < shaved - 0.1
    np.testing.assert_allclose(
        _albedo_at(positions, bearded, forehead), _albedo_at(positions, bare, forehead), atol=0.01
    )


def test_a_trace_of_freckles_may_be_none(positions: np.ndarray) -> None:
    """Below one freckle per face there is nothing to paint, and nobody to look up."""
    small = positions[::4, ::4]
    trace, none = (
        synthesize_textures(small, replace(DEFAULT_LOOK, freckles=amount)) for amount in (1e-3, 0.0)
    )
    assert np.array_equal(trace["albedo"], none["albedo"])


@pytest.mark.slow
def test_a_crowd_has_no_two_equal_faces(positions: np.ndarray) -> None:
    small = positions[::2, ::2]
    crowd = np.stack(
        [synthesize_textures(small, random_appearance(seed))["albedo"] for seed in range(30)]
    ).reshape(30, -1)
    distance = np.abs(crowd[:, None] - crowd[None]).mean(-1) + np.eye(30)
    assert distance.min() > 0.01


def test_random_people_are_reproducible_and_bounded() -> None:
    assert random_appearance(5) == random_appearance(5)
    assert random_appearance(5) != random_appearance(6)
    assert torch.equal(random_identity(5), random_identity(5))
    crowd = torch.cat([random_identity(seed, random_appearance(seed)) for seed in range(50)])
    assert crowd.abs().max() <= 1.8
    assert (crowd.std(0) > 0.3).all()


def test_looks_reject_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match=r"hair_color must be one of black, .*, got 'green'"):
        Look(hair_color="green")
    with pytest.raises(ValueError, match=r"tone must lie in \[0, 1\], got 1.5"):
        Look(tone=1.5)


def test_the_look_must_wear_the_heads_hair(head: ProceduralHead) -> None:
    with pytest.raises(ValueError, match=r"hair_style must be the head's 'side', got 'bob'"):
        build_appearance(head, replace(DEFAULT_LOOK, hair_style="bob"))
    with pytest.raises(ValueError, match="size must be at least 128 texels, got 64"):
        build_appearance(head, DEFAULT_LOOK, 64)


def test_colors_may_be_names_or_numbers(head: ProceduralHead) -> None:
    look = replace(DEFAULT_LOOK, hair_color="red", eye_color="blue")
    numbers = replace(look, hair_color=HAIR_COLORS["red"], eye_color=EYE_COLORS["blue"])
    named, painted = (paint_appearance(head, x, 128) for x in (look, numbers))
    assert torch.equal(named.albedo, painted.albedo)
    cached = build_appearance(head, look, 128)
    assert torch.equal(cached.albedo, named.albedo)
    assert torch.equal(cached.normal_map, named.normal_map)
    with pytest.raises(
        ValueError, match=r"eye_color must be sRGB in \[0, 1\], got \(2.0, 0.0, 0.0\)"
    ):
        replace(look, eye_color=(2.0, 0.0, 0.0))


def test_strands_stay_fine_in_small_textures() -> None:
    def stripes(width: int) -> float:
        pattern = strand_pattern(np.random.default_rng(0), (150, width), "side")
        return float(np.mean(pattern[:, 1:] * pattern[:, :-1]) / np.mean(pattern**2))

    # A texel of the small texture is twice as wide: its neighbour lies twice as far away.
    assert stripes(102) < stripes(205) < 0.95


def test_no_line_runs_down_the_back_of_the_hair(positions: np.ndarray) -> None:
    """Look-ups at the last column mix in the one beside it, which is that of no other part."""
    look = replace(DEFAULT_LOOK, hair_color="black")
    maps = synthesize_textures(positions, look)
    rows, columns = atlas_window("hair", _SIZE)[0]
    # Above and below, the margins of the skin come near.
    lower = slice(rows.start + 8, rows.stop - 2)
    for name in ("albedo", "roughness", "specular", "normal"):
        inside, beside = maps[name][lower, columns.stop - 1], maps[name][lower, columns.stop]
        np.testing.assert_array_equal(inside, beside)
