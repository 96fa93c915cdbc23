"""Skinning weights, joints and region labels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from vultus.heads.procedural.atlas import PartRange
from vultus.heads.procedural.falloffs import smoothstep
from vultus.heads.procedural.hair import elevation_above_hairline
from vultus.heads.procedural.loops import LIP_BORDER_LOOP, MOUTH_POINTS
from vultus.heads.procedural.mesh_graph import adjacency, harmonic_field
from vultus.heads.procedural.sculpt import EYE_CENTER, JAW_HINGE, MIRROR, NECK_JOINT, Capsule
from vultus.heads.procedural.template import SkinTemplate

__all__ = ["JOINTS", "REGIONS", "jaw_weights", "region_labels", "skinning_weights"]

JOINTS = np.stack(
    [np.array([0, -186.0, -26.0]), NECK_JOINT, JAW_HINGE, EYE_CENTER, EYE_CENTER * MIRROR]
)
"""Rest positions (mm) of root, neck, jaw, left eye and right eye."""

REGIONS = (
    "skin",
    "scalp",
    "lips",
    "left_eyeball",
    "right_eyeball",
    "teeth",
    "tongue",
    "mouth_interior",
    "ears",
    "neck",
    "boundary",
    "hair",
    "brows",
    "lashes",
    "eyelid_rim",
    "garment",
)
"""Every vertex has exactly one of these labels."""

_NECK, _JAW = 1, 2
_MANDIBLE = Capsule((49, -72, 6), (13, -99, 68), 14, 16)


def jaw_weights(skin: SkinTemplate) -> Float[np.ndarray, " v"]:
    """How far each skin vertex follows the jaw: harmonic between lips, chin and cranium."""
    x, y, z = skin.vertices.T
    is_fixed = np.zeros(len(x), bool)
    values = np.zeros(len(x))

    def fix(where: np.ndarray, value: np.ndarray | float | int) -> None:
        is_fixed[where] = True
        values[where] = value

    fix(y > -30, 0)
    fix((z < -5) & (y > -70), 0)
    fix((y > -46) & (np.abs(x) < 22) & (z > 60), 0)
    fix((z > 58) & (y < -90), 1)
    fix(skin.neck[2:], 0)
    cosine = np.cos(np.arange(MOUTH_POINTS) / MOUTH_POINTS * 2 * np.pi)
    # The opening mouth becomes an ellipse. Constant weights 0 and 1 would give a letter box.
    lips = 0.5 - 0.5 * np.sign(cosine) * np.abs(cosine) ** 0.8
    fix(skin.mouth[: LIP_BORDER_LOOP + 1], lips)
    for index, loop in enumerate(skin.cavity):
        depth = max(index - 2, 0)
        fix(loop, lips * (1 - 0.16 * depth) + 0.04 * depth)
    fix(np.array([skin.cavity_pole]), 0.3)
    to_bone = _MANDIBLE.distance(np.stack([np.abs(x), y, z], 1))
    pull = 0.5 * np.clip(1 - np.maximum(to_bone, 0) / 9, 0, 1)
    graph = adjacency(skin.faces, len(x))
    field = harmonic_field(graph, is_fixed, values, pull, np.interp(z, [0, 60], [0.55, 1]))
    weights = _rounded(np.clip(field, 0, 1), skin, graph)
    # The diagonals of the neck's strips are not symmetric, and both averages follow them.
    return 0.5 * (weights + weights[skin.mirror_partners()])


def _rounded(weights: np.ndarray, skin: SkinTemplate, graph: csr_array) -> np.ndarray:
    """Average away the kinks where the fixed values of the field end, except at the lips."""
    degree = graph.sum(1)
    is_locked = np.zeros(len(weights), bool)
    is_locked[skin.mouth[: LIP_BORDER_LOOP + 2]] = True
    is_locked[skin.cavity] = True
    for _ in range(12):
        average = 0.5 * weights + 0.5 * (graph @ weights) / degree
        weights = np.where(is_locked, weights, average)
    return weights


def skinning_weights(
    vertices: Float[np.ndarray, "v 3"],
    jaw: Float[np.ndarray, " s"],
    ranges: dict[str, PartRange],
) -> Float[np.ndarray, "v 5"]:
    """Weights of all parts; hair, ears, lashes and upper teeth follow the neck joint."""
    weights = np.zeros((len(vertices), len(JOINTS)))
    weights[:, _NECK] = 1
    skin = ranges["skin"].vertices
    neck = smoothstep(-172, -104, vertices[skin, 1])
    weights[skin, 0] = 1 - neck
    weights[skin, _NECK] = neck * (1 - jaw)
    weights[skin, _JAW] = neck * jaw
    for name, joint in (("left_eye", 3), ("right_eye", 4), ("lower_teeth", _JAW)):
        weights[ranges[name].vertices] = np.eye(len(JOINTS))[joint]
    tongue = ranges["tongue"].vertices
    front = 0.4 + 0.6 * np.clip((vertices[tongue, 2] - 36) / 25, 0, 1)
    weights[tongue, _JAW] = front
    weights[tongue, _NECK] = 1 - front
    return weights


def region_labels(
    vertices: Float[np.ndarray, "v 3"], skin: SkinTemplate, ranges: dict[str, PartRange]
) -> Int[np.ndarray, " v"]:
    """Index into ``REGIONS`` per vertex."""
    label = {name: index for index, name in enumerate(REGIONS)}
    labels = np.zeros(len(vertices), np.int64)
    x, y, z = skin.vertices.T
    on_skin = labels[ranges["skin"].vertices]
    on_skin[elevation_above_hairline(skin.vertices) > 0] = label["scalp"]
    is_brow = (np.abs(y - 17) < 5) & (np.abs(np.abs(x) - 30) < 17) & (z > 50)
    on_skin[is_brow] = label["brows"]
    on_skin[skin.neck] = label["neck"]
    on_skin[skin.neck[-1]] = label["boundary"]
    on_skin[skin.mouth[: LIP_BORDER_LOOP + 1]] = label["lips"]
    on_skin[skin.cavity] = label["mouth_interior"]
    on_skin[skin.cavity_pole] = label["mouth_interior"]
    on_skin[skin.cavity[0]] = label["lips"]
    on_skin[skin.left_rims] = label["eyelid_rim"]
    on_skin[skin.right_rims] = label["eyelid_rim"]
    for name, part in ranges.items():
        region = {
            "left_eye": "left_eyeball",
            "right_eye": "right_eyeball",
            "upper_teeth": "teeth",
            "lower_teeth": "teeth",
            "left_ear": "ears",
            "right_ear": "ears",
            "bun": "hair",
        }.get(name, "lashes" if name.endswith("lashes") else name)
        if name != "skin":
            labels[part.vertices] = label[region]
    return labels
