"""Blendshapes learn: the picture improves, nothing is left out, seeds decide, state comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tiny_blendshapes import tiny_blendshapes
from tiny_captures import film_fake_head, film_procedural_head
from training_checks import (
    assert_equal_tensors,
    assert_gradients_reach_everything,
    assert_reloads_exactly,
    assert_resumes_exactly,
    picture_error,
    trained,
)
from vultus.core.seeding import torch_generator
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence
from vultus.gaussians.densify import DensifyConfig
from vultus.geometry.mesh_sampling import interpolate_on_faces
from vultus.heads.base import HeadPose
from vultus.heads.ict import IctHead
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.methods.base import ReconstructionMethod
from vultus.methods.relightable_blendshapes import model
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.mouth import (
    PUBLISHED_OFFSET,
    cylinder_distance,
    mouth_cylinder,
)
from vultus.methods.relightable_blendshapes.rig_motion import RigMotion, shape_subject
from vultus.methods.relightable_blendshapes.start import (
    FACE,
    LOWER_TEETH,
    find_teeth_offset,
    place_points,
)
from vultus.nets.perceptual import LpipsNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

STILL = DensifyConfig(start_step=0, stop_step=0)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    """The built-in head, whose jaw and eyes turn by expression."""
    return film_procedural_head(tmp_path_factory.mktemp("blendshapes") / "capture")


def test_twenty_steps_bring_the_pictures_closer(sequence: HeadSequence, tmp_path: Path) -> None:
    config = tiny_blendshapes(densify=STILL)
    before = picture_error(RelightableBlendshapes(config, sequence, 0), sequence)
    after = picture_error(trained(RelightableBlendshapes, sequence, config, tmp_path), sequence)
    assert after < 0.7 * before


def test_gradients_reach_every_trained_parameter(sequence: HeadSequence) -> None:
    config = tiny_blendshapes()
    avatar = RelightableBlendshapes(config, sequence, 0)
    assert isinstance(avatar, ReconstructionMethod)
    names = {group["name"] for group in avatar.optimizer.param_groups}
    neutral = {"means", "quats", "log_scales", "opacity_logits", "sh_dc", "sh_rest"}
    assert names == neutral | {f"{name}_deltas" for name in neutral}
    # Round Gaussians do not know how they are turned.
    with torch.no_grad():
        avatar.gaussians["log_scales"][:, 0] -= 1.0
    for index in range(4):
        batch = FrameStore(sequence, "train").batch([index])
        _, terms = avatar.training_step(batch, step=10)
        torch.stack(list(terms.values())).sum().backward()
    assert set(terms) == {"l1", "ssim", "alpha", "teeth"}
    assert_gradients_reach_everything(avatar.optimizer)
    for name, parameter in avatar.gaussians.items():
        if name.endswith("_deltas"):
            # Strips have no blendshapes.
            assert float(parameter.grad[avatar.part != FACE].abs().max()) == 0, name


def distances_to_mesh(sequence: HeadSequence, poses: HeadPose) -> Tensor:
    """Of untrained Gaussians to where the posed mesh has their starting points, metres."""
    config, head = tiny_blendshapes(), sequence.head
    avatar = RelightableBlendshapes(config, sequence, 0)
    rig = RigMotion(head, sequence.pose, None)
    meshes = shape_subject(rig.head, sequence.pose, None)
    generator = torch_generator(0, "relightable_blendshapes.init")
    start = place_points(rig.head, meshes, config.model, PUBLISHED_OFFSET, generator)
    surface, faces = start.surface, head.topology.faces
    with torch.no_grad():
        vertices, (_, posed) = head.vertices(poses), avatar.posed_gaussians(poses)
    expected = interpolate_on_faces(vertices, faces, surface.face_index, surface.barycentrics)
    return (posed.means[:, : expected.shape[1]] - expected).norm(dim=-1)


def test_untrained_points_follow_the_mesh_through_every_pose(sequence: HeadSequence) -> None:
    """What the blendshapes start with is the rig itself, joints included."""
    names, poses = sequence.head.expression_names, sequence.pose
    assert poses.expression_coeffs is not None
    expression = poses.expression_coeffs.clone()
    # Lids do not close along straight lines, which blendshapes cannot follow.
    expression[:, [names.index(f"eyeBlink{side}") for side in ("Left", "Right")]] = 0.0
    distances = distances_to_mesh(sequence, poses.replace(expression_coeffs=expression))
    assert float(distances.median()) < 1e-6
    # Weights of joints are interpolated, skinned vertices are too: not the same in the lips.
    assert float(distances.quantile(0.98)) < 5e-4


def test_points_follow_another_head_just_as_well(data_dir: Path) -> None:
    head = IctHead.from_file(data_dir / "ict_face" / "ict_face_light.npz")
    sizes = {spec.name: spec.size for spec in head.parameters_spec}
    generator = torch.Generator().manual_seed(0)

    def uniform(rows: int, size: int, scale: float) -> Tensor:
        return scale * torch.rand(rows, size, generator=generator)

    poses = HeadPose(
        identity_coeffs=uniform(1, sizes["identity_coeffs"], 0.5),
        expression_coeffs=uniform(4, sizes["expression_coeffs"], 0.4),
        global_rotation=uniform(4, 3, 0.3),
        neck_pose=uniform(4, 3, 0.3),
        jaw_pose=uniform(4, 3, 0.1),
        eye_pose=uniform(4, 6, 0.2),
        translation=uniform(4, 3, 0.1),
    )
    sequence = HeadSequence(Path("nowhere"), (), {}, head, poses)
    distances = distances_to_mesh(sequence, poses)
    moved = (head.vertices(poses) - head.vertices(poses[0])).norm(dim=-1)[1:]
    assert float(moved.median()) > 0.02
    assert float(distances.median()) < 1e-6
    assert float(distances.quantile(0.98)) < 5e-4


def test_a_checkpoint_renders_exactly_the_same_picture(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = tiny_blendshapes(steps=6)
    assert_reloads_exactly(RelightableBlendshapes, sequence, config, tmp_path)


def test_a_seed_decides_every_bit_and_another_seed_gives_another_avatar(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = tiny_blendshapes(steps=9)
    first, again, other = (
        trained(RelightableBlendshapes, sequence, config, tmp_path / str(i), seed)
        for i, seed in enumerate((3, 3, 4))
    )
    assert_equal_tensors(first.tensors(), again.tensors())
    left, right = (a.gaussians["means"][:100].detach() for a in (first, other))
    assert not torch.equal(left, right)


def test_a_resumed_training_gives_every_bit_of_an_uninterrupted_one(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = tiny_blendshapes(steps=14, evaluate_every=7)
    log = assert_resumes_exactly(RelightableBlendshapes, sequence, config, tmp_path)
    assert len({line["gaussians"] for line in log}) > 1, "no Gaussian was added or removed"


def test_children_inherit_what_their_parents_hang_on(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    avatar = trained(RelightableBlendshapes, sequence, tiny_blendshapes(steps=10), tmp_path)
    started = RelightableBlendshapes(avatar.config, sequence, 0)
    assert avatar.num_gaussians > started.num_gaussians
    rows = {tuple(row) for row in started.anchors.skinning_weights.tolist()}
    assert {tuple(row) for row in avatar.anchors.skinning_weights.tolist()} <= rows
    for name, value in avatar.anchors.tensors().items():
        assert value.shape[0] == avatar.num_gaussians, name


def test_densification_does_not_see_the_loss_of_opacity(sequence: HeadSequence) -> None:
    batch = FrameStore(sequence, "train").batch([0])
    signals = []
    for alpha_weight in (0.0, 50.0):
        losses = replace(tiny_blendshapes().losses, alpha_weight=alpha_weight)
        avatar = RelightableBlendshapes(tiny_blendshapes(losses=losses), sequence, 0)
        output, terms = avatar.training_step(batch, step=5)
        torch.stack(list(terms.values())).sum().backward()
        gradient = avatar.gaussians["means"].grad
        assert output.screen_gradient.grad is not None
        assert gradient is not None
        signals.append((output.screen_gradient.grad, gradient))
    (plain, plain_means), (weighted, weighted_means) = signals
    torch.testing.assert_close(plain, weighted)
    assert float((plain_means - weighted_means).abs().max()) > 1e-4


def test_opacity_is_the_same_picture_by_either_way(sequence: HeadSequence) -> None:
    """Before and after densification the term is one."""
    batch = FrameStore(sequence, "train").batch([1])
    values = []
    for densify in (STILL, tiny_blendshapes().densify):
        avatar = RelightableBlendshapes(tiny_blendshapes(densify=densify), sequence, 0)
        _, terms = avatar.training_step(batch, step=2)
        values.append(terms["alpha"].detach())
    torch.testing.assert_close(values[0], values[1])


def test_the_perceptual_term_is_there_with_its_weights_only(
    sequence: HeadSequence, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    losses = replace(tiny_blendshapes().losses, lpips_weight=0.05, isotropy_weight=0.1)
    config, batch = tiny_blendshapes(losses=losses), FrameStore(sequence, "train").batch([0])
    torch.manual_seed(0)
    for networks, has_term in (({"vgg": LpipsNetwork("vgg")}, True), ({}, False)):
        monkeypatch.setattr(model, "imported_lpips", lambda networks=networks: networks)
        avatar = RelightableBlendshapes(config, sequence, 0)
        _, terms = avatar.training_step(batch, step=1)
        assert ("lpips" in terms) == has_term == avatar.summary()["lpips_loss"]
        assert ("LPIPS is not imported" in caplog.text) != has_term
        assert float(terms["isotropy"].detach()) == pytest.approx(0.0, abs=1e-6)


def test_hard_confinement_keeps_teeth_in_the_mouth(sequence: HeadSequence, tmp_path: Path) -> None:
    config = tiny_blendshapes(steps=8, densify=STILL)
    losses = replace(config.losses, teeth_confinement="hard")
    optim = replace(config.optim, position_lr_init=0.02)
    for confined, is_inside in ((losses, True), (config.losses, False)):
        kept = replace(config, losses=confined, optim=optim)
        avatar = trained(RelightableBlendshapes, sequence, kept, tmp_path / str(is_inside))
        teeth = avatar.gaussians["means"].detach()[avatar.part != FACE]
        distance = float(cylinder_distance(teeth, mouth_cylinder(PUBLISHED_OFFSET)).max())
        assert (distance < 1e-12) == is_inside


def test_strips_are_there_where_a_head_lacks_teeth(sequence: HeadSequence) -> None:
    config = tiny_blendshapes()
    counts = {}
    for teeth in ("missing", "always", "never"):
        settings = replace(config.model, teeth=teeth)
        avatar = RelightableBlendshapes(replace(config, model=settings), sequence, 0)
        counts[teeth] = int((avatar.part != FACE).sum())
    # The built-in head has teeth of its own.
    assert counts["missing"] == counts["never"] == 0
    assert counts["always"] > 30


def test_strips_stand_where_settings_or_the_capture_say(sequence: HeadSequence) -> None:
    plain = tiny_blendshapes().model
    own = replace(plain, teeth_offset=(0.0, 0.1, 0.0))
    assert find_teeth_offset(own, {"mouth_offset": [1.0, 2.0, 3.0]}) == (0.0, 0.1, 0.0)
    assert find_teeth_offset(plain, {"mouth_offset": [1.0, 2.0, 3.0]}) == (1.0, 2.0, 3.0)
    assert find_teeth_offset(plain, {}) == PUBLISHED_OFFSET
    moved = RelightableBlendshapes(tiny_blendshapes(model=own), sequence, 0)
    plain = RelightableBlendshapes(tiny_blendshapes(), sequence, 0)
    heights = [
        float(a.gaussians["means"].detach()[a.part != FACE, 1].mean()) for a in (moved, plain)
    ]
    assert heights[0] - heights[1] == pytest.approx(0.1 - PUBLISHED_OFFSET[1], abs=2e-3)


def test_lower_teeth_follow_the_jaw(sequence: HeadSequence) -> None:
    avatar = RelightableBlendshapes(tiny_blendshapes(), sequence, 0)
    still = HeadPose(identity_coeffs=avatar.track[0].identity_coeffs)
    opened = still.replace(jaw_pose=torch.tensor([[0.3, 0.0, 0.0]]))
    with torch.no_grad():
        (_, shut), (_, wide) = avatar.posed_gaussians(still), avatar.posed_gaussians(opened)
    down = (wide.means - shut.means)[0, :, 1]
    assert float(down[avatar.part == LOWER_TEETH].max()) < -0.005
    assert float(down[avatar.part == 1].abs().max()) < 1e-6


def test_exported_splats_give_the_picture_of_the_avatar(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    avatar = trained(RelightableBlendshapes, sequence, tiny_blendshapes(steps=9), tmp_path)
    record = sequence.split("train")[0]
    pose = avatar.track[record.timestep]
    splats = avatar.splats(pose)
    drawn = rasterize_gaussians(
        splats.means[None],
        splats.quats[None],
        splats.log_scales.exp()[None],
        splats.opacity_logits.sigmoid()[None],
        record.camera,
        sh_coeffs=torch.cat([splats.sh_dc, splats.sh_rest], dim=1)[None],
        sh_degree=1,
        background=torch.tensor(sequence.background),
        near=avatar.config.model.near,
    )
    shown = avatar.render(pose, record.camera).image
    torch.testing.assert_close(drawn.image, shown, atol=2e-5, rtol=0)
    at_rest, rest = avatar.splats(None), HeadPose(identity_coeffs=avatar.track[0].identity_coeffs)
    assert torch.equal(at_rest.means, avatar.splats(rest).means)


def test_a_checkpoint_of_other_blendshapes_is_refused(sequence: HeadSequence) -> None:
    config = tiny_blendshapes()
    tensors = RelightableBlendshapes(config, sequence, 0).tensors()
    fewer = replace(config, model=replace(config.model, num_expressions=5))
    with pytest.raises(ValueError, match="must hold 5 blendshapes, got 52"):
        RelightableBlendshapes(fewer, sequence, 0).load_tensors(tensors)
    flat = replace(config, model=replace(config.model, sh_degree=0))
    without = RelightableBlendshapes(flat, sequence, 0).tensors()
    with pytest.raises(ValueError, match="checkpoint lacks 'sh_rest'"):
        RelightableBlendshapes(config, sequence, 0).load_tensors(without)


def test_heads_without_joints_and_official_quirks_without_flame_are_refused(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    fake = film_fake_head(tmp_path / "capture")
    with pytest.raises(ValueError, match="head must have joints that carry Gaussians"):
        RelightableBlendshapes(tiny_blendshapes(), fake, 0)
    config = tiny_blendshapes()
    quirks = replace(config, model=replace(config.model, official_quirks=True))
    with pytest.raises(ValueError, match="official_quirks needs FLAME"):
        RelightableBlendshapes(quirks, sequence, 0)
