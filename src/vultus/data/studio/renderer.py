"""Photographs of a posed, textured head with everything that is known about each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from vultus.core.threads import num_threads
from vultus.data.studio._pixel_blocks import (
    block_rays,
    camera_rows,
    dense_pixel_sums,
    pixel_sums,
)
from vultus.data.studio._smooth_normals import SmoothNormals
from vultus.data.studio.frames import StudioFrame
from vultus.data.studio.shading import (
    PackedLight,
    PackedSurface,
    StudioBackend,
    SurfaceSamples,
    shade,
)
from vultus.data.studio.tone_curve import Film, encode_film
from vultus.geometry.cameras import Camera
from vultus.heads.appearance import HeadAppearance
from vultus.kernels.ray_mesh import Bvh, first_hit, morton_order, vertex_visibility
from vultus.render.lighting.envmap import EnvironmentMap, cluster_lights
from vultus.render.lighting.lights import LightList

__all__ = ["Shadows", "StudioRenderer"]

Shadows = Literal["baked_all", "baked_seen", "traced", "none"]

# Shadow rays start this far (metres) off the surface: a tenth of a head's mean edge.
_SHADOW_BIAS = 5e-4
# Samples whose visibility is held at once (a byte per light each).
_TRACED_CHUNK = {"cpu": 2**16, "gpu": 2**20}


@dataclass(frozen=True)
class _PosedMesh:
    bvh: Bvh
    normals: Float[Tensor, "v 3"]


@dataclass(frozen=True)
class _View:
    """Samples of a picture."""

    samples: SurfaceSamples
    depth: Float[Tensor, " m"]
    index: Int[Tensor, " m"] | None
    """Place of the samples among ``block_rays``, where those without a face were left out."""
    width: int
    height: int
    per_axis: int

    def pixel_sums(self, values: Float[Tensor, "m c"]) -> Float[Tensor, "c h w"]:
        """Add up what is seen in each pixel."""
        if self.index is not None:
            return pixel_sums(values, self.index, self.width, self.height, self.per_axis)
        is_empty = self.samples.face[:, None] < 0
        values = values.masked_fill(is_empty, 0.0)
        return dense_pixel_sums(values, self.width, self.height, self.per_axis)


class StudioRenderer:
    """A studio around one subject: set the light, pose the head, take pictures.

    Visibility is baked once per pose and light and serves all cameras. The pictures repeat on a
    device, for any number of threads; those of CPU and GPU differ by the rounding of float32.

    On a GPU, calls return before their work is done, and only setting the light waits for it.
    """

    def __init__(
        self,
        faces: Int[Tensor, "f 3"],
        appearance: HeadAppearance,
        threads: int | None = None,
        *,
        device: torch.device | str = "cpu",
        backend: StudioBackend | None = None,
        indirect: bool = True,
    ) -> None:
        """Prepare a subject.

        Args:
            faces: Topology of the vertices that ``pose`` gets.
            appearance: Textures; per-face fields belong to ``faces``.
            threads: On the CPU; ``None`` takes all.
            device: Where pictures are made.
            backend: Of rays and shading; by default that of the device.
            indirect: Let light bounce between surfaces, and scatter past the terminator of skin.

        Raises:
            ValueError: If the appearance does not fit the faces.
            ModuleNotFoundError: For ``"gpu"`` without Triton, when the first picture is taken.
        """
        self._device = torch.device(device)
        self._backend: StudioBackend = backend or ("cpu" if self._device.type == "cpu" else "gpu")
        self._faces = faces.to(self._device)
        self._indirect = indirect
        self.dress(appearance)
        self._normals: SmoothNormals | None = None
        self._threads = threads or num_threads()
        self._light: PackedLight | None = None
        self._environment: EnvironmentMap | None = None
        self._positions: Tensor | None = None
        self._mesh: _PosedMesh | None = None
        self._order: Tensor | None = None
        self._baked: Tensor | None = None

    def dress(self, appearance: HeadAppearance) -> None:
        """Give the next pictures another surface; poses and lights stay.

        Args:
            appearance: Its per-face fields belong to the faces given at first.

        Raises:
            ValueError: If it does not fit the faces.
        """
        self._surface = PackedSurface.pack(
            self._faces, appearance, self._device, indirect=self._indirect
        )
        self._labels = _shifted_labels(appearance.face_labels).to(self._device)

    @property
    def environment(self) -> EnvironmentMap | None:
        """The map in effect: limited and with exposure; ``None`` under other lights."""
        return self._environment

    @property
    def lights(self) -> LightList | None:
        """The lights in effect, with exposure."""
        return None if self._light is None else self._light.lights

    def set_light(
        self,
        light: EnvironmentMap | LightList,
        num_lights: int = 128,
        exposure: float = 1.0,
        max_radiance_ratio: float | None = 60.0,
    ) -> None:
        """Choose the light of the next pictures.

        Visibility that is baked already is kept if the lights stand where the last ones did.

        Args:
            light: Surroundings, or point and directional lights.
            num_lights: How many lights stand in for a map.
            exposure: Factor on all light.
            max_radiance_ratio: Cut a map at this multiple of its mean, because one texel with most
                of the energy casts a jagged shadow (``EnvironmentMap.limited``).
        """
        if not exposure > 0:
            raise ValueError(f"exposure must be positive, got {exposure}")
        if isinstance(light, LightList):
            if self._positions is None or not torch.equal(light.positions, self._positions):
                self._baked = None
            self._environment, self._positions = None, light.positions
            self._light = PackedLight.pack(light.scaled(exposure), None, self._device)
            return
        self._baked, self._positions = None, None
        if max_radiance_ratio is not None:
            light = light.limited(max_radiance_ratio)
        self._environment = light.scaled(exposure)
        lights = cluster_lights(self._environment, num_lights)
        self._light = PackedLight.pack(lights, self._environment, self._device)

    def pose(
        self, vertices: Float[Tensor, "v 3"], rest_vertices: Float[Tensor, "v 3"] | None = None
    ) -> None:
        """Put the head into the studio.

        Args:
            vertices: World, metres. On a GPU they must be finite; a look would wait for it.
            rest_vertices: Shape that the ray hierarchy is built for, at the first pose only;
                by default these vertices. It changes the speed, not the picture.

        Raises:
            ValueError: If a vertex is not finite; on a GPU at the first pose only.
        """
        vertices = vertices.detach().to(self._device, torch.float32).contiguous()
        if self._mesh is None or self._normals is None:
            rest = vertices if rest_vertices is None else rest_vertices.detach().to(vertices)
            self._order = morton_order(rest)
            self._normals = SmoothNormals(self._faces, len(vertices))
            bvh = Bvh.build(rest, self._faces).refit(vertices)
        else:
            bvh = self._mesh.bvh.refit(vertices, check_values=not vertices.is_cuda)
        self._mesh = _PosedMesh(bvh, self._normals.of(vertices))
        self._baked = None

    def render(
        self,
        camera: Camera,
        samples: int = 2,
        shadows: Shadows = "baked_all",
        background: tuple[float, float, float] | None = (1.0, 1.0, 1.0),
        film: Film = "studio",
    ) -> StudioFrame:
        """Take a picture.

        Args:
            camera: A batch of one.
            samples: Per axis and pixel, on a regular grid; a box filter averages linear light.
            shadows: ``"baked_all"`` interpolates visibility from all vertices, computed once per
                pose; ``"baked_seen"`` the same from the vertices in view, computed per picture
                (faster for one camera per pose; a GPU does as in ``"baked_all"``); ``"traced"``
                finds it per sample: exact, the right choice for a few points with sharp shadows
                and on a GPU, slow for many lights on the CPU; ``"none"`` only leaves out light
                from below the surface's horizon.
            background: Display-encoded color behind the head, or ``None`` for none.
            film: How radiance becomes display values.

        Raises:
            ValueError: If there are several cameras, one that is not finite, no pose or no light.
        """
        if len(camera) != 1:
            raise ValueError(f"render takes one camera, got {len(camera)}")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        if self._mesh is None or self._light is None:
            missing = "pose" if self._mesh is None else "set_light"
            raise ValueError(f"call {missing} before render")
        rows = camera_rows(camera, self._device)
        view = self._look(self._mesh, rows, camera.width, camera.height, samples)
        shaded = self._shade(self._mesh, self._light, view.samples, shadows)
        is_seen = torch.ones(len(view.samples.face), 1, device=self._device)
        sums = view.pixel_sums(torch.cat([*shaded, is_seen], dim=1))
        means, alpha = sums[:-1] / sums[-1:].clamp(min=1.0), sums[-1:] / samples**2
        radiance, albedo, roughness, specular = means.split([3, 3, 1, 1])
        rgb = encode_film(radiance, film)
        if background is not None:
            behind = _color(background, self._device)[:, None, None]
            rgb = alpha * rgb + (1.0 - alpha) * behind
        centers = self._look(self._mesh, rows, camera.width, camera.height, samples=1)
        depth, normals, labels = self._geometry(self._mesh, centers)
        return StudioFrame(rgb, alpha, depth, normals, albedo, labels, roughness, specular)

    def _look(
        self, mesh: _PosedMesh, rows: Float[Tensor, "4 3"], width: int, height: int, samples: int
    ) -> _View:
        """Find out what a camera sees."""
        origins, directions = block_rays(rows, width, height, samples)
        hits = first_hit(
            mesh.bvh, origins, directions, is_sorted=True, check_values=False,
            num_threads=self._threads, backend=self._backend,
        )  # fmt: skip
        seen = SurfaceSamples(hits.face, hits.barycentrics, directions)
        if self._backend == "gpu":
            return _View(seen, hits.distance, None, width, height, samples)
        index = (hits.face >= 0).nonzero()[:, 0]
        return _View(seen[index], hits.distance[index], index, width, height, samples)

    def _geometry(
        self, mesh: _PosedMesh, view: _View
    ) -> tuple[Float[Tensor, "1 h w"], Float[Tensor, "3 h w"], UInt8[Tensor, "h w"]]:
        """Depth, normals and labels at the pixel centres."""
        labels = self._labels[view.samples.face, None].float()
        normals = _smooth_normals(mesh, view.samples)
        image = view.pixel_sums(torch.cat([view.depth[:, None], normals, labels], dim=1))
        return image[:1], image[1:4], image[4].to(torch.uint8)

    def _shade(
        self, mesh: _PosedMesh, light: PackedLight, samples: SurfaceSamples, shadows: Shadows
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 5"]]:
        """Radiance and surface; see ``shading.shade``."""
        vertices, normals = mesh.bvh.vertices, mesh.normals

        def shade_part(part: SurfaceSamples, visible: Tensor) -> tuple[Tensor, Tensor]:
            return shade(
                self._surface, vertices, normals, part, light, visible, self._threads, self._backend
            )

        if shadows != "traced":
            visible = self._vertex_visibility(mesh, light.lights, samples, shadows)
            return shade_part(samples, visible)
        parts = []
        chunk = _TRACED_CHUNK[self._backend]
        for start in range(0, max(len(samples.face), 1), chunk):
            part = samples[start : start + chunk]
            weights = part.barycentrics[..., None]
            points = (vertices[self._faces[part.face]] * weights).sum(dim=1)
            normals_there = _smooth_normals(mesh, part)
            is_wanted = part.face >= 0 if self._backend == "gpu" else None
            visible = self._trace(mesh, points, normals_there, light.lights, is_wanted)
            parts.append(shade_part(part, visible))
        radiance, surface = zip(*parts, strict=True)
        return torch.cat(radiance), torch.cat(surface)

    def _vertex_visibility(
        self, mesh: _PosedMesh, lights: LightList, samples: SurfaceSamples, shadows: Shadows
    ) -> UInt8[Tensor, "v k"]:
        """One row per vertex; rows that the samples do not need may be 0."""
        vertices, normals = mesh.bvh.vertices, mesh.normals
        if shadows == "none":
            return _above_horizon(vertices, normals, lights)
        assert self._order is not None
        # To collect the vertices in view, a GPU would be waited for.
        if shadows == "baked_all" or self._backend == "gpu":
            if self._baked is None:
                self._baked = self._bake(mesh, lights, self._order)
            return self._baked
        is_seen = torch.zeros(vertices.shape[0], dtype=torch.bool)
        is_seen[self._faces[samples.face.unique()]] = True
        return self._bake(mesh, lights, self._order[is_seen[self._order]])

    def _bake(
        self, mesh: _PosedMesh, lights: LightList, order: Int[Tensor, " m"]
    ) -> UInt8[Tensor, "v k"]:
        """Visibility of the vertices that are listed, neighbours next to each other."""
        found = self._trace(mesh, mesh.bvh.vertices[order], mesh.normals[order], lights)
        visible = found.new_zeros(mesh.normals.shape[0], len(lights))
        return visible.index_copy_(0, order, found)

    def _trace(
        self,
        mesh: _PosedMesh,
        points: Float[Tensor, "n 3"],
        normals: Float[Tensor, "n 3"],
        lights: LightList,
        is_wanted: Bool[Tensor, " n"] | None = None,
    ) -> UInt8[Tensor, "n k"]:
        return vertex_visibility(
            mesh.bvh, points, normals, lights.positions, _SHADOW_BIAS, is_wanted=is_wanted,
            is_sorted=True, check_values=False, num_threads=self._threads, backend=self._backend,
        )  # fmt: skip


def _smooth_normals(mesh: _PosedMesh, samples: SurfaceSamples) -> Float[Tensor, "n 3"]:
    """Interpolated unit normals, turned towards the eye where the inside is seen."""
    corners = mesh.bvh.faces[samples.face]
    normals = normalize((mesh.normals[corners] * samples.barycentrics[..., None]).sum(dim=1), dim=1)
    first, second, third = mesh.bvh.vertices[corners].unbind(dim=1)
    outwards = torch.linalg.cross(second - first, third - first)
    is_inside = (outwards * samples.directions).sum(dim=1, keepdim=True) > 0
    return torch.where(is_inside, -normals, normals)


def _above_horizon(
    vertices: Float[Tensor, "v 3"], normals: Float[Tensor, "v 3"], lights: LightList
) -> UInt8[Tensor, "v k"]:
    """Which lights are above the horizon of each vertex: dot(n, position - w vertex) >= 0."""
    planes = torch.cat([normals, -(normals * vertices).sum(dim=1, keepdim=True)], dim=1)
    return (planes @ lights.positions.T >= 0).to(torch.uint8)


@lru_cache(maxsize=8)
def _color(rgb: tuple[float, float, float], device: torch.device) -> Float[Tensor, 3]:
    """Kept, because sending it waits for a GPU."""
    return torch.tensor(rgb, device=device)


def _shifted_labels(face_labels: Int[Tensor, " f"]) -> Int[Tensor, " f"]:
    """Labels as pictures store them: 0 is the background."""
    if face_labels.numel() and not (0 <= int(face_labels.min()) and int(face_labels.max()) < 255):
        raise ValueError(
            "face_labels must lie in [0, 254], got "
            f"{int(face_labels.min())} to {int(face_labels.max())}"
        )
    return face_labels + 1
