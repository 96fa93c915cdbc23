"""Materials are learned: pictures improve, nothing is left out, state comes back, light changes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tiny_captures import film_procedural_head
from tolerances import assert_close
from training_checks import (
    assert_gradients_reach_everything,
    assert_reloads_exactly,
    assert_resumes_exactly,
    picture_error,
    trained,
)
from vultus.data.frame_store import FrameStore
from vultus.data.relighting import distant_light
from vultus.data.sequence import HeadSequence
from vultus.gaussians.densify import DensifyConfig
from vultus.methods.relightable_blendshapes.config import (
    PRESETS,
    RelightableBlendshapesConfig,
    scale_schedule,
)
from vultus.methods.relightable_blendshapes.material_appearance import MaterialAppearance
from vultus.methods.relightable_blendshapes.material_config import VisibilityMode
from vultus.methods.relightable_blendshapes.material_layers import LAYERS
from vultus.methods.relightable_blendshapes.material_relighting import (
    Relighter,
    Surroundings,
    material_appearance,
)
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.render.lighting.envmap import EnvironmentMap, envmap_directions

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    """Five moments of the built-in head from three cameras; four and two are trained on."""
    return film_procedural_head(tmp_path_factory.mktemp("materials") / "capture")


def tiny(
    visibility: VisibilityMode = "cached", steps: int = 20, **changes: object
) -> RelightableBlendshapesConfig:
    """Few Gaussians and texels; every part of the schedule starts within the steps."""
    toy = PRESETS["toy-pbr"]
    materials = replace(
        toy.materials, visibility=visibility, map_rows=4, light_start=2, specular_start=3,
        shadow_ramp=6, rebind_interval=4,
    )  # fmt: skip
    config = replace(
        toy,
        model=replace(toy.model, num_points=400, num_expressions=3),
        densify=DensifyConfig(start_step=0, stop_step=0),
        materials=materials,
        steps=steps,
        checkpoint_every=5,
        log_every=1,
    )
    return replace(config, **changes)


@pytest.mark.parametrize("visibility", ["cached", "none"])
def test_twenty_steps_bring_the_pictures_closer(capture, visibility, tmp_path) -> None:
    config = tiny(visibility)
    before = picture_error(RelightableBlendshapes(config, capture, 0), capture)
    after = picture_error(trained(RelightableBlendshapes, capture, config, tmp_path), capture)
    assert after < 0.85 * before


def test_gradients_reach_every_trained_parameter(capture) -> None:
    avatar = RelightableBlendshapes(tiny(), capture, 0)
    avatar.set_rates(10)
    _, terms = avatar.training_step(FrameStore(capture, "train").batch([2]), step=10)
    torch.stack(list(terms.values())).sum().backward()
    names = {group["name"] for group in avatar.optimizer.param_groups}
    assert {"albedo", "roughness", "specular", "albedo_deltas", "appearance.light"} < names
    assert_gradients_reach_everything(avatar.optimizer)


def test_light_is_left_alone_until_its_time(capture) -> None:
    avatar = RelightableBlendshapes(tiny(), capture, 0)
    batch = FrameStore(capture, "train").batch([0])
    output, _ = avatar.training_step(batch, step=1)
    output.image.sum().backward()
    light = avatar.appearance.parameters()["light"]
    assert light.grad is None
    assert avatar.phase(1) != avatar.phase(10)


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"light_start": 6}, False),
        ({"light_start": 5}, True),
        ({"light_start": 0, "train_light": False}, False),
    ],
)
def test_every_bit_of_the_light_stays_while_it_is_frozen(
    capture, settings, changes, tmp_path
) -> None:
    config = tiny(steps=6)
    # Light of brightness 1 is what its prior asks for: nothing would pull at it.
    materials = replace(config.materials, initial_light=0.5, **settings)
    config = replace(config, materials=materials)
    start = RelightableBlendshapes(config, capture, 0).appearance.parameters()["light"]
    avatar = trained(RelightableBlendshapes, capture, config, tmp_path)
    light = avatar.appearance.parameters()["light"]
    assert torch.equal(light, start) is not changes


def test_traced_and_kept_visibility_give_the_same_step(capture) -> None:
    batch = FrameStore(capture, "train").batch([3])
    images = []
    for visibility in ("cached", "live"):
        avatar = RelightableBlendshapes(tiny(visibility), capture, 0)
        avatar.set_rates(10)
        images.append(avatar.training_step(batch, step=10)[0].image)
    assert torch.equal(images[0], images[1])


def test_shadows_grow_with_the_steps(capture) -> None:
    avatar = RelightableBlendshapes(tiny("live"), capture, 0)
    open_light = RelightableBlendshapes(tiny("none"), capture, 0)
    batch = FrameStore(capture, "train").batch([0])
    images = []
    for step in (0, 3, 6):
        avatar.set_rates(step)
        images.append(avatar.training_step(batch, step)[0].image.detach())
    assert images[0].mean() > images[1].mean() > images[2].mean()
    assert_close(images[0], open_light.training_step(batch, 0)[0].image)


def test_fixed_materials_do_not_change_with_expressions(capture, tmp_path) -> None:
    changed = {}
    for preset in ("toy-pbr", "toy-pbr-fixed-materials"):
        config = tiny(steps=6)
        rates = PRESETS[preset].materials.rates
        config = replace(config, materials=replace(config.materials, rates=rates))
        avatar = trained(RelightableBlendshapes, capture, config, tmp_path / preset)
        names = [f"{name}_deltas" for name in ("albedo", "roughness", "specular")]
        changed[preset] = [bool(avatar.gaussians[name].any()) for name in names]
        assert avatar.gaussians["means_deltas"].any()
    assert changed == {"toy-pbr": [True] * 3, "toy-pbr-fixed-materials": [False] * 3}


def test_without_priors_only_light_and_pictures_decide(capture) -> None:
    weights = PRESETS["toy-pbr-no-priors"].materials.weights
    config = tiny()
    config = replace(config, materials=replace(config.materials, weights=weights))
    avatar = RelightableBlendshapes(config, capture, 0)
    avatar.set_rates(10)
    _, terms = avatar.training_step(FrameStore(capture, "train").batch([0]), step=10)
    of_pictures = {"l1", "ssim", "alpha"}
    assert terms.keys() == of_pictures | {"white_light", "light_variation", "light_energy"}


def test_a_checkpoint_renders_exactly_the_same_picture(capture, tmp_path) -> None:
    config = tiny(steps=6)
    assert_reloads_exactly(RelightableBlendshapes, capture, config, tmp_path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("light", lambda light: light[:, :2], r"'light' of shape \(3, 4, 8\)"),
        ("bound_faces", lambda faces: faces.float(), r"'bound_faces' .* type torch\.int64"),
        ("bound_faces", lambda faces: faces[:-1], r"'bound_faces' of shape"),
        ("bound_faces", lambda faces: faces + 10**6, r"'bound_faces' of 0 to \d+, got 1\d{6}"),
        ("bound_faces", lambda faces: faces - 10**6, r"'bound_faces' of 0 to \d+, got -"),
        ("barycentrics", lambda weights: weights[:-1], r"'barycentrics' of shape"),
        ("neighbors", lambda pairs: pairs[:, :1], r"'neighbors' of shape \(\d+, 2\)"),
        ("neighbors", lambda pairs: pairs + 10**6, r"'neighbors' of 0 to \d+, got 1\d{6}"),
        ("geometry_digest", lambda digest: digest.float(), "must be the geometry that"),
    ],
)
def test_damaged_checkpoints_are_refused_and_leave_the_avatar_as_it_was(
    avatar, capture, name, damage, message
) -> None:
    other = RelightableBlendshapes(avatar.config, capture, 1)
    before = {key: value.clone() for key, value in other.tensors().items()}
    saved, key = avatar.tensors(), f"appearance.{name}"
    with pytest.raises(ValueError, match=message) as caught:
        other.load_tensors({**saved, key: damage(saved[key])})
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in other.tensors().items())


@pytest.mark.parametrize("binding_gradients", [True, False])
def test_a_resumed_training_gives_every_bit_of_an_uninterrupted_one(
    capture, binding_gradients, tmp_path
) -> None:
    densify = DensifyConfig(start_step=1, stop_step=9, interval=3, gradient_threshold=1e-3)
    config = tiny(steps=10, evaluate_every=7, densify=densify)
    # Looks at steps 3, 6 and 9 by densification: Gaussians have moved since when it is resumed.
    materials = replace(config.materials, binding_gradients=binding_gradients, rebind_interval=100)
    config = replace(config, materials=materials)
    assert_resumes_exactly(RelightableBlendshapes, capture, config, tmp_path)


def test_schedules_of_materials_follow_the_number_of_steps() -> None:
    materials = scale_schedule(PRESETS["insta512-pbr"], 0.1).materials
    assert (materials.light_start, materials.specular_start, materials.shadow_ramp) == (
        50,
        100,
        200,
    )
    assert materials.rates.decay_steps == 4_000
    assert PRESETS["insta512-pbr-no-visibility"].materials.visibility == "none"


@pytest.fixture(scope="module")
def avatar(capture, tmp_path_factory) -> RelightableBlendshapes:
    return trained(
        RelightableBlendshapes, capture, tiny(steps=12), tmp_path_factory.mktemp("avatar")
    )


def lamp(toward: tuple[float, float, float], strength: float = 60.0) -> Surroundings:
    """A lamp, with some light from everywhere."""
    direction = torch.nn.functional.normalize(torch.tensor(toward), dim=0)
    glow = strength * (20.0 * (envmap_directions(32, 64) @ direction - 1.0)).exp() + 0.05
    return Surroundings(EnvironmentMap(glow.expand(3, -1, -1).contiguous()))


def test_light_from_the_left_lights_the_left(avatar, capture) -> None:
    # The middle camera looks at the face: the subject's left is at the right of the picture.
    cameras = [record.camera for record in capture.split("val")]
    relighter = Relighter(avatar)
    halves = []
    for side in (1.0, -1.0):
        surroundings = lamp((side, 0.2, 0.3))
        picture = relighter.picture(avatar.track[0], cameras[0], surroundings, (0.0, 0.0, 0.0))
        halves.append([float(half.mean()) for half in picture.image.chunk(2, dim=2)])
    (left_dark, left_bright), (right_bright, right_dark) = halves
    assert left_bright > 1.3 * left_dark
    assert right_bright > 1.3 * right_dark


def test_turning_the_map_by_a_texel_turns_the_light(avatar, capture) -> None:
    camera = capture.split("val")[0].camera
    surroundings = lamp((0.0, 0.2, 1.0))
    turned = replace(
        surroundings, environment=surroundings.environment.rotated(8 * 2 * math.pi / 64)
    )
    expected = lamp((math.sin(math.pi / 4), 0.2, math.cos(math.pi / 4)))
    relighter = Relighter(avatar)
    pictures = [
        relighter.picture(avatar.track[0], camera, each, (0.0, 0.0, 0.0)).image
        for each in (surroundings, turned, expected)
    ]
    assert (pictures[1] - pictures[0]).abs().max() > 0.1
    torch.testing.assert_close(pictures[1], pictures[2], atol=0.02, rtol=0.0)


@pytest.mark.parametrize("lobe", [0.0, 0.3])
def test_a_turn_of_the_reduced_map_is_one_of_the_whole_map(lobe) -> None:
    source = EnvironmentMap(torch.rand(3, 24, 48, generator=torch.Generator().manual_seed(0)))
    for columns in (6.0, 7.3):
        angle = columns * 2 * math.pi / 48
        turned = Surroundings(source, lobe=lobe, turn=angle)
        whole = Surroundings(source.rotated(angle), lobe=lobe)
        if lobe and columns % 1:
            # Linear between columns before the blur or after it.
            torch.testing.assert_close(turned.radiance(4), whole.radiance(4), atol=5e-3, rtol=0.0)
        else:
            assert_close(turned.radiance(4), whole.radiance(4), looser=10.0, reason="order of sums")


def test_light_of_the_head_turns_along_with_it(avatar, capture) -> None:
    """Head, camera and light turned alike give the picture of before."""
    camera, pose = capture.split("val")[0].camera, avatar.track[0]
    still = pose.replace(global_rotation=None, neck_pose=None, translation=None)
    turned = still.replace(global_rotation=torch.tensor([[0.2, 0.7, -0.1]]))
    motion = torch.eye(4)
    motion[:3] = capture.head.joint_motion(turned).transforms[0, 0]
    moved = replace(camera, world_to_camera=camera.world_to_camera @ torch.linalg.inv(motion))
    light = lamp((0.8, 0.3, 0.4))
    relighter = Relighter(avatar)
    expected = relighter.picture(still, camera, light)
    found = relighter.picture(turned, moved, replace(light, space="head"))
    torch.testing.assert_close(found.image, expected.image, atol=2e-3, rtol=0.0)
    in_the_world = relighter.picture(turned, moved, light)
    assert (in_the_world.image - expected.image).abs().mean() > 0.01


def test_what_stands_behind_the_head_turns_with_the_light(avatar, capture) -> None:
    camera = capture.split("val")[0].camera
    surroundings = lamp((0.3, 0.1, -1.0))
    angle = 5 * 2 * math.pi / 64
    relighter = Relighter(avatar)
    turned, expected = (
        relighter.picture(avatar.track[0], camera, each).image
        for each in (
            replace(surroundings, turn=angle),
            replace(surroundings, environment=surroundings.environment.rotated(angle)),
        )
    )
    torch.testing.assert_close(turned, expected, atol=1e-4, rtol=0.0)


def test_a_film_reduces_its_map_once(avatar, capture, monkeypatch) -> None:
    camera, calls = capture.split("val")[0].camera, []
    bands = Surroundings.bands

    def counted(self, rows):
        calls.append(self.turn)
        return bands(self, rows)

    monkeypatch.setattr(Surroundings, "bands", counted)
    relighter, surroundings = Relighter(avatar), lamp((0.0, 0.2, 1.0))
    for turn in (0.0, 0.5, 1.0):
        relighter.picture(avatar.track[0], camera, replace(surroundings, turn=turn))
    assert calls == [0.0]
    relighter.picture(avatar.track[0], camera, replace(surroundings, lobe=0.2))
    relighter.picture(avatar.track[0], camera, lamp((1.0, 0.2, 0.0)))
    assert len(calls) == 3


@pytest.mark.parametrize("lobe", [-0.1, math.inf, math.nan])
def test_lobes_that_blur_to_nothing_are_refused(lobe) -> None:
    with pytest.raises(ValueError, match="lobe must be 0 or more and finite"):
        Surroundings(EnvironmentMap.constant((1.0, 1.0, 1.0)), lobe=lobe)


def test_the_trained_light_gives_what_the_avatar_renders(avatar, capture) -> None:
    camera = capture.split("val")[0].camera
    picture = Relighter(avatar).picture(avatar.track[1], camera, None, capture.background)
    assert_close(picture.image, avatar.render(avatar.track[1], camera).image[0].clamp(0, 1))


def test_maps_of_another_size_light_the_same_avatar(avatar, capture) -> None:
    camera, pose = capture.split("val")[0].camera, avatar.track[0]
    trained = Relighter(avatar).picture(pose, camera, None, (0.0, 0.0, 0.0))
    same = Relighter(avatar, 4).picture(pose, camera, None, (0.0, 0.0, 0.0))
    finer = Relighter(avatar, 8).picture(pose, camera, None, (0.0, 0.0, 0.0))
    assert_close(same.image, trained.image)
    # Four texels of one radiance for each: sums become integrals, and shadows have finer edges.
    assert 0 < (finer.image - trained.image).abs().mean() < 0.02
    appearance = material_appearance(avatar)
    assert (appearance.config.map_rows, appearance.radiance.shape) == (4, (3, 4, 8))


def test_more_rows_tell_where_in_a_texel_a_lamp_stands(avatar, capture) -> None:
    camera, pose = capture.split("val")[0].camera, avatar.track[0]
    # Texels of four rows span 45 degrees; both lamps are in the one to the left of the middle.
    toward = [torch.tensor([math.sin(angle), 0.2, math.cos(angle)]) for angle in (0.15, 0.6)]
    lamps = [Surroundings(distant_light(each, torch.ones(3), 32)) for each in toward]
    changes = []
    for rows in (4, 16):
        relighter = Relighter(avatar, rows)
        first, second = (
            relighter.picture(pose, camera, each, (0.0, 0.0, 0.0)).radiance for each in lamps
        )
        changes.append(float((first - second).abs().mean() / first.mean()))
    assert changes[0] < 1e-4
    assert changes[1] > 0.05


def test_fewer_faces_hide_about_the_same_light(avatar, capture) -> None:
    camera, pose, light = capture.split("val")[0].camera, avatar.track[0], lamp((0.3, 1.0, 0.1))
    whole, same, coarse = (
        Relighter(avatar, occluder_faces=faces).picture(pose, camera, light, (0.0, 0.0, 0.0)).image
        for faces in (None, 1_000_000, 14_000)
    )
    torch.testing.assert_close(same, whole, atol=1e-3, rtol=0.0)
    difference = (coarse - whole).abs().mean()
    assert 0 < difference < 0.01
    again = Relighter(avatar).picture(pose, camera, light, (0.0, 0.0, 0.0)).image
    assert torch.equal(again, whole)


def test_avatars_without_shadows_have_no_faces_that_hide_light(capture) -> None:
    unshadowed = RelightableBlendshapes(tiny("none"), capture, 0)
    with pytest.raises(ValueError, match="avatars that cast shadows, this one has none"):
        Relighter(unshadowed, occluder_faces=14_000)


def test_surroundings_stand_behind_the_head(avatar, capture) -> None:
    camera = capture.split("val")[0].camera
    environment = EnvironmentMap.constant((0.2, 0.5, 0.8))
    picture = Relighter(avatar).picture(avatar.track[0], camera, Surroundings(environment))
    empty = picture.alpha[0] == 0
    assert bool(empty.any())
    colors = picture.image[:, empty]
    assert_close(colors, colors[:, :1].expand_as(colors))
    assert colors[0, 0] < colors[1, 0] < colors[2, 0]


def test_layers_show_what_the_avatar_is_made_of(avatar, capture) -> None:
    camera = capture.split("val")[0].camera
    picture = Relighter(avatar).picture(avatar.track[0], camera, None, (0.0, 0.0, 0.0), LAYERS)
    assert set(picture.layers) == set(LAYERS)
    inside = picture.alpha[0] > 0.99
    normals = picture.layers["normals"].norm(dim=0)[inside]
    assert 0.6 < normals.mean() <= 1.01
    least = material_appearance(avatar).config.min_roughness
    assert picture.layers["roughness"][0, inside].min() > 0.9 * least
    for name in ("albedo", "specular", "visibility"):
        values = picture.layers[name][:, inside]
        # Of 4 x 8 texels: a white surface sends a few percent too much back.
        assert 0 <= values.min() < values.max() <= 1.08, name
    for name in LAYERS:
        assert picture.shown(name).shape == picture.image.shape
    blended, posed = avatar.posed_gaussians(avatar.track[0])
    colors = avatar.appearance.splat_colors(blended, posed, avatar.track[0])
    assert colors.shape == (1, avatar.num_gaussians, 1, 3)
    assert avatar.splats(None).sh_dc.isfinite().all()


def test_avatars_without_materials_cannot_be_relit(capture) -> None:
    toy = PRESETS["toy"]
    plain = RelightableBlendshapes(
        replace(toy, model=replace(toy.model, num_points=200, num_expressions=1)), capture, 0
    )
    with pytest.raises(ValueError, match="have materials"):
        Relighter(plain)
    assert not isinstance(plain.appearance, MaterialAppearance)
