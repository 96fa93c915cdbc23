"""Materials: activation, where they start, and their priors."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tolerances import assert_close
from vultus.data.semantics import SEMANTIC_GROUPS
from vultus.geometry.mesh_sampling import SurfacePoints
from vultus.methods.relightable_blendshapes.material_config import MaterialWeights
from vultus.methods.relightable_blendshapes.material_objectives import (
    MaterialPriors,
    delta_sparsity,
    labelled_neighbors,
    material_terms,
    neighbor_difference,
    roughness_prior,
    skin_specular_prior,
    squared_specular,
    white_light,
)
from vultus.methods.relightable_blendshapes.materials import (
    INITIAL_SPECULAR,
    MATERIAL_CHANNELS,
    activate_materials,
    face_labels,
    initial_materials,
)

FACES = torch.tensor([[0, 1, 2], [1, 3, 2]])
SURFACE = SurfacePoints(
    torch.zeros(3, 3),
    torch.tensor([0, 1, 1]),
    torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.5, 0.5]]),
)
ALBEDO = torch.tensor([[0.2, 0.4, 0.6], [0.0, 0.5, 1.0], [0.4, 0.4, 0.4], [0.6, 0.8, 0.2]])


def test_materials_start_where_the_mesh_says() -> None:
    skin, hair = SEMANTIC_GROUPS.index("skin"), SEMANTIC_GROUPS.index("hair")
    stored = initial_materials(SURFACE, FACES, ALBEDO, torch.tensor([skin, skin, hair, hair]), 0.3)
    albedo, roughness, specular = (stored[name][None] for name in MATERIAL_CHANNELS)
    found = activate_materials(albedo, roughness, specular, 0.3)
    expected = torch.stack([ALBEDO[0], ALBEDO[3], (ALBEDO[3] + ALBEDO[2]) / 2])
    assert_close(found.albedo[0], expected)
    assert_close(found.roughness[0], torch.full((3,), 0.65))
    gains = [INITIAL_SPECULAR["skin"], INITIAL_SPECULAR["hair"], INITIAL_SPECULAR["hair"]]
    assert_close(found.specular[0], torch.tensor(gains)[:, None].expand(3, 3))


def test_black_and_white_start_where_a_sigmoid_can_move_them() -> None:
    corner = SurfacePoints(torch.zeros(1, 3), torch.tensor([1]), torch.tensor([[1.0, 0.0, 0.0]]))
    stored = initial_materials(corner, FACES, ALBEDO, torch.zeros(4, dtype=torch.int64), 0.3)
    assert_close(stored["albedo"].sigmoid(), torch.tensor([[0.02, 0.5, 0.98]]))


def test_roughness_stays_above_the_least() -> None:
    low, high = torch.full((1, 1, 1), -50.0), torch.full((1, 1, 1), 50.0)
    for stored, expected in ((low, 0.3), (high, 1.0)):
        materials = activate_materials(torch.zeros(1, 1, 3), stored, stored, 0.3)
        assert materials.roughness.item() == pytest.approx(expected)


def test_a_face_has_the_label_of_most_of_its_corners() -> None:
    labels = torch.tensor([5, 2, 2, 7])
    assert face_labels(labels, torch.tensor([[0, 1, 2], [0, 1, 3]])).tolist() == [2, 2]


def test_labels_and_roughness_that_mean_nothing_are_refused() -> None:
    labels = torch.tensor([0, 0, 0, 8])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 8\), got 0 to 8"):
        initial_materials(SURFACE, FACES, ALBEDO, labels, 0.3)
    with pytest.raises(ValueError, match="min_roughness must lie in"):
        initial_materials(SURFACE, FACES, ALBEDO, 0 * labels, 0.7)


def test_priors_are_the_golden_ones(golden_dir) -> None:
    golden = load_file(golden_dir / "relightable_blendshapes" / "losses.safetensors")
    # FLARE's skin: skin, eyes and brows inside the mask.
    is_skin = golden["mat.semantic6"][..., :3].sum(dim=-1) * golden["mat.mask"][..., 0] > 0
    roughness, specular = (
        golden[f"mat.{n}"][..., 0].reshape(1, -1) for n in ("roughness", "specular")
    )
    assert_close(roughness_prior(roughness, is_skin.flatten()), golden["mat.roughness_reg_mean0p5"])
    assert_close(skin_specular_prior(specular, is_skin.flatten()), golden["mat.specular_reg"])
    assert_close(white_light(golden["mat.shading"].reshape(1, -1, 3)), golden["mat.white_light"])


def test_white_light_counts_visible_gaussians_only() -> None:
    diffuse = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 0.0, 3.0]]])
    visible = torch.tensor([[False, True]])
    assert white_light(diffuse, visible).item() == pytest.approx(4 / 3)
    assert white_light(diffuse, ~visible).item() == 0.0
    assert white_light(diffuse, visible & ~visible).item() == 0.0


def test_only_dull_parts_are_kept_dull() -> None:
    specular = torch.tensor([[0.5, 0.9]], requires_grad=True)
    loss = squared_specular(specular, torch.tensor([True, False]))
    loss.backward()
    assert loss.item() == pytest.approx(0.25)
    assert specular.grad is not None
    assert specular.grad.tolist() == [[1.0, 0.0]]


def test_neighbors_are_the_nearest_of_the_same_label() -> None:
    means = torch.tensor([0.0, 1.0, 1.1, 3.0, 3.1, 9.0])[:, None] * torch.ones(3)
    labels = torch.tensor([0, 0, 1, 0, 1, 2])
    pairs = {tuple(pair) for pair in labelled_neighbors(means, labels, 1).tolist()}
    assert pairs == {(0, 1), (1, 0), (3, 1), (2, 4), (4, 2)}
    assert labelled_neighbors(means[-1:], labels[-1:]).shape == (0, 2)


def test_neighbors_differ_by_what_they_differ() -> None:
    values = torch.tensor([[[1.0], [3.0], [7.0]]])
    pairs = torch.tensor([[0, 1], [1, 2]])
    assert neighbor_difference(values, pairs).item() == pytest.approx(3.0)
    assert neighbor_difference(values, pairs[:0]).item() == 0.0


def test_deltas_are_kept_small() -> None:
    assert delta_sparsity(torch.tensor([[[2.0, -4.0]]])).item() == pytest.approx(3.0)


def stored_materials() -> dict[str, torch.Tensor]:
    """Of four Gaussians, with deltas of two of their materials."""
    generator = torch.Generator().manual_seed(2)
    stored = {name: torch.randn(4, c, generator=generator) for name, c in MATERIAL_CHANNELS.items()}
    deltas = {f"{n}_deltas": torch.ones_like(stored[n])[..., None] for n in ("albedo", "specular")}
    return stored | deltas


def test_terms_are_weighted_and_those_without_weight_are_absent() -> None:
    priors = MaterialPriors.of(torch.tensor([0, 7, 5, 1]), torch.tensor([[0, 1]]))
    assert priors.is_skin.tolist() == [True, True, False, False]
    assert priors.is_dull.tolist() == [False, False, True, False]
    diffuse = torch.rand(1, 4, 3)
    weights = MaterialWeights(white_light=2.0, roughness_prior=0.0, albedo_deltas=0.5)
    terms = material_terms(weights, stored_materials(), diffuse, priors, 0.3)
    assert "roughness_prior" not in terms
    assert "roughness_deltas" not in terms
    assert_close(terms["white_light"], 2.0 * white_light(diffuse))
    assert terms["albedo_deltas"].item() == pytest.approx(0.5)
    assert terms["specular_deltas"].item() == pytest.approx(weights.material_deltas)


def test_terms_reach_every_stored_material() -> None:
    gaussians = {k: v.requires_grad_() for k, v in stored_materials().items()}
    priors = MaterialPriors.of(torch.tensor([0, 0, 0, 5]), torch.tensor([[0, 1], [1, 2]]))
    terms = material_terms(MaterialWeights(), gaussians, torch.rand(1, 4, 3), priors, 0.3)
    torch.stack(list(terms.values())).sum().backward()
    for name, value in gaussians.items():
        assert value.grad is not None, name
        assert bool(value.grad.any()), name
