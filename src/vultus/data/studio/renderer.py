"""Photographs of a posed, textured head with everything that is known about each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from vultus.core.threads import num_threads
from vultus.data.studio._pixel_blocks import block_directions, pixel_sums
from vultus.data.studio.shading import PackedSurface, SurfaceSamples, shade, tone_map
from vultus.geometry.cameras import Camera, camera_centers
from vultus.geometry.meshes import vertex_normals
from vultus.heads.appearance import HeadAppearance
from vultus.kernels.ray_mesh import Bvh, RayHits, first_hit, morton_order, vertex_visibility
from vultus.render.lighting.envmap import EnvironmentMap, cluster_lights
from vultus.render.lighting.lights import LightList

__all__ = ["Shadows", "StudioFrame", "StudioRenderer"]

Shadows = Literal["baked_all", "baked_seen", "traced", "none"]

# Shadow rays start this far (metres) off the surface: a tenth of a head's mean edge.
_SHADOW_BIAS = 5e-4
# Samples whose visibility is held at once (a byte per light each).
_TRACED_CHUNK = 65536


@dataclass(frozen=True)
class StudioFrame:
    """One photograph and its ground truth."""

    rgb: Float[Tensor, "3 h w"]
    """Display-encoded (``tone_map`` of the mean radiance of the covered samples), then composited:
    alpha * rgb + (1 - alpha) * background. Without a background it is not multiplied by alpha, and
    0 where alpha is 0."""
    alpha: Float[Tensor, "1 h w"]
    """Share of the pixel's samples that are covered."""
    depth: Float[Tensor, "1 h w"]
    """Camera z at the pixel centre in metres; 0 where the centre is not covered."""
    normals: Float[Tensor, "3 h w"]
    """Unit, world axes, towards the camera; smooth shading normals without the normal map, at the
    pixel centre; 0 where it is not covered."""
    albedo: Float[Tensor, "3 h w"]
    """Linear, mean of the covered samples; 0 where alpha is 0."""
    labels: UInt8[Tensor, "h w"]
    """At the pixel centre: 0 for background, else the face's label + 1."""


@dataclass(frozen=True)
class _PosedMesh:
    bvh: Bvh
    normals: Float[Tensor, "v 3"]


class StudioRenderer:
    """A studio around one subject: set the light, pose the head, take pictures.

    Visibility is baked once per pose and light and serves all cameras. Everything runs on the CPU
    and gives the same pictures for any number of threads.
    """

    def __init__(
        self, faces: Int[Tensor, "f 3"], appearance: HeadAppearance, threads: int | None = None
    ) -> None:
        """Prepare a subject.

        Args:
            faces: Topology of the vertices that ``pose`` gets.
            appearance: Textures; per-face fields belong to ``faces``.
            threads: ``None`` takes all.

        Raises:
            ValueError: If the appearance does not fit the faces.
        """
        self._faces = faces
        self._surface = PackedSurface.pack(faces, appearance)
        self._labels = _shifted_labels(appearance.face_labels)
        self._threads = threads or num_threads()
        self._lights: LightList | None = None
        self._environment: EnvironmentMap | None = None
        self._mesh: _PosedMesh | None = None
        self._order: Tensor | None = None
        self._baked: Tensor | None = None

    @property
    def environment(self) -> EnvironmentMap | None:
        """The map in effect: limited and with exposure; ``None`` under other lights."""
        return self._environment

    @property
    def lights(self) -> LightList | None:
        """The lights in effect, with exposure."""
        return self._lights

    def set_light(
        self,
        light: EnvironmentMap | LightList,
        num_lights: int = 128,
        exposure: float = 1.0,
        max_radiance_ratio: float | None = 60.0,
    ) -> None:
        """Choose the light of the next pictures.

        Args:
            light: Surroundings, or point and directional lights.
            num_lights: How many lights stand in for a map.
            exposure: Factor on all light.
            max_radiance_ratio: Cut a map at this multiple of its mean, because one texel with most
                of the energy casts a jagged shadow (``EnvironmentMap.limited``).
        """
        if not exposure > 0:
            raise ValueError(f"exposure must be positive, got {exposure}")
        self._baked = None
        if isinstance(light, LightList):
            self._environment, self._lights = None, light.scaled(exposure)
            return
        if max_radiance_ratio is not None:
            light = light.limited(max_radiance_ratio)
        self._environment = light.scaled(exposure)
        self._lights = cluster_lights(self._environment, num_lights)

    def pose(
        self, vertices: Float[Tensor, "v 3"], rest_vertices: Float[Tensor, "v 3"] | None = None
    ) -> None:
        """Put the head into the studio.

        Args:
            vertices: World, metres.
            rest_vertices: Shape that the ray hierarchy is built for, at the first pose only;
                by default these vertices. It changes the speed, not the picture.
        """
        vertices = vertices.detach().float()
        if self._mesh is None:
            rest = vertices if rest_vertices is None else rest_vertices.detach().float()
            bvh = Bvh.build(rest, self._faces)
            self._order = morton_order(rest)
        else:
            bvh = self._mesh.bvh
        self._mesh = _PosedMesh(bvh.refit(vertices), vertex_normals(vertices, self._faces))
        self._baked = None

    def render(
        self,
        camera: Camera,
        samples: int = 2,
        shadows: Shadows = "baked_all",
        background: tuple[float, float, float] | None = (1.0, 1.0, 1.0),
    ) -> StudioFrame:
        """Take a picture.

        Args:
            camera: A batch of one.
            samples: Per axis and pixel, on a regular grid; a box filter averages linear light.
            shadows: ``"baked_all"`` interpolates visibility from all vertices, computed once per
                pose; ``"baked_seen"`` the same from the vertices in view, computed per picture
                (faster for one camera per pose); ``"traced"`` finds it per sample: slow for many
                lights, but exact, and the right choice for a few points with sharp shadows;
                ``"none"`` only leaves out light from below the surface's horizon.
            background: Display-encoded color behind the head, or ``None`` for none.

        Raises:
            ValueError: If there are several cameras, no pose or no light.
        """
        if len(camera) != 1:
            raise ValueError(f"render takes one camera, got {len(camera)}")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        if self._mesh is None or self._lights is None:
            missing = "pose" if self._mesh is None else "set_light"
            raise ValueError(f"call {missing} before render")
        directions = block_directions(camera, samples)
        hits = self._cast(self._mesh, camera, directions)
        index = (hits.face >= 0).nonzero()[:, 0]
        seen = SurfaceSamples(hits.face[index], hits.barycentrics[index], directions[index])
        shaded = self._shade(self._mesh, self._lights, seen, shadows)
        values = torch.cat([*shaded, torch.ones(len(index), 1)], dim=1)
        sums = pixel_sums(values, index, camera.width, camera.height, samples)
        means, alpha = sums[:6] / sums[6:].clamp(min=1.0), sums[6:] / samples**2
        rgb = tone_map(means[:3])
        if background is not None:
            rgb = alpha * rgb + (1.0 - alpha) * rgb.new_tensor(background)[:, None, None]
        depth, normals, labels = self._geometry(self._mesh, camera)
        return StudioFrame(rgb, alpha, depth, normals, means[3:], labels)

    def _cast(self, mesh: _PosedMesh, camera: Camera, directions: Float[Tensor, "n 3"]) -> RayHits:
        origins = camera_centers(camera).float().expand_as(directions)
        return first_hit(mesh.bvh, origins, directions, is_sorted=True, num_threads=self._threads)

    def _geometry(
        self, mesh: _PosedMesh, camera: Camera
    ) -> tuple[Float[Tensor, "1 h w"], Float[Tensor, "3 h w"], UInt8[Tensor, "h w"]]:
        """Depth, normals and labels at the pixel centres."""
        directions = block_directions(camera, samples=1)
        hits = self._cast(mesh, camera, directions)
        index = (hits.face >= 0).nonzero()[:, 0]
        face = hits.face[index]
        centers = SurfaceSamples(face, hits.barycentrics[index], directions[index])
        # Directions have camera z = 1, so that the distance along them is the depth.
        depth, labels = hits.distance[index, None], self._labels[face, None].float()
        values = torch.cat([depth, _smooth_normals(mesh, centers), labels], dim=1)
        image = pixel_sums(values, index, camera.width, camera.height, samples=1)
        return image[:1], image[1:4], image[4].to(torch.uint8)

    def _shade(
        self, mesh: _PosedMesh, lights: LightList, samples: SurfaceSamples, shadows: Shadows
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
        """Radiance and albedo."""
        environment = None if self._environment is None else self._environment.radiance
        vertices, normals = mesh.bvh.vertices, mesh.normals

        def shade_part(part: SurfaceSamples, visible: Tensor) -> tuple[Tensor, Tensor]:
            return shade(
                self._surface, vertices, normals, part, lights, visible, environment, self._threads
            )

        if shadows != "traced":
            return shade_part(samples, self._vertex_visibility(mesh, lights, samples, shadows))
        parts = []
        for start in range(0, max(len(samples.face), 1), _TRACED_CHUNK):
            part = samples[start : start + _TRACED_CHUNK]
            weights = part.barycentrics[..., None]
            points = (vertices[self._faces[part.face]] * weights).sum(dim=1)
            visible = self._trace(mesh, points, _smooth_normals(mesh, part), lights)
            parts.append(shade_part(part, visible))
        radiance, albedo = zip(*parts, strict=True)
        return torch.cat(radiance), torch.cat(albedo)

    def _vertex_visibility(
        self, mesh: _PosedMesh, lights: LightList, samples: SurfaceSamples, shadows: Shadows
    ) -> UInt8[Tensor, "v k"]:
        """One row per vertex; rows that the samples do not need may be 0."""
        vertices, normals = mesh.bvh.vertices, mesh.normals
        if shadows == "none":
            return _above_horizon(vertices, normals, lights)
        assert self._order is not None
        if shadows == "baked_all":
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
        visible = torch.zeros(mesh.normals.shape[0], len(lights), dtype=torch.uint8)
        visible[order] = self._trace(mesh, mesh.bvh.vertices[order], mesh.normals[order], lights)
        return visible

    def _trace(
        self,
        mesh: _PosedMesh,
        points: Float[Tensor, "n 3"],
        normals: Float[Tensor, "n 3"],
        lights: LightList,
    ) -> UInt8[Tensor, "n k"]:
        return vertex_visibility(
            mesh.bvh,
            points,
            normals,
            lights.positions,
            _SHADOW_BIAS,
            is_sorted=True,
            num_threads=self._threads,
        )


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


def _shifted_labels(face_labels: Int[Tensor, " f"]) -> Int[Tensor, " f"]:
    """Labels as pictures store them: 0 is the background."""
    if face_labels.numel() and not (0 <= int(face_labels.min()) and int(face_labels.max()) < 255):
        raise ValueError(
            "face_labels must lie in [0, 254], got "
            f"{int(face_labels.min())} to {int(face_labels.max())}"
        )
    return face_labels + 1
