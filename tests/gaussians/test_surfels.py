from __future__ import annotations

import pytest
import torch

from vultus.gaussians.surfels import Surfels, fill_triangles, initial_surfels, logit
from vultus.geometry.deformation import triangle_frames
from vultus.geometry.rotations import quaternion_to_matrix


def surfels(num: int = 6, sh_degree: int = 3) -> dict[str, torch.Tensor]:
    return initial_surfels(num, sh_degree, torch.Generator().manual_seed(0))


def test_initial_surfels_fill_their_faces_faintly() -> None:
    made = Surfels.from_dict(surfels())
    assert torch.equal(made.face_index, torch.arange(6))
    assert torch.equal(made.local_means, torch.zeros(6, 3))
    assert torch.equal(made.scales, torch.ones(6, 2))
    assert torch.equal(made.unit_quats, torch.tensor([[1.0, 0, 0, 0]]).expand(6, 4))
    torch.testing.assert_close(made.opacities, torch.full((6,), 0.1))
    assert (made.sh_rest == 0).all()
    assert (made.sh_dc >= 0).all()
    assert (made.sh_dc <= 1 / 255).all()
    assert made.sh_dc.unique().numel() > 10


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_sh_degree_follows_from_the_number_of_coefficients(degree: int) -> None:
    made = Surfels.from_dict(surfels(sh_degree=degree))
    assert made.sh_degree == degree
    assert made.sh_coeffs.shape == (6, (degree + 1) ** 2, 3)


def test_same_generator_state_gives_the_same_surfels() -> None:
    assert all(torch.equal(a, b) for a, b in zip(surfels().values(), surfels().values()))  # noqa: B905


def test_specular_features_are_zero_and_only_made_on_demand() -> None:
    assert "specular_features" not in surfels()
    generator = torch.Generator().manual_seed(0)
    made = initial_surfels(4, 3, generator, num_specular_features=24)
    assert torch.equal(made["specular_features"], torch.zeros(4, 24))


def test_dictionary_and_surfels_convert_into_each_other() -> None:
    values = surfels()
    back = Surfels.from_dict({**values, "something_else": torch.zeros(1)}).tensors()
    assert back.keys() == values.keys()
    assert all(back[name] is values[name] for name in values)


def test_missing_field_is_named() -> None:
    values = surfels()
    del values["quats"]
    with pytest.raises(ValueError, match="surfels lack 'quats'"):
        Surfels.from_dict(values)


def test_logit_inverts_the_sigmoid() -> None:
    assert torch.tensor(logit(0.3)).sigmoid().item() == pytest.approx(0.3)


def test_surfels_that_fill_triangles_have_the_covariance_of_points_spread_over_them() -> None:
    generator = torch.Generator().manual_seed(3)
    vertices = torch.randn(12, 3, generator=generator, dtype=torch.float64).float()
    faces = torch.arange(12).view(4, 3)
    made = fill_triangles(vertices, faces, spread=1.0)
    frames = triangle_frames(vertices, faces)
    axes = frames.rotations @ quaternion_to_matrix(made["quats"])
    lengths = made["log_scales"].exp() * frames.scales[:, None]
    covariance = (axes[..., :2] * lengths[:, None].square()) @ axes[..., :2].mT

    uniform = torch.rand(200_000, 2, generator=generator)
    uniform = torch.where(uniform.sum(-1, keepdim=True) > 1, 1 - uniform, uniform)
    for face in range(4):
        origin, first, second = vertices[faces[face]]
        points = origin + uniform @ torch.stack([first - origin, second - origin])
        torch.testing.assert_close(covariance[face], points.T.cov(), rtol=0.02, atol=5e-3)


def test_surfels_fill_a_triangle_without_area_with_finite_numbers() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    made = fill_triangles(vertices, torch.tensor([[0, 1, 2]]), spread=1.6)
    assert all(value.isfinite().all() for value in made.values())
