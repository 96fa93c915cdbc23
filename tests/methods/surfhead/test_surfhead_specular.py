"""Avatars with specular eyeballs and rotated colours, from the first step to a picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tiny_captures import film_procedural_head, tiny_surfhead
from training_checks import assert_reloads_exactly, assert_resumes_exactly, trained
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence
from vultus.methods.surfhead.config import PRESETS, SurfHeadConfig
from vultus.methods.surfhead.model import SurfHead
from vultus.methods.surfhead.specular import LobeType, SpecularConfig

pytestmark = pytest.mark.usefixtures("one_thread")

START = 3


@pytest.fixture(scope="module")
def procedural(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_procedural_head(tmp_path_factory.mktemp("specular") / "capture")


def config_with(lobes: LobeType, steps: int = 6, **specular: object) -> SurfHeadConfig:
    specular_config = SpecularConfig(lobes=lobes, start_step=START, **specular)  # type: ignore[arg-type]
    return replace(tiny_surfhead("jbs", steps), specular=specular_config)


@pytest.mark.parametrize("lobes", ["sg", "asg", "lasg"])
def test_eyes_shine_from_the_given_step_on_and_nothing_else_does(procedural, lobes):
    avatar = SurfHead(config_with(lobes), procedural, 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        avatar.surfels["specular_features"].normal_(generator=generator)
        avatar.surfels["opacity_logits"].fill_(3.0)
    record = procedural.split("train")[0]
    pose = avatar.track[record.timestep]
    dull, shiny = (avatar.render(pose, record.camera, step).image for step in (START - 1, START))
    changed = (dull != shiny).any(dim=1)[0]
    assert 0 < int(changed.sum()) < 0.2 * changed.numel()
    if lobes == "lasg":  # white light
        difference = shiny - dull
        torch.testing.assert_close(difference[:, 0], difference[:, 2], atol=1e-6, rtol=0)


@pytest.mark.parametrize("lobes", ["sg", "asg", "lasg"])
def test_the_network_and_its_features_learn_once_they_are_used(procedural, lobes, tmp_path):
    config = config_with(lobes)
    before = SurfHead(config, procedural, 0).tensors()
    after = trained(SurfHead, procedural, config, tmp_path).tensors()
    names = [n for n in before if n.startswith("specular.") or n == "specular_features"]
    assert len(names) == 9
    changed = {n for n in names if not torch.equal(before[n], after[n])}
    # Amplitudes are not used by sg; the first layer of lobes sees zero features at first.
    assert {"specular_features", "specular.lobe_layer.bias", "specular.mlp.4.weight"} <= changed


def test_a_resumed_avatar_with_specular_eyes_gives_every_bit(procedural, tmp_path):
    config = replace(config_with("asg", steps=8), evaluate_every=7)
    assert_resumes_exactly(SurfHead, procedural, config, tmp_path)
    assert_reloads_exactly(SurfHead, procedural, config, tmp_path / "read")


def test_a_checkpoint_without_a_network_is_refused(procedural):
    dull = SurfHead(tiny_surfhead("jbs"), procedural, 0)
    shiny = SurfHead(config_with("asg"), procedural, 0)
    with pytest.raises(ValueError, match="checkpoint lacks 'specular_features'"):
        shiny.load_tensors(dull.tensors())
    with pytest.raises(ValueError, match=r"specular\.lobe_layer.* trained with other lobes"):
        shiny.load_tensors(SurfHead(config_with("lasg"), procedural, 0).tensors())


def test_rotated_colours_follow_a_turned_head(procedural):
    """Head and camera turn together: the picture stays, which colours of the world do not."""
    from vultus.geometry.rotations import axis_angle_to_matrix

    pictures = {}
    for is_rotated in (True, False):
        config = tiny_surfhead("jbs")
        model = replace(config.model, sh_degree=3, rotate_sh_directions=is_rotated)
        avatar = SurfHead(replace(config, model=model), procedural, 0)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            avatar.surfels["sh_rest"].normal_(std=0.3, generator=generator)
            avatar.surfels["opacity_logits"].fill_(3.0)
        record = procedural.split("train")[0]
        pose = avatar.track[0].replace(global_rotation=torch.zeros(1, 3))
        turn = torch.tensor([[0.0, 0.7, 0.0]])
        turned = pose.replace(global_rotation=turn)
        rigid = torch.eye(4)[None].clone()
        rest, moved = (procedural.head.vertices(each)[0] for each in (pose, turned))
        rigid[:, :3, :3] = axis_angle_to_matrix(turn)
        # The head turns about a joint: find where that leaves the origin.
        rigid[:, :3, 3] = (moved - rest @ rigid[0, :3, :3].T).mean(dim=0)
        camera = replace(
            record.camera,
            world_to_camera=record.camera.world_to_camera @ torch.linalg.inv(rigid),
        )
        still, followed = avatar.render(pose, record.camera), avatar.render(turned, camera)
        pictures[is_rotated] = float((still.image - followed.image).abs().mean())
    assert pictures[True] < 0.1 * pictures[False]


@pytest.mark.parametrize("name", ["metric_xyz", "metric_scale"])
def test_limits_in_metres_differ_from_limits_in_triangle_sizes(procedural, name):
    terms = {}
    for is_metric in (False, True):
        config = tiny_surfhead("jbs")
        losses = replace(
            config.losses, **{name: is_metric}, xyz_threshold=1e-4, scale_threshold=1e-4
        )
        avatar = SurfHead(replace(config, losses=losses), procedural, 0)
        with torch.no_grad():
            avatar.surfels["local_means"].fill_(0.5)
        batch = FrameStore(procedural, "train").batch([0])
        terms[is_metric] = avatar.training_step(batch, 1)[1][name[7:]].detach()
    # Triangles of the head are millimetres large.
    assert 0 < float(terms[True]) < 0.1 * float(terms[False])


def test_weights_by_distance_take_the_place_of_learned_ones(procedural, tmp_path):
    config = tiny_surfhead("jbs", steps=4)
    config = replace(config, model=replace(config.model, blend="distance"))
    avatar = trained(SurfHead, procedural, config, tmp_path)
    assert "blend_weight_logits" not in avatar.surfels
    learned = SurfHead(tiny_surfhead("jbs"), procedural, 0)
    record = procedural.split("train")[1]
    pictures = [a.render(a.track[1], record.camera).image for a in (avatar, learned)]
    assert not torch.equal(*pictures)
    rest = avatar._rig.rest
    weights = rest.blend_by_distance(avatar._face_index, avatar.surfels["local_means"].detach())
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights)))
    # The nearest face, its own, never has the smallest share.
    assert bool((weights[:, 0] >= weights[:, 1:].amin(dim=1)).all())


def test_smooth_depth_is_a_term_on_demand(procedural):
    config = tiny_surfhead("jbs")
    batch = FrameStore(procedural, "train").batch([0])
    terms = {}
    for weight in (0.0, 2.0, 4.0):
        losses = replace(config.losses, depth_smoothness_weight=weight)
        avatar = SurfHead(replace(config, losses=losses), procedural, 0)
        terms[weight] = avatar.training_step(batch, 1)[1]
    assert "depth_smoothness" not in terms[0.0]
    half, whole = (terms[weight]["depth_smoothness"].detach() for weight in (2.0, 4.0))
    assert float(half) > 0
    torch.testing.assert_close(whole, 2 * half)


def test_the_series_of_ablations_adds_one_thing_at_a_time():
    series = [
        PRESETS[name] for name in ("vanilla", "vanilla-jacobian", "vanilla-jacobian-jbs", "paper")
    ]
    assert [c.model.rig for c in series] == ["similarity", "jacobian", "jbs", "jbs"]
    assert [c.specular.lobes for c in series] == ["asg", "asg", "asg", "lasg"]
    assert [c.losses.normal_norm_weight for c in series] == [0.0, 0.01, 0.01, 0.01]
    without_eyes = PRESETS["vanilla-jacobian-jbs-no-eyes"]
    assert without_eyes.specular.lobes == "none"
    assert not without_eyes.model.detach_eyeball_geometry
    assert without_eyes.losses.eye_alpha_weight == 0
