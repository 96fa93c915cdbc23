from __future__ import annotations

import numpy as np
import pytest
import torch

from vultus.heads.base import HeadPose, ParameterSpec
from vultus.heads.blendshapes import (
    ARKIT_NAMES,
    add_shapes,
    arkit_to_ict,
    check_pose,
    expression_map,
    map_expressions,
)


def test_shapes_add_linearly():
    generator = torch.Generator().manual_seed(0)
    base, shapes = torch.randn(7, 3, generator=generator), torch.randn(4, 7, 3, generator=generator)
    coeffs = torch.randn(2, 4, generator=generator)
    expected = torch.stack([base + sum(c * s for c, s in zip(row, shapes)) for row in coeffs])  # noqa: B905
    torch.testing.assert_close(add_shapes(base, shapes, coeffs), expected)
    torch.testing.assert_close(add_shapes(base, shapes, None), base[None])


def test_arkit_has_fifty_two_names_in_order():
    assert len(set(ARKIT_NAMES)) == 52
    assert sorted(ARKIT_NAMES) == list(ARKIT_NAMES)


def test_the_map_to_ict_is_the_published_one(data_dir):
    with np.load(data_dir / "lam_avatar" / "arkit_sequence.npz") as archive:
        names, ict_names = archive["names"].tolist(), archive["ict_names"].tolist()
        expected = torch.from_numpy(archive["arkit_to_ict"])
    mapping = expression_map(names, ict_names)
    torch.testing.assert_close(mapping.matrix, expected)
    assert mapping.unmapped == ("tongueOut",)
    assert mapping.undriven == ()
    for row, name in zip(expected, names, strict=True):
        assert arkit_to_ict(name) == tuple(n for n, w in zip(ict_names, row, strict=True) if w)


def test_going_to_ict_and_back_keeps_symmetric_weights():
    ict_names = [name for arkit in ARKIT_NAMES for name in arkit_to_ict(arkit)]
    weights = torch.rand(3, 52, generator=torch.Generator().manual_seed(1))
    there, unmapped = map_expressions(ARKIT_NAMES, weights, ict_names)
    back, nothing = map_expressions(ict_names, there, ARKIT_NAMES)
    kept = [name != "tongueOut" for name in ARKIT_NAMES]
    assert unmapped == ("tongueOut",)
    assert nothing == ()
    torch.testing.assert_close(back[:, kept], weights[:, kept])


def test_whole_face_directions_are_not_halves():
    mapping = expression_map(["jawLeft", "mouthRight"], ["jaw_L", "mouth_R", "jawLeft"])
    assert mapping.matrix.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert mapping.unmapped == ("mouthRight",)
    assert mapping.undriven == ("jaw_L", "mouth_R")


def test_repeated_names_and_wrong_widths_are_refused():
    with pytest.raises(ValueError, match="'a' comes twice"):
        expression_map(["a", "a"], ["a"])
    with pytest.raises(ValueError, match=r"one column per source name \(2\), got 3"):
        map_expressions(["a", "b"], torch.zeros(1, 3), ["a"])
    with pytest.raises(ValueError, match="ARKit expression, got 'smile'"):
        arkit_to_ict("smile")


def test_a_wrong_size_is_reported_in_one_line():
    spec = (ParameterSpec("jaw_pose", 3), ParameterSpec("expression_coeffs", 5))
    check_pose(HeadPose(expression_coeffs=torch.zeros(2, 5), neck_pose=torch.zeros(1, 3)), spec)
    message = r"^frame.npz: expression_coeffs must have size 5 per frame, got 4$"
    with pytest.raises(ValueError, match=message):
        check_pose(HeadPose(expression_coeffs=torch.zeros(2, 4)), spec, "frame.npz")
