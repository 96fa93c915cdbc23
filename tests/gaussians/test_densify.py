from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from tolerances import assert_close
from vultus.gaussians.densify import AdaptiveDensity, DensifyConfig, DensityEdit, protect_faces
from vultus.gaussians.surfels import initial_surfels, logit
from vultus.optim.adam import build_adam

NUM_FACES = 8
EXTENT = 1.0
# Every step is an edit; opacity resets are far away.
CONFIG = DensifyConfig(
    start_step=0, stop_step=1000, interval=1, opacity_reset_interval=900, prune_opacity=0.005
)
SMALL, LARGE = 0.005, 0.02  # Around dense_fraction * EXTENT.


class Scene:
    """Surfels under training, as a method holds them."""

    def __init__(
        self, config: DensifyConfig = CONFIG, seed: int = 0, num_faces: int = NUM_FACES
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        values = initial_surfels(num_faces, 1, generator)
        self.extras = {"face_index": values.pop("face_index")}
        for name in ("local_means", "quats", "log_scales", "sh_rest"):
            values[name] = values[name] + 0.3 * torch.randn(values[name].shape, generator=generator)
        self.parameters = {name: Parameter(value) for name, value in values.items()}
        self.other = Parameter(torch.zeros(num_faces, 3))
        trained = {**self.parameters, "rig.jaw": self.other}
        self.optimizer = build_adam(trained, dict.fromkeys(trained, 0.01))
        self.density = AdaptiveDensity(config, num_faces)
        self.generator = generator
        self.train()

    @property
    def num(self) -> int:
        return self.extras["face_index"].shape[0]

    def train(self) -> None:
        self.optimizer.zero_grad()
        torch.stack(
            [(p * p).sum() for p in (*self.parameters.values(), self.other)]
        ).sum().backward()
        self.optimizer.step()

    def accumulate(self, grown: list[int], gradient: float = 1.0) -> None:
        screen = torch.zeros(self.num, 2)
        screen[grown, 0] = gradient
        self.density.accumulate(screen, torch.ones(self.num, dtype=torch.int32))

    def edit(
        self,
        step: int = 1,
        scale: float | Tensor = SMALL,
        *,
        frozen: Tensor | None = None,
        is_white: bool = False,
    ) -> DensityEdit | None:
        edit = self.density.edit(
            step,
            self.parameters,
            self.extras,
            self.optimizer,
            world_scales=torch.ones(self.num, 2) * scale,
            extent=EXTENT,
            generator=self.generator,
            frozen=frozen,
            is_white=is_white,
        )
        if edit is not None:
            self.parameters, self.extras = edit.parameters, edit.extras
        return edit

    def moments(self) -> dict[str, Tensor]:
        return {n: self.optimizer.state[p]["exp_avg"] for n, p in self.parameters.items()}


def values_of(scene: Scene) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in scene.parameters.items()}


def test_small_primitives_with_a_large_gradient_are_cloned() -> None:
    scene = Scene()
    before = values_of(scene)
    scene.accumulate([2, 5])
    edit = scene.edit()
    assert edit is not None
    assert (edit.num_cloned, edit.num_split, edit.num_pruned) == (2, 0, 0)
    assert scene.extras["face_index"].tolist() == [*range(NUM_FACES), 2, 5]
    for name, value in scene.parameters.items():
        assert torch.equal(value, torch.cat([before[name], before[name][[2, 5]]]))


def test_large_primitives_are_split_into_two_smaller_ones() -> None:
    scene = Scene()
    before = values_of(scene)
    scene.accumulate([2, 5])
    edit = scene.edit(scale=LARGE)
    assert edit is not None
    assert (edit.num_cloned, edit.num_split) == (0, 2)
    kept = [0, 1, 3, 4, 6, 7]
    assert scene.extras["face_index"].tolist() == [*kept, 2, 5, 2, 5]
    for name, value in scene.parameters.items():
        assert torch.equal(value[:6], before[name][kept])
    parents = [2, 5, 2, 5]
    children = {name: value[6:].detach() for name, value in scene.parameters.items()}
    assert_close(children["log_scales"].exp(), before["log_scales"][parents].exp() / 1.6)
    for name in ("quats", "opacity_logits", "sh_dc", "sh_rest"):
        assert torch.equal(children[name], before[name][parents])
    assert not torch.equal(children["local_means"][0], children["local_means"][2])


@pytest.mark.parametrize("unit", ["world", "local"])
def test_children_lie_in_the_parents_plane_with_its_spread(unit: str) -> None:
    config = replace(CONFIG, split_noise=unit)
    scales = torch.tensor([0.3, 0.02])
    scene = Scene(config, num_faces=2000)
    # All parents are turned by 90 degrees about x: tangents are x and z, the normal is -y.
    with torch.no_grad():
        scene.parameters["quats"].copy_(torch.tensor([3.0, 3.0, 0.0, 0.0]).expand(2000, 4))
        scene.parameters["log_scales"].copy_(torch.tensor([2.0, 0.5]).log().expand(2000, 2))
    parents = scene.parameters["local_means"].detach().clone()
    scene.accumulate(list(range(2000)))
    scene.edit(scale=scales)
    offsets = scene.parameters["local_means"].detach() - torch.cat([parents, parents])
    expected = scales if unit == "world" else torch.tensor([2.0, 0.5])
    assert_close(offsets[:, 1], torch.zeros(4000))
    torch.testing.assert_close(offsets[:, [0, 2]].std(dim=0), expected, rtol=0.05, atol=0.0)
    torch.testing.assert_close(offsets.mean(dim=0), torch.zeros(3), rtol=0.0, atol=0.1)


def test_gradient_is_averaged_over_the_images_that_see_a_primitive() -> None:
    scene = Scene(replace(CONFIG, gradient_threshold=0.5))
    gradient = torch.zeros(4, NUM_FACES, 2)
    gradient[0, :, 0], gradient[1, :, 1] = 0.6, 0.6
    radii = torch.zeros(4, NUM_FACES, dtype=torch.int32)
    radii[:2, 0] = 3  # seen twice, mean 0.6
    radii[:3, 1] = 3  # seen three times, mean 0.4
    scene.density.accumulate(gradient[:2], radii[:2])
    scene.density.accumulate(gradient[2], radii[2])
    scene.density.accumulate(gradient[3], radii[3])
    scene.edit()
    assert scene.extras["face_index"].tolist()[NUM_FACES:] == [0]


def test_the_root_of_the_mean_may_be_what_counts() -> None:
    root = Scene(replace(CONFIG, gradient_mean="geometric", gradient_threshold=0.5))
    plain = Scene(replace(CONFIG, gradient_threshold=0.5))
    for scene in (root, plain):
        # Means over two images: 0.26, 0.24 and 0.6, whose roots are 0.51, 0.49 and 0.77.
        for sign in (-1, 1):
            gradient = torch.zeros(NUM_FACES, 2)
            gradient[:3, 0] = torch.tensor([0.26, 0.24, 0.6]) + 0.2 * sign
            scene.density.accumulate(gradient, torch.ones(NUM_FACES))
        scene.edit()
    assert root.extras["face_index"].tolist()[NUM_FACES:] == [0, 2]
    assert plain.extras["face_index"].tolist()[NUM_FACES:] == [2]


def test_amplified_primitives_grow_at_a_smaller_gradient() -> None:
    scene = Scene()
    amplified = torch.zeros(NUM_FACES, dtype=torch.bool)
    amplified[3] = True
    gradient = torch.full((NUM_FACES, 2), 1.5e-5)
    scene.density.accumulate(gradient, torch.ones(NUM_FACES), amplified=amplified)
    scene.edit()
    assert scene.extras["face_index"].tolist()[NUM_FACES:] == [3]


def test_frozen_primitives_do_not_grow() -> None:
    scene = Scene()
    scene.accumulate([2, 5])
    frozen = torch.zeros(NUM_FACES, dtype=torch.bool)
    frozen[2] = True
    scene.edit(frozen=frozen)
    assert scene.extras["face_index"].tolist()[NUM_FACES:] == [5]


def test_faint_primitives_are_pruned_unless_the_face_would_be_empty() -> None:
    scene = Scene()
    scene.accumulate([2, 5])
    scene.edit()
    with torch.no_grad():
        # Original and clone of face 2 fade, of face 5 only the original; face 0 fades too.
        scene.parameters["opacity_logits"][[2, 8, 5, 0]] = logit(0.001)
    edit = scene.edit(2)
    assert edit is not None
    assert edit.num_pruned == 1
    assert sorted(scene.extras["face_index"].tolist()) == sorted([*range(NUM_FACES), 2])


def test_large_primitives_are_pruned_only_after_the_first_reset() -> None:
    config = replace(CONFIG, opacity_reset_interval=10)
    scene = Scene(config)
    scene.accumulate([1])
    scene.edit(1)
    giant = torch.full((scene.num, 1), SMALL)
    giant[1] = 0.2
    scene.edit(5, giant)
    assert scene.num == NUM_FACES + 1
    scene.edit(11, giant)
    assert scene.extras["face_index"].tolist() == [0, 2, 3, 4, 5, 6, 7, 1]


@pytest.mark.parametrize(("limit", "expected"), [(None, NUM_FACES + 1), (20.0, NUM_FACES)])
def test_screen_radius_prunes_only_where_a_limit_is_set(limit: float | None, expected: int) -> None:
    scene = Scene(replace(CONFIG, opacity_reset_interval=10, prune_screen_radius=limit))
    scene.accumulate([1])
    scene.edit(1)
    radii = torch.ones(scene.num)
    radii[1] = 21.0
    scene.density.accumulate(torch.zeros(scene.num, 2), radii)
    scene.edit(11)
    assert scene.num == expected


def test_limit_lets_the_largest_gradients_grow() -> None:
    scene = Scene(replace(CONFIG, max_primitives=NUM_FACES + 2))
    gradient = torch.arange(NUM_FACES).float()[:, None].expand(-1, 2) * torch.tensor([1.0, 0.0])
    scene.density.accumulate(gradient, torch.ones(NUM_FACES))
    scene.edit()
    assert sorted(scene.extras["face_index"].tolist()[NUM_FACES:]) == [6, 7]
    scene.accumulate([0, 1])
    scene.edit(2)
    assert scene.num == NUM_FACES + 2


def test_opacity_reset_caps_opacities_and_clears_only_their_moments() -> None:
    scene = Scene(replace(CONFIG, interval=500, opacity_reset_interval=7))
    with torch.no_grad():
        scene.parameters["opacity_logits"][0] = logit(0.002)
    moments = {name: value.clone() for name, value in scene.moments().items()}
    assert scene.edit(6) is None
    assert scene.edit(7) is not None
    opacities = scene.parameters["opacity_logits"].detach().sigmoid()
    assert_close(opacities, torch.tensor([0.002] + [0.01] * 7))
    for name, value in scene.moments().items():
        expected = torch.zeros_like(value) if name == "opacity_logits" else moments[name]
        assert torch.equal(value, expected)


def test_white_background_resets_once_more_at_the_start() -> None:
    density = AdaptiveDensity(replace(CONFIG, start_step=30, opacity_reset_interval=100), 1)
    white = [s for s in range(1, 250) if density.resets_at(s, is_white=True)]
    other = [s for s in range(1, 250) if density.resets_at(s, is_white=False)]
    assert (white, other) == ([30, 100, 200], [100, 200])


def test_edits_happen_between_start_and_stop_at_the_interval() -> None:
    density = AdaptiveDensity(replace(CONFIG, start_step=20, stop_step=60, interval=10), 1)
    assert [step for step in range(100) if density.grows_at(step)] == [30, 40, 50]
    assert density.is_active(59)
    assert not density.is_active(60)


def test_moments_follow_their_rows_and_other_groups_stay() -> None:
    scene = Scene()
    before = {name: value.clone() for name, value in scene.moments().items()}
    other = scene.optimizer.state[scene.other]["exp_avg"].clone()
    world_scales = torch.full((NUM_FACES, 1), SMALL)
    world_scales[5] = LARGE
    scene.accumulate([2, 5])
    scene.edit(scale=world_scales)
    for name, value in scene.moments().items():
        assert torch.equal(value[:7], before[name][[0, 1, 2, 3, 4, 6, 7]])
        assert (value[7:] == 0).all()
        assert value.shape == scene.parameters[name].shape
    assert torch.equal(scene.optimizer.state[scene.other]["exp_avg"], other)
    assert {g["name"]: g["params"][0] for g in scene.optimizer.param_groups} == {
        **scene.parameters,
        "rig.jaw": scene.other,
    }
    scene.train()


def run(scene: Scene, steps: range) -> None:
    """Random life of a scene; each step's randomness depends on the step only."""
    for step in steps:
        scene.generator = torch.Generator().manual_seed(step)
        gradient = torch.rand(scene.num, 2, generator=scene.generator) * 4e-4
        scene.density.accumulate(gradient, torch.rand(scene.num, generator=scene.generator) * 30)
        scales = torch.rand(scene.num, 2, generator=scene.generator) * 0.15
        with torch.no_grad():
            logits = torch.randn(scene.num, generator=scene.generator) - 3.0
            scene.parameters["opacity_logits"].copy_(logits)
        scene.train()
        scene.edit(step, scales)
        counts = torch.bincount(scene.extras["face_index"], minlength=NUM_FACES)
        assert (counts >= 1).all()
        assert counts.sum() == scene.num
        assert all(p.shape[0] == scene.num for p in scene.parameters.values())


def test_shortened_schedules_still_see_enough_images_between_edits():
    config = DensifyConfig(start_step=5000, stop_step=150_000, interval=1000)
    scaled = config.scaled(0.01)
    assert (scaled.start_step, scaled.stop_step, scaled.interval) == (50, 1500, 100)
    assert scaled.opacity_reset_interval == 300
    assert config.scaled(0.5).interval == 500
    assert replace(config, interval=20).scaled(0.01).interval == 20
    assert replace(config, interval=20).scaled(2.0).interval == 40


LIFE = DensifyConfig(
    start_step=0,
    stop_step=40,
    interval=3,
    opacity_reset_interval=10,
    prune_screen_radius=20.0,
    max_primitives=60,
)


def test_every_face_keeps_a_primitive_through_a_random_life() -> None:
    scene = Scene(LIFE)
    run(scene, range(1, 40))
    assert scene.num != NUM_FACES


def test_resumed_life_equals_the_uninterrupted_one() -> None:
    whole = Scene(LIFE)
    run(whole, range(1, 30))
    first = Scene(LIFE)
    run(first, range(1, 17))
    resumed = Scene(LIFE, seed=99)
    resumed.parameters = {n: Parameter(p.detach().clone()) for n, p in first.parameters.items()}
    resumed.other = Parameter(first.other.detach().clone())
    trained = {**resumed.parameters, "rig.jaw": resumed.other}
    resumed.optimizer = build_adam(trained, dict.fromkeys(trained, 0.01))
    resumed.optimizer.load_state_dict(first.optimizer.state_dict())
    resumed.extras = dict(first.extras)
    resumed.density.load_tensors(first.density.tensors())
    run(resumed, range(17, 30))
    for name, value in whole.parameters.items():
        assert torch.equal(value, resumed.parameters[name])
    for name, value in whole.density.tensors().items():
        assert torch.equal(value, resumed.density.tensors()[name])


def test_protection_is_per_face() -> None:
    face_index = torch.tensor([4, 4, 0, 0, 2])
    prune = torch.tensor([True, True, True, False, True])
    assert protect_faces(prune, face_index).tolist() == [False, False, True, False, False]
    nothing = torch.zeros(0, dtype=torch.bool)
    assert protect_faces(nothing, torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_inputs_that_do_not_fit_are_named() -> None:
    scene = Scene()
    extras = scene.extras
    scene.extras = {"face_index": extras["face_index"][:3]}
    with pytest.raises(ValueError, match="face_index must have 8 rows, got 3"):
        scene.density.edit(
            1, scene.parameters, scene.extras, scene.optimizer,
            world_scales=torch.ones(8, 2), extent=1.0, generator=scene.generator,
        )  # fmt: skip
    scene.extras = extras
    del scene.parameters["quats"]
    with pytest.raises(ValueError, match="density control needs 'quats'"):
        scene.edit()
    with pytest.raises(ValueError, match="density statistics lack 'count'"):
        scene.density.load_tensors({"gradient": torch.zeros(8), "radius": torch.zeros(8)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interval": 0}, "interval and opacity_reset_interval must be at least 1"),
        ({"start_step": 10, "stop_step": 5}, "stop_step must not be before start_step, got 5"),
        ({"max_primitives": 0}, "max_primitives must be positive, got 0"),
    ],
)
def test_contradicting_settings_are_rejected(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)
