"""Blending, posing and the teeth of Gaussian Blendshapes, against the published program.

The published code orders colours as one tensor of 16 terms and lists expressions last.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from golden_flame import NUM_BLENDED, flame_head, head_pose
from vultus.geometry.mesh_sampling import closest_points
from vultus.geometry.rigid_fit import fit_rigid
from vultus.geometry.rotations import (
    matrix_to_quaternion,
    quaternion_to_matrix,
)
from vultus.geometry.sh_rotation import rotate_color_sh
from vultus.heads.base import HeadPose
from vultus.heads.flame import FlameHead
from vultus.methods.relightable_blendshapes.blendshapes import (
    ExpressionMotions,
    blend_attributes,
    expression_motions,
    initial_mean_deltas,
    initial_quat_deltas,
)
from vultus.methods.relightable_blendshapes.consistency import (
    expression_mask,
    vertex_motion,
)
from vultus.methods.relightable_blendshapes.mouth import LOWER_TEETH_WEIGHTS
from vultus.methods.relightable_blendshapes.posing import Anchors, FrameMotion, pose_gaussians

pytestmark = pytest.mark.golden("relightable_blendshapes/gaussian_blendshapes.safetensors")

ATOL = 2e-5
FRAMES = (0, 1, 2)
ATTRIBUTES = {
    "means": "xyz",
    "quats": "rotation",
    "log_scales": "scaling",
    "opacity_logits": "opacity",
    "sh_dc": "features_dc",
    "sh_rest": "features_rest",
}


def assert_near(actual: Tensor, expected: Tensor, atol: float = ATOL) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


def gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def subject_meshes(golden: dict[str, Tensor], head: FlameHead) -> tuple[Tensor, Tensor]:
    """The subject at rest, and with each of the blended expressions."""
    still = HeadPose(identity_coeffs=golden["frame0.in.shape"])
    one_hot = torch.eye(100)[:NUM_BLENDED]
    return head.vertices(still)[0], head.vertices(still.replace(expression_coeffs=one_hot))


def motions_of(golden: dict[str, Tensor]) -> ExpressionMotions:
    head = flame_head(golden)
    neutral, expressed = subject_meshes(golden, head)
    return expression_motions(neutral, expressed, head.topology.faces, "three_steps")


def parameters(golden: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Neutral values and deltas in our layout, ready to collect gradients."""
    neutral = {ours: golden[f"param.{theirs}"] for ours, theirs in ATTRIBUTES.items()}
    neutral["opacity_logits"] = neutral["opacity_logits"][:, 0]
    deltas = {n: golden[f"param.{ATTRIBUTES[n]}_b"] for n in ("means", "quats", "log_scales")}
    deltas["opacity_logits"] = golden["param.opacity_b"][:, 0]
    colors = golden["param.features_b"]
    deltas |= {"sh_dc": colors[:, :1], "sh_rest": colors[:, 1:]}
    for values in (neutral, deltas):
        values.update({name: value.clone().requires_grad_() for name, value in values.items()})
    return neutral, deltas


def anchors_of(golden: dict[str, Tensor]) -> Anchors:
    return Anchors(
        skinning_weights=golden["acc.W"],
        expression_mask=golden["acc.expr_mask_tensor"],
        mean_deltas=golden["acc.init_xyz"],
        quat_deltas=golden["acc.init_rot"],
        pose_shapes=golden["acc.pose_blendshape"].permute(1, 2, 0).contiguous(),
        eyelid_shapes=golden["acc.eye_blendshape"],
    )


def frame_motion(golden: dict[str, Tensor], frame: int) -> FrameMotion:
    pose = head_pose(golden, frame)
    joints = flame_head(golden).joint_motion(pose)
    expression = golden[f"frame{frame}.in.exp"][:, :NUM_BLENDED]
    eyelids = golden[f"frame{frame}.in.eyelids"]
    return FrameMotion(expression, joints.transforms, joints.features, eyelids)


def test_faces_move_with_expressions_as_published(golden: dict[str, Tensor]) -> None:
    motions = motions_of(golden)
    assert_near(motions.matrices.transpose(0, 1), golden["face.R"] + torch.eye(3))
    assert_near(motions.offsets.transpose(0, 1), golden["face.t"])
    one = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert_near(motions.quats.permute(1, 2, 0), golden["face.rot"] + one[:, None])


def test_gaussians_start_with_the_published_deltas(golden: dict[str, Tensor]) -> None:
    motions, index = motions_of(golden), golden["param.face_id"].long()
    assert_near(initial_mean_deltas(motions, index, golden["param.xyz"]), golden["acc.init_xyz"])
    assert_near(
        initial_quat_deltas(motions, index, golden["param.rotation"]), golden["acc.init_rot"]
    )
    colors = torch.cat([golden["param.features_dc"], golden["param.features_rest"]], dim=1)
    turned = rotate_color_sh(colors, quaternion_to_matrix(motions.quats[:, index]))
    assert_near((turned - colors).permute(1, 2, 3, 0), golden["acc.init_sh"])


def test_the_mask_of_faces_is_the_published_one(golden: dict[str, Tensor]) -> None:
    head = flame_head(golden)
    neutral, expressed = subject_meshes(golden, head)
    neck = torch.zeros(len(neutral), dtype=torch.bool)
    neck[golden["flame.neck_exclude_vertices"].long()] = True
    faces = head.topology.faces
    # Alignment takes each vertex once, the motion of the upper teeth as often as faces name it.
    back = faces[golden["flame.back_of_head_faces"].long()].unique()
    offsets = vertex_motion(neutral, expressed, neck, back)
    mask = expression_mask(offsets[:, faces].mean(dim=2))
    # A mask of 1 is a motion of 6 mm: rounding of the alignment comes out 175 times larger.
    assert_near(mask, golden["face.expr_mask"], atol=1e-4)


def test_published_lookups_hold_the_weights_and_masks_of_the_nearest_faces(
    golden: dict[str, Tensor],
) -> None:
    """The published grids are coarse; here they are rebuilt from our closest points."""
    head = flame_head(golden)
    neutral, _ = subject_meshes(golden, head)
    low, high = neutral.amin(dim=0) - 1e-3, neutral.amax(dim=0) + 1e-3
    axes = [torch.linspace(float(a), float(b), 10) for a, b in zip(low, high, strict=True)]
    nodes = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    nearest = closest_points(nodes.reshape(-1, 3), neutral, head.topology.faces)
    weights = head.skinning_weights[head.topology.faces[nearest.face_index]]
    weights = (weights * nearest.barycentrics[..., None]).sum(dim=1)
    mask = golden["face.expr_mask"][nearest.face_index]
    grid = torch.cat([weights, mask], dim=1).reshape(10, 10, 10, -1).permute(3, 2, 1, 0)[None]
    places = 2.0 * (golden["param.xyz"] - low) / (high - low) - 1.0
    found = torch.nn.functional.grid_sample(
        grid, places[None, None, None], padding_mode="border", align_corners=True
    )[0, :, 0, 0].T
    weights = found[:, :5] / found[:, :5].sum(dim=1, keepdim=True)
    assert float((weights - golden["acc.W"]).abs().median()) < ATOL
    assert float((found[:, 5:] - golden["acc.expr_mask_tensor"]).abs().median()) < ATOL


@pytest.mark.parametrize("frame", FRAMES)
def test_gaussians_are_blended_and_posed_as_published(
    golden: dict[str, Tensor], frame: int
) -> None:
    neutral, deltas = parameters(golden)
    anchors, motion = anchors_of(golden), frame_motion(golden, frame)
    assert_near(motion.transforms, golden[f"frame{frame}.A"][:, :, :3])
    colors = golden["acc.init_sh"]
    fixed = {
        "means": anchors.mean_deltas,
        "quats": anchors.quat_deltas,
        "sh_dc": colors[:, :1],
        "sh_rest": colors[:, 1:],
    }
    blended = blend_attributes(neutral, deltas, fixed, anchors.expression_mask, motion.expression)
    posed = pose_gaussians(blended, anchors, motion)
    features = torch.cat([blended["sh_dc"], blended["sh_rest"]], dim=2)
    expected = {n: golden[f"frame{frame}.out.{n}"] for n in ("xyz", "rotation", "features")}
    # A quaternion and its negative are one rotation; the published sign is whatever comes out.
    signs = (posed.quats[0] * expected["rotation"]).sum(-1, keepdim=True).sign().detach()
    outputs = {
        "xyz": posed.means[0],
        "rotation": signs * posed.quats[0],
        "features": rotate_color_sh(features, posed.rotations)[0],
        "scaling": posed.scales[0],
        "opacity": posed.opacities[0, :, None],
    }
    for name, value in outputs.items():
        assert_near(value, golden[f"frame{frame}.out.{name}"])
    if f"frame{frame}.grad.xyz" not in golden:
        return
    products = [(value * golden[f"grad_in.{name}"]).sum() for name, value in outputs.items()]
    torch.stack(products).sum().backward()
    for name, value in neutral.items():
        expected_grad = golden[f"frame{frame}.grad.{ATTRIBUTES[name]}"]
        assert_near(gradient_of(value).reshape(-1), expected_grad.reshape(-1))
    for name in ("means", "quats", "log_scales", "opacity_logits"):
        expected_grad = golden[f"frame{frame}.grad.{ATTRIBUTES[name]}_b"]
        assert_near(gradient_of(deltas[name]).reshape(-1), expected_grad.reshape(-1))
    grads = torch.cat([gradient_of(deltas[name]) for name in ("sh_dc", "sh_rest")], dim=1)
    assert_near(grads, golden[f"frame{frame}.grad.features_b"])


@pytest.mark.parametrize("frame", FRAMES)
def test_teeth_move_as_published(golden: dict[str, Tensor], frame: int) -> None:
    head, motion = flame_head(golden), frame_motion(golden, frame)
    neutral, _ = subject_meshes(golden, head)
    faces = golden["flame.back_of_head_faces"].long()
    corners = head.topology.faces[faces].flatten()
    posed = golden[f"frame{frame}.flame_vertices"]
    rotation, translation = fit_rigid(neutral[corners], posed[corners])
    assert_near(rotation, golden[f"frame{frame}.frameR"])
    assert_near(translation[:, None], golden[f"frame{frame}.framet"])
    upper = torch.cat([rotation, translation[:, None]], dim=1)
    transforms = torch.cat([motion.transforms, upper[None, None]], dim=1)
    lower_weights = torch.zeros(6)
    lower_weights[:3] = torch.tensor(LOWER_TEETH_WEIGHTS)
    for part, weights in enumerate((torch.eye(6)[5], lower_weights / lower_weights.sum())):
        values = {n: golden[f"mouth{part}.param.{n}"] for n in ("xyz", "rotation")}
        num = len(values["xyz"])
        anchors = Anchors(
            skinning_weights=weights.expand(num, -1).contiguous(),
            expression_mask=torch.zeros(num, NUM_BLENDED),
            mean_deltas=torch.zeros(num, 3, NUM_BLENDED),
            quat_deltas=torch.zeros(num, 4, NUM_BLENDED),
            pose_shapes=torch.zeros(num, 3, 36),
            eyelid_shapes=torch.zeros(num, 3, 2),
        )
        blended = {
            "means": values["xyz"][None],
            "quats": values["rotation"][None],
            "log_scales": torch.zeros(1, num, 3),
            "opacity_logits": torch.zeros(1, num),
        }
        carried = FrameMotion(motion.expression, transforms, motion.features, motion.eyelids)
        gaussians = pose_gaussians(blended, anchors, carried)
        expected = {
            n: golden[f"frame{frame}.mouth{part}.{n}"] for n in ("xyz", "rotation", "features")
        }
        assert_near(gaussians.means[0], expected["xyz"])
        signs = (gaussians.quats[0] * expected["rotation"]).sum(-1, keepdim=True).sign()
        norms = expected["rotation"].norm(dim=-1, keepdim=True)
        assert_near(signs * gaussians.quats[0], expected["rotation"] / norms)
        colors = [golden[f"mouth{part}.param.features_{n}"] for n in ("dc", "rest")]
        turned = rotate_color_sh(torch.cat(colors, dim=1)[None], gaussians.rotations)
        assert_near(turned[0], expected["features"])


def test_the_teeths_jaw_is_the_published_mean_of_joints(golden: dict[str, Tensor]) -> None:
    motion = frame_motion(golden, 1)
    shares = torch.tensor(LOWER_TEETH_WEIGHTS)
    mean = (shares[:, None, None] * motion.transforms[0, :3]).sum(dim=0)
    rest = (1.0 - shares.sum()) * torch.eye(3, 4)
    assert_near(mean + rest, golden["frame1.rjawTrans"][0, :3], atol=1e-6)
    quat = matrix_to_quaternion(golden["frame1.rjawTransN"])
    assert float(quat.norm()) == pytest.approx(1.0, abs=1e-6)
