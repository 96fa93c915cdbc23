from __future__ import annotations

import numpy as np
import pytest
import torch

from vultus.heads.ict_appearance import LABEL_NAMES, ict_appearance
from vultus.heads.texture_baking import bake_corners, fill_outwards


@pytest.fixture(scope="module")
def appearance(ict_light):
    return ict_appearance(ict_light, size=256)


def color_of(appearance, faces):
    """Mean albedo at the centroids of faces."""
    size = appearance.albedo.shape[0]
    uv = appearance.uv[appearance.uv_faces[faces]].mean(dim=1)
    column = (uv[:, 0] * size).long().clamp(0, size - 1)
    row = ((1 - uv[:, 1]) * size).long().clamp(0, size - 1)
    return appearance.albedo[row, column].mean(dim=0)


def test_baking_interpolates_linearly_and_puts_v_up():
    uv = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    texture, texel_face = bake_corners(uv[faces], uv, faces, 20)
    known = texel_face >= 0
    row, column = np.nonzero(known)
    np.testing.assert_allclose(texture[known][:, 0], (column + 0.5) / 20)
    np.testing.assert_allclose(texture[known][:, 1], 1 - (row + 0.5) / 20)
    assert known.sum() == 16 * 16
    assert np.isnan(texture[~known]).all()


def test_filling_grows_by_one_texel_a_round_and_keeps_what_is_known():
    texture, known = np.zeros((7, 7, 1)), np.zeros((7, 7), dtype=bool)
    texture[3, 3], known[3, 3] = 5.0, True
    filled = fill_outwards(texture, known, rounds=1)
    assert filled[2:5, 2:5].min() == 5.0
    assert filled.sum() == 9 * 5.0
    assert texture.sum() == 5.0


def test_parts_have_the_colours_of_a_face(ict_light, appearance):
    topology = ict_light.topology
    region = {name: color_of(appearance, topology.face_region(name)) for name in topology.regions
              if name in ("face", "teeth", "left_sclera", "mouth_interior")}  # fmt: skip
    labels = dict(zip(LABEL_NAMES, range(len(LABEL_NAMES)), strict=True))
    scalp = color_of(appearance, appearance.face_labels == labels["scalp"])
    face = region["face"]
    assert face[0] > face[1] > face[2]
    assert float(scalp.mean()) < 0.25 * float(face.mean())
    assert float(region["left_sclera"].min()) > 0.4
    assert float(region["mouth_interior"].mean()) < 0.2


def test_lips_are_redder_than_cheeks_and_brows_darker_than_the_forehead(ict_light, appearance):
    centers = ict_light.neutral[ict_light.topology.faces].mean(dim=1)
    landmarks = ict_light.neutral[ict_light.landmarks68]

    def near(point):
        skin = ict_light.topology.face_region("face")
        nearest = (centers - point).norm(dim=1) + ~skin
        return nearest.topk(6, largest=False).indices

    lip = color_of(appearance, near(0.5 * (landmarks[51] + landmarks[62])))
    cheek = color_of(appearance, near(landmarks[54] + torch.tensor([0.015, 0.02, -0.005])))
    brow = color_of(appearance, near(landmarks[24]))
    forehead = color_of(appearance, near(landmarks[24] + torch.tensor([0.0, 0.02, 0.003])))
    assert float(lip[1] / lip[0]) < float(cheek[1] / cheek[0]) - 0.05
    assert float(brow.mean()) < 0.5 * float(forehead.mean())


def test_pupils_are_darker_than_irises_and_irises_than_scleras(ict_light, appearance):
    topology = ict_light.topology
    centers = ict_light.neutral[topology.faces].mean(dim=1)
    arms = centers - ict_light.joints[3]
    depth = arms @ ict_light.gaze_axes[0]
    angle = torch.acos((depth / arms.norm(dim=1)).clamp(-1, 1))
    iris = topology.face_region("left_iris") & (depth > 0.0143)
    pupil = color_of(appearance, iris & (angle < 0.11)).mean()
    ring = color_of(appearance, iris & (angle > 0.18) & (angle < 0.3)).mean()
    white = color_of(appearance, topology.face_region("left_sclera")).mean()
    assert float(pupil) < 0.3 * float(ring)
    assert float(ring) < 0.4 * float(white)


def test_maps_are_in_range_and_repeatable(ict_light, appearance):
    assert float(appearance.albedo.min()) >= 0.0
    assert float(appearance.albedo.max()) <= 1.0
    assert torch.isfinite(appearance.albedo).all()
    assert torch.equal(appearance.eyeball_faces, ict_light.topology.face_region("eyeballs"))
    again = ict_appearance(ict_light, size=256)
    assert torch.equal(appearance.albedo, again.albedo)
