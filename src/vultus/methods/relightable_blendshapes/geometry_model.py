"""What the geometry stage fits: offsets of a mesh, colours of its vertices, and the light.

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from vultus.core.srgb import srgb_to_linear
from vultus.data.frame_store import Batch
from vultus.data.relighting import light_to_world
from vultus.data.sequence import LightSpace
from vultus.geometry.cameras import Camera, camera_centers
from vultus.geometry.meshes import unique_edges, vertex_normals
from vultus.kernels.env_shade import Materials, shade
from vultus.kernels.mesh_raster import Fragments, antialias, interpolate, rasterize_mesh
from vultus.methods.relightable_blendshapes import geometry_objectives as objectives
from vultus.methods.relightable_blendshapes.environment import (
    light_variation,
    radiance_to_raw,
    raw_to_radiance,
)
from vultus.methods.relightable_blendshapes.geometry_config import (
    GeometryConfig,
    GeometryModelConfig,
)
from vultus.methods.relightable_blendshapes.geometry_objectives import WEIGHT_UNIT
from vultus.methods.relightable_blendshapes.material_objectives import white_light
from vultus.methods.relightable_blendshapes.personal_mesh import PersonalMesh
from vultus.render.lighting.texels import texel_lights

__all__ = [
    "GeometryModel",
    "GeometryTerms",
    "MeshPicture",
    "Perceptual",
    "VertexFacts",
    "draw_mesh",
]

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Distance of two batches of pictures in [0, 1]."""

_FLAME_VERTICES = 5023
"""Of the mesh that the weight of the Laplacian was chosen for."""
_START_ALBEDO, _START_RADIANCE = 0.5, 1.0


class GeometryModel(nn.Module):
    """Owns the parameters at one level of detail."""

    def __init__(self, num_vertices: int, light_height: int) -> None:
        """Start as the head model, grey, under even light.

        Args:
            num_vertices: Of the mesh.
            light_height: Rows of the environment map.
        """
        super().__init__()
        light = torch.full((3, light_height, 2 * light_height), _START_RADIANCE)
        albedo = torch.full((num_vertices, 3), _START_ALBEDO)
        self.offsets = nn.Parameter(torch.zeros(num_vertices, 3))
        """At rest, metres."""
        self.albedo_logits = nn.Parameter(albedo.logit())
        self.light_raw = nn.Parameter(radiance_to_raw(light))

    @property
    def albedo(self) -> Float[Tensor, "v 3"]:
        """Linear, in [0, 1]."""
        return self.albedo_logits.sigmoid()

    @property
    def radiance(self) -> Float[Tensor, "3 h w"]:
        """Of the environment map."""
        return raw_to_radiance(self.light_raw)


@dataclass(frozen=True)
class VertexFacts:
    """What the last look at the frames said about the vertices."""

    labels: Int[Tensor, " v"]
    """``data.semantics.SEMANTIC_GROUPS``."""
    chroma: Float[Tensor, "v 3"]

    def tensors(self) -> dict[str, Tensor]:
        """Both by name."""
        return {"labels": self.labels, "chroma": self.chroma}


@dataclass(frozen=True)
class MeshPicture:
    """A batch of pictures of the mesh."""

    linear: Float[Tensor, "b 3 h w"]
    """Radiance, antialiased, over black."""
    coverage: Float[Tensor, "b 1 h w"]
    """Antialiased."""
    diffuse: Float[Tensor, "b v 3"]
    """Light on white vertices."""
    fragments: Fragments


def draw_mesh(
    vertices: Float[Tensor, "b v 3"],
    mesh: PersonalMesh,
    model: GeometryModel,
    camera: Camera,
    light_space: LightSpace,
    config: GeometryModelConfig,
) -> MeshPicture:
    """Shade the vertices by the whole map, without shadows, and draw the mesh [5.2].

    Args:
        vertices: Posed, with offsets.
        mesh: Their topology.
        model: Colours and light.
        camera: One for each frame.
        light_space: In which axes the map stands.
        config: Whether the surface shines.
    """
    batch, faces = len(vertices), mesh.faces
    normals = vertex_normals(vertices, faces)
    views = normalize(camera_centers(camera)[:, None] - vertices, dim=-1)
    albedo = model.albedo.expand(batch, -1, -1)
    materials = Materials(
        albedo,
        torch.full_like(albedo[..., 0], config.roughness),
        torch.full_like(albedo, config.specular),
    )
    lights = texel_lights(model.radiance, light_to_world(camera, light_space))
    shading = shade(normals, views, materials, lights, has_specular=config.has_specular)
    fragments = rasterize_mesh(vertices, faces, camera)
    hard = torch.cat(
        [interpolate(shading.color, faces, fragments), fragments.is_covered.to(vertices)], dim=1
    )
    smooth = antialias(hard, fragments, faces, mesh.refinement.neighbors)
    return MeshPicture(smooth[:, :3], smooth[:, 3:], shading.diffuse, fragments)


class GeometryTerms:
    """The loss terms on a mesh of one level, with the constants that they need."""

    def __init__(self, mesh: PersonalMesh, facts: VertexFacts, config: GeometryConfig) -> None:
        """Prepare edges, Laplacian and weights.

        Args:
            mesh: At its level.
            facts: About its vertices.
            config: Weights of the terms.
        """
        self._mesh, self._config = mesh, config
        self._laplacian = objectives.neighbor_means(mesh.faces, mesh.num_vertices)
        self._edges = unique_edges(mesh.faces)
        self._keep = config.losses.keep.of_labels(facts.labels)
        self._chroma = facts.chroma

    def of_shape(self, model: GeometryModel, *, is_refined: bool) -> dict[str, Tensor]:
        """Weighted terms of the mesh and of what it is painted and lit with."""
        weights, mesh = self._config.losses, self._mesh
        offsets = WEIGHT_UNIT * model.offsets
        laplacian = objectives.mean_laplacian(offsets, self._laplacian)
        # Offsets between neighbours shrink with the area of faces, and their squares twice.
        density = (mesh.num_vertices / _FLAME_VERTICES) ** 2
        creases = objectives.normal_consistency(
            WEIGHT_UNIT * mesh.rest + offsets, mesh.faces, mesh.refinement.adjacent_faces
        )
        refined = weights.refined_factor if is_refined else 1.0
        albedo = objectives.albedo_smoothness(model.albedo, self._edges, self._chroma)
        return {
            "laplacian": density * weights.laplacian * laplacian,
            "normal_consistency": refined * weights.normal_consistency * creases,
            "keep_head": weights.keep_head * objectives.keep_head(offsets, self._keep),
            "albedo_smoothness": weights.albedo_smoothness * albedo,
            "light_variation": weights.light_variation * light_variation(model.radiance),
        }

    def of_pictures(
        self, picture: MeshPicture, batch: Batch, step: int, perceptual: Perceptual | None
    ) -> dict[str, Tensor]:
        """Weighted terms that compare pictures with the frames, which have mattes."""
        weights, mask = self._config.losses, batch.mask
        assert mask is not None
        target = srgb_to_linear(batch.rgb)
        difference = objectives.tone_mapped_difference(picture.linear, target, mask)
        terms = {
            "photometric": weights.photometric * difference,
            "silhouette": weights.silhouette * objectives.silhouette(picture.coverage, mask),
            "white_light": weights.white_light * white_light(picture.diffuse),
        }
        if perceptual is not None:
            fade = min(1.0, weights.perceptual_fade / step) if weights.perceptual_fade else 1.0
            shown = [
                (mask * objectives.tone_mapped(x)).clamp(0.0, 1.0) for x in (picture.linear, target)
            ]
            terms["perceptual"] = weights.perceptual * fade * perceptual(*shown)
        return terms
