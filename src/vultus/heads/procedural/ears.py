"""The outer ear: a polar height field around the concha, closed by a narrower back (mm)."""

from __future__ import annotations

import numpy as np

from vultus.heads.procedural.falloffs import bell
from vultus.heads.procedural.mesh_graph import grid_faces
from vultus.heads.procedural.parts import PartMesh, fan_faces

__all__ = ["EAR_ORIGIN", "build_ear"]

EAR_ORIGIN = np.array([65.5, -10.0, -5.0])
"""Where the left ear meets the head, in front; the middle of the ``ear_size`` mode."""
_CONCHA_OFFSET = np.array([4.6, 1.5, -10.5])
_RINGS, _SPOKES = 14, 38
_FLARE, _TILT = np.radians(20), np.radians(13)
# Outline (mm) over the angle: 0 = backwards, 90 = up, 180 = towards the face; an egg with a lobe.
_OUTLINE_DEGREES = (0, 30, 60, 90, 120, 150, 175, 200, 225, 250, 270, 290, 315, 340, 360)
_OUTLINE_RADII = (
    *(23.5, 27.5, 31.5, 32.0, 26.5, 17.0, 12.5, 12.5),
    *(16.5, 24.0, 27.5, 26.5, 22.0, 21.5, 23.5),
)
_OUTLINE_SCALE = 0.94
# Rings of the back: scale of the outline and depth.
_BACK = ((1.0, -4.2), (0.90, -5.0), (0.70, -8.0), (0.50, -15.0))


def build_ear() -> PartMesh:
    """Left ear; it intersects the skin and is not welded to it.

    Texture: the front is a disc, the back an annulus around it.
    """
    angle = np.arange(_SPOKES) / _SPOKES * 2 * np.pi
    rho = np.linspace(0, 1, _RINGS)[1:]
    outline = _outline(np.degrees(angle))
    radius, phi = np.meshgrid(rho, angle, indexing="ij")
    reach = radius * outline
    flare = 3.2 * np.clip(np.cos(angle), 0, 1)
    front = np.stack([reach * np.cos(phi), reach * np.sin(phi), _relief(radius, phi)], -1)
    back = [
        np.stack([s * outline * np.cos(angle), s * outline * np.sin(angle), z + flare * s], -1)
        for s, z in _BACK
    ]
    center = np.array([[0, 0, _relief(np.zeros((1, 1)), np.zeros((1, 1)))[0, 0]]])
    local = np.concatenate([center, front.reshape(-1, 3), *back])
    rows = grid_faces(len(rho) + len(_BACK), _SPOKES, is_closed=True)[:, ::-1] + 1
    faces = np.concatenate([fan_faces(0, 1 + np.arange(_SPOKES))[:, ::-1], rows])
    scale = np.concatenate([rho * 0.8, [0.84, 0.88, 0.93, 0.99]])
    scale, turn = (grid.ravel() for grid in np.meshgrid(scale, angle, indexing="ij"))
    uv = 0.5 + 0.5 * scale[:, None] * np.stack([np.cos(turn), np.sin(turn)], -1)
    return PartMesh(_place(local), faces, np.concatenate([[[0.5, 0.5]], uv]), faces)


def _outline(degrees: np.ndarray) -> np.ndarray:
    radii = np.interp(degrees, _OUTLINE_DEGREES, _OUTLINE_RADII) * _OUTLINE_SCALE
    offsets = np.arange(-8, 9)
    kernel = np.exp(-0.5 * (offsets / 1.6) ** 2)
    window = (np.arange(len(degrees))[:, None] + offsets) % len(degrees)
    return radii[window] @ (kernel / kernel.sum())


def _relief(radius: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Height (mm) of the front over relative radius and angle."""

    def towards(center: float | int, width: float | int) -> np.ndarray:
        """Bump in the angle, degrees."""
        return bell((np.degrees(phi) - center + 180) % 360 - 180, 0, width)

    lobe = towards(268, 34)
    rim = np.clip(1 - lobe * 1.15, 0, 1) * np.clip(1 - towards(193, 26) * 1.2, 0, 1)
    antihelix = np.clip(towards(0, 62) + towards(300, 30) * 0.7, 0, 1)
    height = 5.6 * bell(radius, 0.91, 0.075) * rim  # helix
    height -= 2.6 * bell(radius, 0.77, 0.07) * rim  # scapha
    height += 4.6 * bell(radius, 0.58, 0.10) * antihelix
    height += 2.6 * bell(radius, 0.66, 0.09) * towards(72, 22)  # upper crus
    height += 2.6 * bell(radius, 0.62, 0.10) * towards(38, 16)  # lower crus
    height -= 10.0 * np.clip(1 - (radius / 0.47) ** 2, 0, 1) ** 0.9  # concha
    height += 7.5 * bell(radius, 0.50, 0.17) * towards(187, 21)  # tragus
    height += 4.0 * bell(radius, 0.58, 0.13) * towards(243, 17)  # antitragus
    height += 2.88 * bell(radius, 0.40, 0.06) * towards(165, 30)  # crus of the helix
    height += 1.6 * lobe * np.clip((radius - 0.45) / 0.4, 0, 1)
    height += 3.2 * np.clip(np.cos(phi), 0, 1) * radius  # outward flare
    return height - 2.2 * np.clip((radius - 0.93) / 0.07, 0, 1) ** 2


def _place(local: np.ndarray) -> np.ndarray:
    """From (backwards, up, outwards) of the ear to the head: flared, and tilted back."""
    backwards = np.array([np.sin(_FLARE), 0, -np.cos(_FLARE)])
    outwards = np.array([np.cos(_FLARE), 0, np.sin(_FLARE)])
    up = np.array([0.05, 1, 0.0])
    up /= np.linalg.norm(up)
    axes = np.stack(
        [
            np.cos(_TILT) * backwards - np.sin(_TILT) * up,
            np.cos(_TILT) * up + np.sin(_TILT) * backwards,
            outwards,
        ]
    )
    return EAR_ORIGIN + _CONCHA_OFFSET + local @ axes
