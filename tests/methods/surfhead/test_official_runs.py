"""Official models on a capture are posed as without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from official_models import official_avatar, write_flame_capture, write_flame_file
from vultus.data.readers import read_sequence
from vultus.data.sequence import HeadSequence
from vultus.heads.base import HeadPose
from vultus.methods.surfhead.official import (
    avatar_from_official,
    official_from_avatar,
    place_official,
)
from vultus.methods.surfhead.transport import Rig


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    folder = tmp_path_factory.mktemp("official")
    write_flame_file(folder / "flame.safetensors")
    write_flame_capture(folder / "capture", official_avatar("jbs").track)
    return read_sequence(folder / "capture", head_file=str(folder / "flame.safetensors"))


@pytest.mark.parametrize("rig", ["similarity", "jacobian", "jbs"])
def test_an_avatar_stands_where_the_model_does(capture: HeadSequence, rig: Rig):
    model = replace(official_avatar(rig), track=official_avatar("jbs").track)
    avatar = avatar_from_official(model, capture)
    pose: HeadPose = model.track[1]
    mine, theirs = avatar.posed_surfels(pose), place_official(model, capture.head, pose)
    torch.testing.assert_close(mine.means, theirs.means)
    torch.testing.assert_close(mine.quats, theirs.quats)
    torch.testing.assert_close(mine.scales, theirs.scales)


def test_an_avatar_goes_back_to_the_same_model(capture: HeadSequence):
    model = replace(official_avatar("jbs"), shiny_surfels="all", rigid_eyeballs=False)
    again = official_from_avatar(avatar_from_official(model, capture), model.iteration)
    names = ("rig", "third_edge", "iteration", "shiny_surfels", "rigid_eyeballs")
    assert all(getattr(again, name) == getattr(model, name) for name in names)
    for name, tensor in model.surfels.tensors().items():
        assert torch.equal(again.surfels.tensors()[name], tensor), name


def test_faces_that_the_head_lacks_are_refused(capture: HeadSequence):
    model = official_avatar("jbs")
    far = torch.full_like(model.surfels.face_index, 20_000)
    broken = replace(model, surfels=replace(model.surfels, face_index=far))
    with pytest.raises(ValueError, match=r"head has \d+ faces, the model uses face 20000"):
        avatar_from_official(broken, capture)
