"""Speed of a relit frame and its parts: blend, pose, trace, shade, splat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vultus.bench.results import Row
from vultus.bench.timing import Timing
from vultus.bench.training import time_modes
from vultus.core.seeding import torch_generator
from vultus.data.relighting import light_to_world
from vultus.data.sequence import HeadSequence
from vultus.geometry.cameras import Camera, fov_to_focal, look_at
from vultus.heads.base import HeadPose
from vultus.heads.registry import load_head
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.methods.relightable_blendshapes.appearance import View
from vultus.methods.relightable_blendshapes.config import RelightableBlendshapesConfig
from vultus.methods.relightable_blendshapes.material_appearance import Light
from vultus.methods.relightable_blendshapes.material_frames import PosedMesh
from vultus.methods.relightable_blendshapes.material_relighting import material_appearance
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.posing import PosedGaussians, pose_gaussians
from vultus.methods.relightable_blendshapes.rig_motion import RigMotion

__all__ = ["FRAME", "RelightBenchScene", "bench_relighting"]

FRAME = "frame"
"""The part that rows are compared by: from expression and joints to the picture."""
_DISTANCE, _FIELD_OF_VIEW = 1.0, 0.4
_EXPRESSION_SIZE = 0.2
_OPACITY_LOGIT = 2.0


@dataclass(frozen=True)
class RelightBenchScene:
    """The built-in head in a random expression and light."""

    num: int = 70_000
    """Gaussians, about."""
    size: int = 512
    """Width and height of the picture."""
    map_rows: int = 16
    """Of the light, which is twice as wide."""
    num_expressions: int = 50
    occluder_faces: int | None = None
    """Of the decimated mesh that hides light, if borders and topology allow so few; ``None``:
    all."""

    @property
    def name(self) -> str:
        """For tables."""
        texels = f"{self.map_rows} x {2 * self.map_rows} texels"
        name = f"{self.num} Gaussians, {self.size} x {self.size} pixels, {texels}"
        faces = self.occluder_faces
        return name if faces is None else f"{name}, {faces} faces hide light"


def bench_relighting(
    scene: RelightBenchScene, repeats: int, *, device: torch.device | str = "cpu"
) -> list[Row]:
    """Time frames whose visibility is traced, traced every other time, and known; and the parts.

    On a GPU there are rows of eager calls and of CUDA graphs.

    Args:
        scene: What is drawn.
        repeats: Timed calls of each part.
        device: Where.
    """
    frame = _Frame(scene, torch.device(device))
    with torch.no_grad():
        times = time_modes(frame.calls(), repeats, device)
    name = "gpu" if torch.device(device).type == "cuda" else "cpu"
    facts = {"bench": "relighting", **vars(scene), "probes": frame.num_probes}
    facts["num_occluder_faces"] = frame.num_occluder_faces
    if scene.occluder_faces is not None:
        scene = replace(scene, occluder_faces=frame.num_occluder_faces)
    rows = []
    for mode in dict.fromkeys(mode for _, mode in times):
        parts = {part: times[part, mode] for part in ("blend", "pose", "visibility", "shade")}
        parts["splat"] = times["splat", mode]
        live, known = times["live", mode], times["known", mode]
        frames = {
            "traced live": live,
            "traced at half rate": Timing(
                0.5 * (live.median + known.median), 0.5 * (live.minimum + known.minimum)
            ),
            "visibility known": known,
        }
        for kind, timing in frames.items():
            seconds = {**parts, FRAME: timing}
            rows.append(Row(scene.name, f"{name}, {kind}", mode, seconds, facts=facts))
    return rows


class _Frame:
    """Everything that a frame starts from, and its parts as calls."""

    def __init__(self, scene: RelightBenchScene, device: torch.device) -> None:
        generator = torch_generator(0, "bench.relighting")
        sequence, pose = _performance(generator)
        config = RelightableBlendshapesConfig()
        model = replace(
            config.model, appearance="pbr", num_points=scene.num,
            num_expressions=scene.num_expressions, teeth="never",
        )  # fmt: skip
        materials = replace(config.materials, map_rows=scene.map_rows, visibility="live")
        config = replace(config, model=model, materials=materials)
        self._avatar = RelightableBlendshapes(config, sequence, 0, device)
        self._avatar.gaussians["opacity_logits"].data.fill_(_OPACITY_LOGIT)
        self._appearance = material_appearance(self._avatar)
        if scene.occluder_faces is not None:
            self._appearance = self._appearance.with_occluder_faces(scene.occluder_faces)
        rig = RigMotion(sequence.head, sequence.pose, scene.num_expressions, device=device)
        self._motion = rig.motion(pose.to(device))
        self._view = View(pose.to(device), _camera(scene.size).to(device))
        radiance = torch.rand(3, scene.map_rows, 2 * scene.map_rows, generator=generator)
        turns = light_to_world(self._view.camera, "world")
        self._light = Light(radiance.to(device), turns)

    @property
    def num_probes(self) -> int:
        """Vertices of the mesh."""
        return self._appearance.mesh.rest_vertices.shape[0]

    @property
    def num_occluder_faces(self) -> int:
        """Faces of the mesh that hides light."""
        return self._appearance.frames.num_occluder_faces

    def calls(self) -> dict[str, Callable[[], object]]:
        """Parts, and frames with traced and with known visibility."""
        blended, mesh = self._blend(), self._trace()
        posed = self._pose(blended)
        colors = self._shade(blended, posed, mesh)
        return {
            "blend": self._blend,
            "pose": lambda: self._pose(blended),
            "visibility": self._trace,
            "shade": lambda: self._shade(blended, posed, mesh),
            "splat": lambda: self._splat(posed, colors),
            "live": lambda: self._draw(self._trace()),
            "known": lambda: self._draw(mesh),
        }

    def _blend(self) -> dict[str, Tensor]:
        return self._avatar.blended(self._motion.expression)

    def _pose(self, blended: dict[str, Tensor]) -> PosedGaussians:
        return pose_gaussians(blended, self._avatar.anchors, self._motion)

    def _trace(self) -> PosedMesh:
        return self._appearance.posed_mesh(self._view, self._light.turns)

    def _shade(self, blended: dict[str, Tensor], posed: PosedGaussians, mesh: PosedMesh) -> Tensor:
        return self._appearance.relight(blended, posed, self._view, mesh, self._light).colors

    def _splat(self, posed: PosedGaussians, colors: Tensor) -> Tensor:
        drawn = rasterize_gaussians(
            posed.means, posed.quats, posed.scales, posed.opacities, self._view.camera,
            features=colors, near=self._avatar.config.model.near,
        )  # fmt: skip
        return self._appearance.picture(drawn.image, drawn.alpha, self._view)

    def _draw(self, mesh: PosedMesh) -> Tensor:
        blended = self._blend()
        posed = self._pose(blended)
        return self._splat(posed, self._shade(blended, posed, mesh))


def _performance(generator: torch.Generator) -> tuple[HeadSequence, HeadPose]:
    """A capture without pictures, and a pose to draw."""
    head = load_head("procedural")
    sizes = {spec.name: spec.size for spec in head.parameters_spec}
    expression = torch.rand(1, sizes["expression_coeffs"], generator=generator)
    pose = HeadPose(
        identity_coeffs=torch.zeros(1, sizes["identity_coeffs"]),
        expression_coeffs=_EXPRESSION_SIZE * expression,
        jaw_pose=torch.tensor([[0.1, 0.0, 0.0]]),
        neck_pose=torch.tensor([[0.05, 0.2, 0.0]]),
    )
    sequence = HeadSequence(root=Path(), frames=(), splits={}, head=head, pose=pose)
    return sequence, pose


def _camera(size: int) -> Camera:
    focal = fov_to_focal(_FIELD_OF_VIEW, size)
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    eye = torch.tensor([[0.0, 0.0, _DISTANCE]])
    return Camera(look_at(eye, torch.zeros(3)), intrinsics[None], size, size)
