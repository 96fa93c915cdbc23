"""The personal mesh and its objectives against the golden relit frame and losses."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fakes import FakeHead
from tolerances import assert_close
from vultus.core.srgb import linear_to_srgb
from vultus.geometry.rotations import rotation_6d_to_matrix
from vultus.heads.base import HeadPose, JointMotion
from vultus.heads.skinning import linear_blend_skinning
from vultus.kernels.mesh_raster import adjacent_pairs, face_neighbors
from vultus.methods.relightable_blendshapes.geometry_objectives import (
    mean_laplacian,
    neighbor_means,
    normal_consistency,
    tone_mapped,
    tone_mapped_difference,
)
from vultus.methods.relightable_blendshapes.personal_mesh import PersonalMesh, Refinement

NUM_EXPRESSIONS = 50


@pytest.fixture(scope="module")
def losses(golden_dir) -> dict[str, Tensor]:
    return load_file(golden_dir / "relightable_blendshapes" / "losses.safetensors")


@pytest.fixture(scope="module")
def frame(golden_dir) -> dict[str, Tensor]:
    folder = golden_dir / "relightable_blendshapes"
    rig = load_file(folder / "gaussian_blendshapes.safetensors")
    tensors = load_file(folder / "relight_frame.safetensors") | rig
    return {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}


class GoldenHead(FakeHead):
    """The golden rig in the pose of frame 1, whatever pose it is asked for."""

    def __init__(self, frame: dict[str, Tensor]) -> None:
        super().__init__()
        rotations = torch.eye(3, dtype=torch.float64).repeat(4, 1, 1)
        turned = torch.cat([frame["frame1.in.jaw"], frame["frame1.in.eyes"].view(2, 6)])
        # There the two vectors are rows.
        rotations[1:] = rotation_6d_to_matrix(turned).mT
        features = (rotations - torch.eye(3, dtype=torch.float64)).flatten()
        expression = frame["frame1.in.exp"][0, :NUM_EXPRESSIONS]
        shapes = frame["flame.shapedirs"][..., 300 : 300 + NUM_EXPRESSIONS]
        shaped = frame["mesh.canonical"] - frame["in.offset"]
        shaped = shaped + shapes @ expression + frame["flame.posedirs"] @ features
        transforms = frame["frame1.A"][..., :3, :]
        lids = torch.stack([frame["flame.l_eyelid"], frame["flame.r_eyelid"]], dim=-1)
        posed = linear_blend_skinning(shaped[None], transforms, frame["flame.weights"])
        self.posed = posed + lids @ frame["frame1.in.eyelids"][0]
        self.pose_basis = frame["flame.posedirs"].movedim(-1, 0)
        self.motion = JointMotion(transforms[..., 3], transforms, features[None])

    def vertices(self, pose: HeadPose) -> Tensor:
        return self.posed

    def joint_motion(self, pose: HeadPose) -> JointMotion:
        return self.motion


def test_offsets_are_carried_as_in_the_golden_frame(frame) -> None:
    faces = frame["flame.faces"].long()
    mesh = PersonalMesh(
        GoldenHead(frame),  # pyright: ignore[reportArgumentType] - its buffers are not seen
        Refinement.of(faces, 42, 0),
        frame["mesh.canonical"] - frame["in.offset"],
        frame["flame.weights"],
    )
    posed = mesh.pose(frame["in.offset"], HeadPose())
    assert float(frame["in.offset"].abs().max()) > 1e-3
    torch.testing.assert_close(posed[0], frame["mesh.posed"], rtol=1e-9, atol=1e-12)


def test_mesh_terms_and_their_gradients_are_the_golden_ones(losses) -> None:
    faces = losses["mesh.faces"].long()
    vertices = losses["mesh.vertices"].clone().requires_grad_()
    pairs = adjacent_pairs(face_neighbors(faces))
    laplacian = mean_laplacian(vertices, neighbor_means(faces, len(vertices)))
    creases = normal_consistency(vertices, faces, pairs)
    assert_close(laplacian, losses["mesh.laplacian_loss"])
    assert_close(creases, losses["mesh.normal_consistency"])
    (60.0 * laplacian + 0.1 * creases).backward()
    assert vertices.grad is not None
    expected = losses["mesh.grad_60lap_0p1nc"]
    torch.testing.assert_close(vertices.grad, expected, rtol=1e-4, atol=1e-6)


def test_adjacent_faces_are_the_golden_ones(losses) -> None:
    found = adjacent_pairs(face_neighbors(losses["mesh.faces"].long()))
    golden = losses["mesh.adjacent_faces"].long().sort(dim=1).values
    assert len(found) == len(golden)
    assert torch.equal(torch.unique(found, dim=0), torch.unique(golden, dim=0))


def test_compressed_radiance_is_the_golden_one(losses) -> None:
    predicted, target = (losses[f"tone.{n}_linear"].movedim(-1, 1) for n in ("pred", "target"))
    assert_close(tone_mapped(predicted).movedim(1, -1), losses["tone.pred_mapped"])
    assert_close(tone_mapped_difference(predicted, target), losses["tone.log_srgb_l1"])
    assert_close(linear_to_srgb(predicted).movedim(1, -1), losses["tone.srgb_of_pred"])
