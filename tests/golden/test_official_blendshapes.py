"""Models of the published Gaussian Blendshapes become avatars that move alike, and files again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from golden_flame import NUM_BLENDED, flame_head, head_pose
from vultus.data.sequence import HeadSequence
from vultus.geometry.rigid_fit import fit_rigid
from vultus.geometry.rotations import matrix_to_quaternion, quaternion_multiply
from vultus.heads.base import HeadPose
from vultus.methods.relightable_blendshapes import rig_motion
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.official import (
    FACE_ENTRIES,
    TupleLayout,
    read_official,
    write_official,
)
from vultus.methods.relightable_blendshapes.official_avatar import (
    avatar_from_official,
    official_from_avatar,
)
from vultus.methods.relightable_blendshapes.start import FACE, LOWER_TEETH, UPPER_TEETH

pytestmark = [
    pytest.mark.golden("relightable_blendshapes/gaussian_blendshapes.safetensors"),
    pytest.mark.usefixtures("one_thread"),
]

ITERATION = 40_000
PARTS = {FACE: "out", UPPER_TEETH: "mouth0", LOWER_TEETH: "mouth1"}


def write_published(folder: Path, golden: dict[str, Tensor]) -> None:
    """Files as the published program writes them, parameters and optimiser states included."""
    folder.mkdir()

    def neutral(prefix: str) -> list[object]:
        names = ("xyz", "features_dc", "features_rest", "scaling", "rotation", "opacity")
        num = len(golden[f"{prefix}.xyz"])
        missing = {"scaling": torch.zeros(num, 3), "opacity": torch.zeros(num, 1)}
        values = [golden.get(f"{prefix}.{name}", missing.get(name)) for name in names]
        parameters = [torch.nn.Parameter(value) for value in values if value is not None]
        return [3, *parameters, torch.zeros(num), torch.zeros(num, 1), torch.zeros(num, 1)]

    names = ("xyz", "features", "scaling", "rotation", "opacity")
    deltas = [torch.nn.Parameter(golden[f"param.{name}_b"]) for name in names]
    samples = [golden["param.face_id"].numpy(), golden["param.barycentric"]]
    adam = torch.optim.Adam(deltas).state_dict()
    face = (*neutral("param"), *deltas, *samples, adam, 1.0)
    assert len(face) == 19
    torch.save((face, ITERATION), folder / f"fix_chkpnt{ITERATION}.pth")
    for part in range(2):
        strip = (*neutral(f"mouth{part}.param"), adam, 1.0)
        assert len(strip) == 12
        torch.save((strip, ITERATION), folder / f"mouth{part}_chkpnt{ITERATION}.pth")
    anchors = {
        name.removeprefix("acc."): value.numpy()
        for name, value in golden.items()
        if name.startswith("acc.")
    }
    anchors["init_sh"] = np.zeros_like(anchors["init_sh"])
    holder = np.empty((), dtype=object)
    holder[()] = anchors
    np.save(folder / f"acc{ITERATION}.npy", holder, allow_pickle=True)


@pytest.fixture
def folder(golden: dict[str, Tensor], tmp_path: Path) -> Path:
    path = tmp_path / "model"
    write_published(path, golden)
    return path


@pytest.fixture
def sequence(golden: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> HeadSequence:
    """A capture of the golden file's three moments; its head has a back of its own."""
    faces = tuple(golden["flame.back_of_head_faces"].tolist())
    monkeypatch.setattr(rig_motion, "BACK_OF_HEAD_FACES", faces)
    poses = HeadPose.cat([head_pose(golden, frame) for frame in range(3)])
    return HeadSequence(Path("nowhere"), (), {}, flame_head(golden), poses)


@pytest.fixture
def avatar(folder: Path, sequence: HeadSequence) -> RelightableBlendshapes:
    return avatar_from_official(read_official(folder), sequence)


def skull_motion(golden: dict[str, Tensor], frame: int, closed: Tensor) -> tuple[Tensor, Tensor]:
    """Of the back of the head, lids open."""
    shapes = torch.stack([golden["flame.l_eyelid"], golden["flame.r_eyelid"]], dim=-1)
    opened = golden[f"frame{frame}.flame_vertices"] - (shapes * closed).sum(dim=-1)
    head = flame_head(golden)
    still = HeadPose(identity_coeffs=golden["frame0.in.shape"])
    corners = head.topology.faces[golden["flame.back_of_head_faces"].long()].flatten()
    return fit_rigid(head.vertices(still)[0, corners], opened[corners])


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_a_published_model_moves_as_in_its_own_program(
    golden: dict[str, Tensor], avatar: RelightableBlendshapes, frame: int
) -> None:
    with torch.no_grad():
        _, posed = avatar.posed_gaussians(avatar.track[frame])
    # Tracks of ours do not say how far lids are closed.
    closed = golden[f"frame{frame}.in.eyelids"][0]
    lids = (golden["acc.eye_blendshape"] * closed).sum(dim=-1)
    for part, name in PARTS.items():
        rows = avatar.part == part
        expected = golden[f"frame{frame}.{name}.xyz"]
        quats = golden[f"frame{frame}.{name}.rotation"]
        if part == FACE:
            expected = expected - lids
        if part == UPPER_TEETH:
            # Lids of the made-up head reach around to its back.
            rotation, translation = skull_motion(golden, frame, closed)
            expected = golden["mouth0.param.xyz"] @ rotation.T + translation
            local = torch.nn.functional.normalize(golden["mouth0.param.rotation"], dim=-1)
            quats = quaternion_multiply(matrix_to_quaternion(rotation), local)
        torch.testing.assert_close(posed.means[0, rows], expected, atol=2e-5, rtol=0)
        cosines = (posed.quats[0, rows] * quats / quats.norm(dim=-1, keepdim=True)).sum(-1).abs()
        assert float(cosines.min()) > 1.0 - 1e-5
    scales = golden[f"frame{frame}.out.scaling"]
    torch.testing.assert_close(posed.scales[0, avatar.part == FACE], scales, atol=2e-5, rtol=0)


def test_a_model_comes_back_from_an_avatar_bit_for_bit(
    folder: Path, avatar: RelightableBlendshapes, tmp_path: Path
) -> None:
    write_official(tmp_path / "again", official_from_avatar(avatar, ITERATION))
    first, again = read_official(folder), read_official(tmp_path / "again")
    assert first.iteration == again.iteration == ITERATION
    for ours, theirs in zip((first.face, *first.teeth), (again.face, *again.teeth), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name, value in first.anchors.tensors().items():
        assert torch.equal(value, getattr(again.anchors, name)), name


def test_tuples_of_another_order_are_read_with_another_table(
    golden: dict[str, Tensor], folder: Path
) -> None:
    path = folder / f"fix_chkpnt{ITERATION}.pth"
    values, iteration = torch.load(path, weights_only=False)
    torch.save(((values[0], "new", *values[1:]), iteration), path)
    moved = {name: entry + 1 for name, entry in FACE_ENTRIES.items()}
    face = read_official(folder, layout=TupleLayout(face=moved)).face
    assert torch.equal(face["means"], golden["param.xyz"])
    assert torch.equal(face["sh_rest_deltas"], golden["param.features_b"][:, 1:])
    assert face["opacity_logits_deltas"].shape == (36, NUM_BLENDED)
    with pytest.raises(ValueError, match="means must be a tensor of numbers, got str"):
        read_official(folder)


def test_damaged_and_foreign_files_are_refused(
    golden: dict[str, Tensor], folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_official(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no iteration 3 \(there is 40000\)"):
        read_official(folder, 3)
    anchors = folder / f"acc{ITERATION}.npy"
    content = np.load(anchors, allow_pickle=True).item()
    for change, message in (
        ({"W": content["W"][:5]}, "'W' must fit 36 Gaussians"),
        ({"init_sh": content["init_sh"] + 1.0}, "'init_sh' must be zero"),
        ({"init_xyz": "text"}, "'init_xyz' must be an array, got str"),
        ({"init_rot": np.full_like(content["init_rot"], np.nan)}, "init_rot must be finite"),
    ):
        holder = np.empty((), dtype=object)
        holder[()] = content | change
        np.save(anchors, holder, allow_pickle=True)
        with pytest.raises(ValueError, match=message) as caught:
            read_official(folder)
        assert str(anchors) in str(caught.value)
        assert "\n" not in str(caught.value)
    (folder / f"mouth1_chkpnt{ITERATION}.pth").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"mouth1_chkpnt40000\.pth"):
        read_official(folder)


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_pickles_are_never_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save((_Malicious(), 1), folder / f"fix_chkpnt{ITERATION}.pth")
    with pytest.raises(ValueError, match="not allowed"):
        read_official(folder)
    assert "executed" not in capsys.readouterr().out


def test_models_need_flame_and_files_need_their_kind_of_avatar(
    folder: Path, sequence: HeadSequence, avatar: RelightableBlendshapes
) -> None:
    model = read_official(folder)
    zeros = {"expression_mask": (36,), "mean_deltas": (36, 3), "quat_deltas": (36, 4)}
    wide = {name: torch.zeros(*shape, 101) for name, shape in zeros.items()}
    with pytest.raises(ValueError, match="at least 101 expressions, got flame with 100"):
        avatar_from_official(replace(model, anchors=replace(model.anchors, **wide)), sequence)
    config = avatar.config
    plain = replace(config, model=replace(config.model, teeth="never"))
    with pytest.raises(ValueError, match="needs strips of teeth"):
        official_from_avatar(RelightableBlendshapes(plain, sequence, 0), 1)
    flat = replace(config, model=replace(config.model, sh_degree=1))
    with pytest.raises(ValueError, match=r"model\.sh_degree 3"):
        official_from_avatar(RelightableBlendshapes(flat, sequence, 0), 1)
