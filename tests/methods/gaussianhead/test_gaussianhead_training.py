"""Every mode learns: the picture improves, nothing is left out, seeds decide, state comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny_gaussianhead import MODES
from tiny_gaussianhead import tiny_gaussianhead as tiny
from training_checks import (
    assert_equal_tensors,
    assert_gradients_reach_everything,
    assert_reloads_exactly,
    assert_resumes_exactly,
    picture_error,
    trained,
)
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence
from vultus.gaussians.densify import DensifyConfig
from vultus.geometry.cameras import Camera
from vultus.methods.gaussianhead.config import PRESETS, GaussianHeadConfig, scale_schedule
from vultus.methods.gaussianhead.derivation import DerivationMode
from vultus.methods.gaussianhead.model import GaussianHead


def without_growth(config: GaussianHeadConfig) -> GaussianHeadConfig:
    """Resets of the opacity make a short training worse for a while."""
    return replace(config, densify=DensifyConfig(start_step=0, stop_step=0))


@pytest.mark.parametrize("mode", MODES)
def test_thirty_steps_bring_the_pictures_closer(
    sequence: HeadSequence, mode: DerivationMode, tmp_path: Path
) -> None:
    config = without_growth(tiny(mode, steps=30))
    before = picture_error(GaussianHead(config, sequence, 0), sequence)
    after = picture_error(trained(GaussianHead, sequence, config, tmp_path), sequence)
    assert after < 0.6 * before


@pytest.mark.parametrize("drives_with_view", [False, True])
def test_the_view_moves_gaussians_only_where_it_drives_them(
    sequence: HeadSequence, drives_with_view: bool
) -> None:
    config = tiny()
    config = replace(config, model=replace(config.model, drives_with_view=drives_with_view))
    avatar = GaussianHead(config, sequence, 0)
    cameras = Camera.stack([record.camera for record in sequence.split("train")])
    angles = (cameras.world_to_camera - cameras.world_to_camera[0]).square().sum(dim=(1, 2))
    other = cameras[int(angles.argmax())]
    pose = avatar.track[0]
    left, right = (avatar.posed_gaussians(pose, camera) for camera in (cameras[0], other))
    assert torch.equal(left.means, right.means) != drives_with_view
    assert not torch.equal(left.sh_coeffs, right.sh_coeffs)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_every_trained_parameter(
    sequence: HeadSequence, mode: DerivationMode
) -> None:
    avatar = GaussianHead(tiny(mode), sequence, 0)
    _, terms = avatar.training_step(FrameStore(sequence, "train").batch([0]), step=20)
    torch.stack(list(terms.values())).sum().backward()
    names = {group["name"] for group in avatar.optimizer.param_groups}
    assert {"means", "log_scales", "quats", "motion.mean_head.weight"} < names
    assert ("derivation" in names) == (mode != "none")
    assert ("opacity_offsets" in names) == (mode != "official")
    assert_gradients_reach_everything(avatar.optimizer)


def test_the_motion_network_rests_during_the_warm_up(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = without_growth(tiny(steps=6))
    config = replace(config, model=replace(config.model, warm_up=7))
    start = GaussianHead(config, sequence, 0).tensors()
    end = trained(GaussianHead, sequence, config, tmp_path).tensors()
    for name, value in start.items():
        assert torch.equal(value, end[name]) == (not _is_trained(name)), name


def _is_trained(name: str) -> bool:
    return not name.startswith(("motion.", "density.", "opacities"))


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_renders_exactly_the_same_picture(
    sequence: HeadSequence, mode: DerivationMode, tmp_path: Path
) -> None:
    config = tiny(mode, steps=6)
    assert_reloads_exactly(GaussianHead, sequence, config, tmp_path)


def test_a_seed_decides_every_bit_and_another_seed_gives_another_avatar(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = tiny(steps=9)
    first, again, other = (
        trained(GaussianHead, sequence, config, tmp_path / str(i), seed)
        for i, seed in enumerate((3, 3, 4))
    )
    assert_equal_tensors(first.tensors(), again.tensors())
    name = "motion.layers.0.weight"
    assert not torch.equal(first.tensors()[name], other.tensors()[name])


def test_a_resumed_training_gives_every_bit_of_an_uninterrupted_one(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = tiny(steps=14, evaluate_every=7)
    log = assert_resumes_exactly(GaussianHead, sequence, config, tmp_path)
    assert [line["step"] for line in log] == list(range(1, 15))
    assert len({line["gaussians"] for line in log}) > 1, "no Gaussian was added or removed"


def test_quaternions_stay_on_their_spheres_through_growth(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    avatar = trained(GaussianHead, sequence, tiny(steps=14), tmp_path)
    quaternions = avatar.gaussians["derivation"].detach()
    start = GaussianHead(tiny(), sequence, 0).gaussians["derivation"][:1]
    assert not torch.allclose(quaternions, start, atol=1e-4), "they never turned"
    assert (quaternions.norm(dim=-1) - 1).abs().max() < 1e-6
    moment = avatar.optimizer.state[avatar.gaussians["derivation"]]["exp_avg"]
    assert moment.shape == quaternions.shape
    assert (moment * quaternions).sum(dim=-1).abs().max() < 1e-6, "moments must be tangent"


def test_a_reset_makes_every_gaussian_faint_and_training_brings_them_back(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    reset = DensifyConfig(start_step=0, stop_step=20, interval=100, opacity_reset_interval=12)
    config = tiny(steps=11, densify=reset)
    config = replace(config, optim=replace(config.optim, opacity_offset_lr=0.5))
    avatar = trained(GaussianHead, sequence, config, tmp_path)
    batch = FrameStore(sequence, "train").batch([0])
    assert avatar._drawn_opacities.max() > 0.1
    assert avatar.edits_at(12)
    avatar.edit(12)
    avatar.training_step(batch, 12)
    # Gaussians may be more opaque at moments that no step since the last edit has seen.
    assert avatar._drawn_opacities.max() < 3 * reset.reset_opacity
    for step in range(13, 25):
        avatar.optimizer.zero_grad(set_to_none=True)
        _, terms = avatar.training_step(batch, step)
        torch.stack(list(terms.values())).sum().backward()
        avatar.optimizer.step()
    avatar.training_step(batch, 25)
    assert avatar._drawn_opacities.max() > 5 * reset.reset_opacity


def test_a_checkpoint_of_another_mode_is_refused(sequence: HeadSequence) -> None:
    tensors = GaussianHead(tiny("none"), sequence, 0).tensors()
    with pytest.raises(ValueError, match="checkpoint lacks 'derivation'"):
        GaussianHead(tiny("paper"), sequence, 0).load_tensors(tensors)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_scaled_schedule_keeps_its_proportions(preset: str) -> None:
    config = PRESETS[preset]
    tenth = scale_schedule(config, 0.1)
    assert tenth.steps == config.steps // 10
    assert tenth.model.warm_up == config.model.warm_up // 10
    assert tenth.optim.motion_lr_steps == config.optim.motion_lr_steps // 10
    assert tenth.densify.stop_step == config.densify.stop_step // 10
    assert tenth.checkpoint_every == config.checkpoint_every
