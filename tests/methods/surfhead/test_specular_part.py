from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from fakes import FakeHead
from tolerances import assert_close
from vultus.geometry.cameras import Camera, look_at
from vultus.heads.base import Topology
from vultus.methods.surfhead.specular import SpecularConfig
from vultus.methods.surfhead.specular_part import SpecularPart, add_specular
from vultus.methods.surfhead.transport import BoundSurfels, RestMesh, pose_faces, transport
from vultus.render.surfels import render_surfels

Lobes = Literal["sg", "asg", "lasg"]
HEAD = FakeHead(rings=12, segments=20, radius=0.1)


def topology() -> Topology:
    """The sphere with a patch of eyeball in front of each side and teeth below."""
    x, y, z = HEAD.neutral.unbind(dim=1)
    regions = {
        "left_eyeball": (z > 0.03) & (x > -0.001) & (y > 0),
        "right_eyeball": (z > 0.03) & (x < 0.001) & (y > 0),
        "teeth": (z > 0.05) & (y < 0),
    }
    return replace(HEAD.topology, regions={**HEAD.topology.regions, **regions})


def camera() -> Camera:
    eyes = torch.tensor([[0.0, 0.1, 0.6], [0.2, 0.0, 0.6]])
    intrinsics = torch.tensor([[60.0, 0, 16], [0, 60.0, 16], [0, 0, 1]]).expand(2, 3, 3)
    return Camera(look_at(eyes, torch.zeros(3)), intrinsics, 32, 32)


class Scene:
    """One surfel per face of the sphere, at rest, seen by two cameras."""

    def __init__(self, config: SpecularConfig) -> None:
        faces = HEAD.topology.faces
        self.count = len(faces)
        self.part = SpecularPart(config, topology(), torch.Generator().manual_seed(0))
        self.part.index_surfels(torch.arange(self.count))
        quats = torch.zeros(self.count, 4)
        quats[:, 0] = 1.0
        scales = torch.full((self.count, 2), 0.4)
        index = torch.arange(self.count)
        self.bound = BoundSurfels(index, torch.zeros(self.count, 3), quats, scales)
        self.rest = RestMesh.build(HEAD.neutral, faces, "sqrt_area")
        self.posed = pose_faces(HEAD.neutral.expand(2, -1, -1), self.rest, "jacobian")
        self.placed = transport(self.bound, self.rest, self.posed)
        generator = torch.Generator().manual_seed(1)
        self.features = torch.randn(self.count, config.num_features, generator=generator)

    def colors(self) -> Tensor:
        return self.part.colors(
            self.features, self.bound, self.rest, self.posed, self.placed, camera()
        )

    def render(self, features: Tensor, background: Tensor) -> Tensor:
        placed = self.placed
        return render_surfels(
            placed.means,
            placed.quats,
            placed.scales,
            torch.full((2, self.count), 0.8),
            camera(),
            features=features,
            jacobians=placed.jacobians,
            background=background,
            outputs=(),
            backend="ref",
        ).image


@pytest.mark.parametrize(
    ("surfels", "names"),
    [("eyeballs", ("left_eyeball", "right_eyeball")), ("teeth", ("teeth",)), ("all", None)],
)
def test_only_the_chosen_part_shines(
    surfels: Literal["eyeballs", "teeth", "all"], names: tuple[str, ...] | None
) -> None:
    scene = Scene(SpecularConfig("asg", surfels, num_features=6))
    shines = scene.colors().detach().abs().sum(dim=(0, 2)) > 0
    every = torch.ones(scene.count, dtype=torch.bool)
    assert torch.equal(shines, every if names is None else topology().face_region(*names))
    assert names is None or 0 < int(shines.sum()) < scene.count


@pytest.mark.parametrize("lobes", ["sg", "asg", "lasg"])
def test_gradients_reach_the_features_of_shiny_surfels_and_all_weights(lobes: Lobes) -> None:
    scene = Scene(SpecularConfig(lobes, num_features=6))
    scene.features.requires_grad_()
    scene.colors().square().sum().backward()
    touched = scene.features.grad.abs().sum(dim=1) > 0
    assert torch.equal(touched.nonzero()[:, 0], scene.part.chosen)
    for name, parameter in scene.part.parameters().items():
        assert name.startswith("specular.")
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("lobes", ["asg", "lasg"])
def test_the_sum_of_images_is_the_image_of_sums(lobes: Lobes) -> None:
    scene = Scene(SpecularConfig(lobes, num_features=6))
    with torch.no_grad():
        specular = scene.colors()
        diffuse = torch.rand(2, scene.count, 3, generator=torch.Generator().manual_seed(2))
        white = torch.ones(3)
        together = scene.render(diffuse + specular, white)
        channels = torch.cat([diffuse, specular], dim=2)
        assert channels.shape[2] == 3 + scene.part.num_channels
        background = torch.cat([white, torch.zeros(scene.part.num_channels)])
        assert_close(add_specular(scene.render(channels, background)), together)
        assert float((scene.render(diffuse, white) - together).abs().max()) > 0.01


def test_densified_surfels_are_listed_anew() -> None:
    scene = Scene(SpecularConfig("asg", num_features=6))
    eyeballs = scene.part.chosen
    grown = torch.cat([torch.arange(scene.count), eyeballs[:2], torch.tensor([0])])
    scene.part.index_surfels(grown)
    added = torch.tensor([scene.count, scene.count + 1])
    assert torch.equal(scene.part.chosen, torch.cat([eyeballs, added]))


def test_nothing_shines_before_its_first_step_or_without_shiny_surfels() -> None:
    part = Scene(SpecularConfig("asg", num_features=6)).part
    assert not part.is_active(2_499)
    assert part.is_active(2_500)
    assert part.is_active(None)
    assert set(part.rates(2_499).values()) == {0.0}
    assert part.rates(2_500).keys() == part.parameters().keys()
    part.index_surfels(torch.zeros(3, dtype=torch.int64))
    assert not part.is_active(None)


def test_weights_come_back_from_a_checkpoint() -> None:
    part = Scene(SpecularConfig("asg", num_features=6)).part
    other = SpecularPart(part.config, topology(), torch.Generator().manual_seed(9))
    stored = {name: value.detach().clone() for name, value in part.parameters().items()}
    other.load({**stored, "means": torch.zeros(1)})
    assert all(torch.equal(other.parameters()[name], stored[name]) for name in stored)
    lasg = SpecularPart(SpecularConfig("lasg"), topology(), torch.Generator())
    with pytest.raises(ValueError, match="trained with other lobes"):
        lasg.load(stored)
    with pytest.raises(ValueError, match="must be sg, asg or lasg to make a network"):
        SpecularPart(SpecularConfig("none"), topology(), torch.Generator())
