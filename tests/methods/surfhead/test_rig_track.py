"""The rig's parameters: training moves those of its own moments and no others."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from synthetic_flame import synthetic_flame
from tiny_captures import tiny_surfhead
from training_checks import trained
from vultus.data.sequence import HeadSequence
from vultus.heads.base import HeadPose
from vultus.heads.flame import FlameHead
from vultus.methods.surfhead.config import SurfHeadConfig
from vultus.methods.surfhead.model import SurfHead
from vultus.methods.surfhead.rig_track import RigTrack
from vultus.methods.surfhead.transport import PosedFaces

TRAINED = ("expression_coeffs", "global_rotation", "translation")


def track_of(sequence: HeadSequence, config: SurfHeadConfig) -> RigTrack:
    return RigTrack(sequence.head, sequence.pose, config.model, config.optim)


def frozen(config: SurfHeadConfig, cache_mib: int = 512) -> SurfHeadConfig:
    return replace(
        config,
        model=replace(config.model, pose_cache_mib=cache_mib),
        optim=replace(config.optim, finetune_rig=False),
    )


def assert_same_faces(left: PosedFaces, right: PosedFaces) -> None:
    for field in fields(PosedFaces):
        one, other = getattr(left, field.name), getattr(right, field.name)
        assert (one is None) == (other is None), field.name
        assert one is None or torch.equal(one, other), field.name


def test_fine_tuning_changes_training_moments_only(sequence: HeadSequence, tmp_path: Path) -> None:
    config = tiny_surfhead(steps=8)
    avatar = trained(SurfHead, sequence, config, tmp_path)
    seen = sorted({record.timestep for record in sequence.split("train")})
    held_out = sorted({record.timestep for record in sequence.split("test")})
    assert set(seen).isdisjoint(held_out)
    for name in TRAINED:
        before, after = getattr(sequence.pose, name), getattr(avatar.track, name)
        assert torch.equal(after[held_out], before[held_out]), name
        changed = (after[seen] != before[seen]).any(dim=1)
        assert changed.all(), name
    assert torch.equal(avatar.track.identity_coeffs, sequence.pose.identity_coeffs)


def test_the_gradient_reaches_the_moment_of_the_batch_and_no_other(sequence: HeadSequence) -> None:
    rig = track_of(sequence, tiny_surfhead())
    posed = rig.training_faces(torch.tensor([2]))
    posed.centers.square().sum().backward()
    assert set(rig.parameters) == set(TRAINED) == set(rig.learning_rates)
    for name, parameter in rig.parameters.items():
        rows = parameter.grad.abs().amax(dim=1) > 0
        assert rows.tolist() == [False, False, True, False, False], name


@pytest.mark.parametrize("kind", ["similarity", "jacobian", "jbs"])
@pytest.mark.parametrize("cache_mib", [0, 512])
def test_cached_triangles_of_a_frozen_rig_equal_fresh_ones(
    sequence: HeadSequence, kind: str, cache_mib: int
) -> None:
    rig = track_of(sequence, frozen(tiny_surfhead(kind), cache_mib))
    assert not rig.parameters
    for timestep in (0, 3, 0, 3):
        cached = rig.training_faces(torch.tensor([timestep]))
        assert_same_faces(cached, rig.faces(sequence.pose[timestep]))


def test_the_cache_keeps_what_fits_and_nothing_beyond(sequence: HeadSequence) -> None:
    roomy, narrow = (track_of(sequence, frozen(tiny_surfhead(), mib)) for mib in (512, 0))
    one = torch.tensor([1])
    first = roomy.training_faces(one), narrow.training_faces(one)
    for rig in (roomy, narrow):
        rig.training_faces(torch.tensor([2]))
    assert roomy.training_faces(one) is first[0]
    assert narrow.training_faces(one) is not first[1]


def test_a_batch_of_moments_is_posed_as_each_of_them(sequence: HeadSequence) -> None:
    for config in (tiny_surfhead(), frozen(tiny_surfhead())):
        rig = track_of(sequence, config)
        both = rig.training_faces(torch.tensor([3, 1]))
        for row, timestep in enumerate((3, 1)):
            alone = rig.training_faces(torch.tensor([timestep]))
            for field in fields(PosedFaces):
                tensor = getattr(both, field.name)
                if tensor is not None:
                    expected = getattr(alone, field.name)[0]
                    torch.testing.assert_close(tensor[row], expected, atol=1e-5, rtol=1e-5)


def test_loaded_parameters_pose_the_head_and_leave_the_rest_mesh(sequence: HeadSequence) -> None:
    rig, other = (track_of(sequence, tiny_surfhead()) for _ in range(2))
    moved = {name: p.detach() + 0.1 for name, p in other.parameters.items()}
    rig.load(moved)
    for name, values in moved.items():
        assert torch.equal(getattr(rig.pose, name), values)
        assert not getattr(rig.pose, name).requires_grad
    expected = sequence.head.vertices(sequence.pose.replace(**moved)[2])
    assert torch.equal(sequence.head.vertices(rig.pose[2]), expected)
    assert torch.equal(rig.rest.rotations, other.rest.rotations)
    assert torch.equal(rig.rest.scales, other.rest.scales)


@pytest.mark.parametrize(
    ("identities", "times_shaped"), [("shared", 0), ("repeated", 0), ("several", 1)]
)
def test_only_a_track_of_several_subjects_is_shaped_in_every_step(
    identities: str, times_shaped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = FlameHead(synthetic_flame(num_vertices=300), teeth="none")
    identity = torch.tensor([[0.5, -1.0, 0.3, 0.2, 0.8]])
    if identities != "shared":
        identity = identity.repeat(3, 1)
    if identities == "several":
        identity[2] *= -1
    pose = HeadPose(
        identity_coeffs=identity,
        expression_coeffs=torch.linspace(-1, 1, 12).reshape(3, 4),
        jaw_pose=torch.linspace(-0.2, 0.2, 9).reshape(3, 3),
        static_offset=0.01 * torch.ones(1, 300, 3),
        vertex_offset=torch.ones(3, 300, 3),  # FLAME reads no such field
    )
    config = tiny_surfhead()
    rig = RigTrack(head, pose, config.model, config.optim)
    shape, calls = FlameHead.subject_rest, []
    monkeypatch.setattr(
        FlameHead, "subject_rest", lambda self, pose: (calls.append(pose), shape(self, pose))[1]
    )
    posed = rig.training_faces(torch.tensor([2, 1]))
    assert len(calls) == times_shaped
    assert_same_faces(posed, rig.faces(pose[torch.tensor([2, 1])]))
    posed.centers.square().sum().backward()
    for parameter in rig.parameters.values():
        assert parameter.grad is not None
        assert (parameter.grad.abs().amax(dim=1) > 0).tolist() == [False, True, True]
