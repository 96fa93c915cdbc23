"""Triton kernels of a joint tree. A lane works on a frame and unrolls the tree.

Symbols: joint k turns by L_k = exp(r_k) about its rest position x_k. With the parent's transform
(W, t) its own is W_k = W L_k and t_k = W (x_k - L_k x_k) + t.
"""

# ruff: noqa: RUF005, D417 -- Triton unpacks no tuples; the tree explains itself.
from __future__ import annotations

from vultus.kernels.triton_math import add3, apply3, apply_transposed3, dot3, scale3
from vultus.kernels.triton_matrices import (
    exp_factors,
    exp_gradient,
    load_matrix,
    load_vector,
    rotation_exp,
    store_matrix,
    store_vector,
    subtract3,
    times,
    transposed,
)
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["pose", "pose_backward"]


@jit
def _add_matrices(a, b):
    return (add3(a[0], b[0]), add3(a[1], b[1]), add3(a[2], b[2]))


@jit
def _outer(a, b):
    return (scale3(a[0], b), scale3(a[1], b), scale3(a[2], b))


@jit
def _turn(axis_angles, joints, row, mask):
    """A joint's own rotation, and where that takes the origin."""
    r = load_vector(axis_angles, 3 * row, mask)
    a, b, _da, _db = exp_factors(dot3(r, r))
    local = rotation_exp(r, a, b)
    joint = load_vector(joints, 3 * row, mask)
    return local, subtract3(joint, apply3(local, joint))


@jit
def pose(
    axis_angles, joints, transforms, features, num_frames,
    PARENTS: constexpr, NUM_JOINTS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Transforms of all joints.

    Args:
        axis_angles: [b j 3].
        joints: [b j 3].
        transforms: Written, [b j 3 4].
        features: Written, [b j-1 3 3].
    """
    frame = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = frame < num_frames
    rotations, offsets = (), ()
    for k in tl.static_range(NUM_JOINTS):
        row = frame * NUM_JOINTS + k
        rotation, offset = _turn(axis_angles, joints, row, mask)
        if k > 0:
            feature = (
                (rotation[0][0] - 1.0, rotation[0][1], rotation[0][2]),
                (rotation[1][0], rotation[1][1] - 1.0, rotation[1][2]),
                (rotation[2][0], rotation[2][1], rotation[2][2] - 1.0),
            )
            store_matrix(features, 9 * (frame * (NUM_JOINTS - 1) + k - 1), feature, mask)
        if PARENTS[k] >= 0:
            parent = rotations[PARENTS[k]]
            rotation = times(parent, rotation)
            offset = add3(apply3(parent, offset), offsets[PARENTS[k]])
        rotations = rotations + (rotation,)
        offsets = offsets + (offset,)
        for r in tl.static_range(3):
            store_vector(transforms, 12 * row + 4 * r, rotation[r], mask)
            tl.store(transforms + 12 * row + 4 * r + 3, offset[r], mask=mask)


@jit
def _load_transform(pointer, row, mask):
    first = 12 * row
    matrix = (
        load_vector(pointer, first, mask),
        load_vector(pointer, first + 4, mask),
        load_vector(pointer, first + 8, mask),
    )
    offset = (
        tl.load(pointer + first + 3, mask=mask, other=0.0),
        tl.load(pointer + first + 7, mask=mask, other=0.0),
        tl.load(pointer + first + 11, mask=mask, other=0.0),
    )
    return matrix, offset


@jit
def pose_backward(
    axis_angles, joints, transforms, grad_transforms, grad_features, grad_axis_angles, grad_joints,
    num_frames,
    PARENTS: constexpr, NUM_JOINTS: constexpr, HAS_TRANSFORMS: constexpr, HAS_FEATURES: constexpr,
    LANES: constexpr,
):  # fmt: skip
    """Gradients of the joints' angles and rest positions, from the leaves to the root.

    Args:
        transforms: What ``pose`` wrote.
        grad_axis_angles: Written, [b j 3]; so is the last.
        grad_joints: [b j 3].
    """
    frame = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = frame < num_frames
    zero = tl.zeros((LANES,), tl.float32)
    none = (zero, zero, zero)
    # What the last joint, the one before it, ... hands to its parent.
    passed_rotations, passed_offsets = (), ()
    for k in tl.static_range(NUM_JOINTS - 1, -1, -1):
        row = frame * NUM_JOINTS + k
        g_rotation, g_offset = (none, none, none), none
        if HAS_TRANSFORMS:
            g_rotation, g_offset = _load_transform(grad_transforms, row, mask)
        for child in tl.static_range(k + 1, NUM_JOINTS):
            if PARENTS[child] == k:
                g_rotation = _add_matrices(g_rotation, passed_rotations[NUM_JOINTS - 1 - child])
                g_offset = add3(g_offset, passed_offsets[NUM_JOINTS - 1 - child])
        r = load_vector(axis_angles, 3 * row, mask)
        a, b, da, db = exp_factors(dot3(r, r))
        local = rotation_exp(r, a, b)
        joint = load_vector(joints, 3 * row, mask)
        to_parent = g_rotation
        passed_offsets = passed_offsets + (g_offset,)
        if PARENTS[k] >= 0:
            offset = subtract3(joint, apply3(local, joint))
            to_parent = times(g_rotation, transposed(local))
            to_parent = _add_matrices(to_parent, _outer(g_offset, offset))
            parent, _parent_offset = _load_transform(
                transforms, frame * NUM_JOINTS + PARENTS[k], mask
            )
            g_rotation = times(transposed(parent), g_rotation)
            g_offset = apply_transposed3(parent, g_offset)
        passed_rotations = passed_rotations + (to_parent,)
        g_joint = subtract3(g_offset, apply_transposed3(local, g_offset))
        store_vector(grad_joints, 3 * row, g_joint, mask)
        g_local = _add_matrices(g_rotation, _outer(scale3(-1.0, g_offset), joint))
        if HAS_FEATURES:
            if k > 0:
                feature = 9 * (frame * (NUM_JOINTS - 1) + k - 1)
                g_local = _add_matrices(g_local, load_matrix(grad_features, feature, mask))
        store_vector(grad_axis_angles, 3 * row, exp_gradient(r, a, b, da, db, g_local), mask)
