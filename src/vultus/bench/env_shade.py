"""Speed and memory of shading by an environment map, and of tracing the visibility it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vultus.bench.gpu_timing import allocated_memory, peak_memory
from vultus.bench.rays import head_like_mesh
from vultus.bench.results import BOTH, FORWARD, Row
from vultus.bench.training import time_modes
from vultus.geometry.meshes import vertex_normals
from vultus.kernels.env_shade import Backend, Materials, Shadows, TexelLights, shade, trace_words
from vultus.kernels.ray_mesh import Bvh
from vultus.render.lighting.texels import texel_lights

__all__ = ["TRACING", "ShadeBenchScene", "bench_shading", "bench_tracing"]

TRACING = "refit, trace and pack"
"""Name of the part that ``bench_tracing`` times."""
_MIN_ROUGHNESS = 0.3
_CAMERA = (0.0, 0.0, 1.0)
_MOTION = 1.01
"""Factor on a posed mesh, so that boxes change."""

Calls = tuple[Callable[[], object], Callable[[], object]]


@dataclass(frozen=True)
class ShadeBenchScene:
    """Gaussians on a head-like mesh whose vertices are the probes."""

    num: int = 70_000
    height: int = 16
    """Rows of the map, which is twice as wide."""
    num_faces: int = 20_000
    """Triangles of the mesh, about; half as many probes."""

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.num} Gaussians, {self.height} x {2 * self.height} texels"


def bench_shading(
    scene: ShadeBenchScene,
    repeats: int,
    *,
    device: torch.device | str = "cpu",
    has_reference: bool = False,
) -> list[Row]:
    """Time forward passes without gradients, and passes with gradients of all that is trained.

    On a GPU there are rows of eager calls and of CUDA graphs. Memory is what a pass with gradients
    takes beyond its inputs.

    Args:
        scene: What to shade.
        repeats: Timed calls of each implementation.
        device: Where to shade.
        has_reference: Time the reference, too, which holds all pairs of Gaussians and texels.
    """
    inputs = _Inputs.build(scene, device)
    name: Backend = "gpu" if torch.device(device).type == "cuda" else "cpu"
    makers = {
        name: partial(inputs.calls, name, True),
        f"{name}, no shadows": partial(inputs.calls, name, False),
    }
    if has_reference:
        makers["ref"] = partial(inputs.calls, "ref", True)
    return [
        row
        for implementation, make in makers.items()
        for row in _measure(scene, implementation, make(), repeats, device)
    ]


def bench_tracing(
    scene: ShadeBenchScene, repeats: int, *, device: torch.device | str = "cpu"
) -> list[Row]:
    """Time a frame's visibility: the hierarchy refitted, all probes traced, bits packed.

    Args:
        scene: Whose mesh and map; Gaussians do not matter.
        repeats: Timed calls.
        device: Where to trace.
    """
    vertices, faces = (x.to(device) for x in head_like_mesh(scene.num_faces))
    bvh, posed = Bvh.build(vertices, faces), _MOTION * vertices
    normals = vertex_normals(posed, faces)
    directions = _lights(scene, device).directions[0]

    def trace() -> Tensor:
        return trace_words(bvh.refit(posed), posed, normals, directions, check_values=False)

    name = "gpu" if vertices.is_cuda else "cpu"
    title = f"{len(vertices)} probes x {len(directions)} texels, {len(faces)} faces"
    facts = {"bench": "tracing", **vars(scene)}
    return [
        Row(title, name, mode, {TRACING: timing}, facts=facts)
        for (_, mode), timing in time_modes({TRACING: trace}, repeats, device).items()
    ]


def _lights(scene: ShadeBenchScene, device: torch.device | str) -> TexelLights:
    generator = torch.Generator().manual_seed(1)
    radiance = torch.rand(3, scene.height, 2 * scene.height, generator=generator).to(device)
    return texel_lights(radiance, torch.eye(3, device=device)[None])


@dataclass(frozen=True)
class _Inputs:
    """What all implementations get."""

    trained: tuple[Tensor, ...]
    """Normals, view directions, albedo, roughness, specular and irradiances."""
    directions: Tensor
    shadows: Shadows

    @classmethod
    def build(cls, scene: ShadeBenchScene, device: torch.device | str) -> _Inputs:
        """Random points of the mesh with random materials; neighbours in the list are near."""
        generator = torch.Generator().manual_seed(0)
        vertices, faces = head_like_mesh(scene.num_faces)
        chosen = torch.randint(0, len(faces), (scene.num,), generator=generator).sort().values
        probes = faces[chosen]
        weights = torch.rand(scene.num, 3, generator=generator)
        weights /= weights.sum(dim=1, keepdim=True)
        normals = vertex_normals(vertices, faces)
        mixed = normalize((weights[..., None] * normals[probes]).sum(dim=1), dim=-1)
        points = (weights[..., None] * vertices[probes]).sum(dim=1)
        lights = _lights(scene, "cpu")
        words = trace_words(Bvh.build(vertices, faces), vertices, normals, lights.directions[0])
        numbers = torch.rand(scene.num, 7, generator=generator)
        roughness = _MIN_ROUGHNESS + (1 - _MIN_ROUGHNESS) * numbers[:, 0]
        gaussians = (
            mixed,
            normalize(torch.tensor(_CAMERA) - points, dim=-1),
            numbers[:, 1:4].contiguous(),
            roughness,
            numbers[:, 4:].contiguous(),
        )
        return cls(
            (*(x[None].to(device) for x in gaussians), lights.irradiances.to(device)),
            lights.directions.to(device),
            Shadows(words[None].to(device), probes.to(device), weights.to(device)),
        )

    def calls(self, backend: Backend, has_shadows: bool) -> Calls:
        """A forward pass, and one with gradients."""
        leaves = tuple(x.detach().requires_grad_() for x in self.trained)
        shadows = self.shadows if has_shadows else None
        upstream = torch.ones_like(leaves[0])

        def render() -> tuple[Tensor, Tensor]:
            normals, views, albedo, roughness, specular, irradiances = leaves
            materials = Materials(albedo, roughness, specular)
            lights = TexelLights(self.directions, irradiances)
            shading = shade(normals, views, materials, lights, shadows, backend=backend)
            return shading.color, shading.diffuse

        def forward() -> object:
            with torch.no_grad():
                return render()

        def both() -> object:
            return torch.autograd.grad(render(), leaves, (upstream, upstream))

        return forward, both


def _measure(
    scene: ShadeBenchScene,
    name: str,
    both_calls: Calls,
    repeats: int,
    device: torch.device | str,
) -> list[Row]:
    calls = dict(zip((FORWARD, BOTH), both_calls, strict=True))
    memory = None
    if torch.device(device).type == "cuda":
        before = allocated_memory()
        memory = peak_memory(calls[BOTH]) - before
    times = {part: time_modes({name: call}, repeats, device) for part, call in calls.items()}
    facts = {"bench": "shading", **vars(scene)}
    return [
        Row(scene.name, *key, {part: times[part][key] for part in times}, memory, facts)
        for key in times[BOTH]
    ]
