"""Posed meshes of frames: which way they face, and which texels they see.

Everything here is constant while materials are trained, because the mesh is. Figures in brackets
are sections of our specification.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor

from vultus.core.progress import track
from vultus.data.relighting import light_to_world
from vultus.data.sequence import HeadSequence, LightSpace
from vultus.geometry.decimation import decimate
from vultus.heads.base import HeadPose
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.env_shade import Backend
from vultus.kernels.ray_mesh import morton_order
from vultus.kernels.vertex_normals import IncidentFaces, incident_normals
from vultus.methods.relightable_blendshapes.material_mesh import (
    ShadingMesh,
    covered_vertices,
    exposed_faces,
    inside_faces,
    posed_normals,
)
from vultus.methods.relightable_blendshapes.mesh_binding import MeshBinding, bind_to_mesh
from vultus.methods.relightable_blendshapes.visibility import (
    CacheKey,
    OccluderMesh,
    VisibilityCache,
)
from vultus.render.lighting.texels import TexelGrid

__all__ = ["MeshFrames", "PosedMesh", "TracedTrack", "light_turns_by_timestep"]


@dataclass(frozen=True)
class PosedMesh:
    """What Gaussians of b frames look up."""

    normals: Float[Tensor, "b v 3"]
    """Unit."""
    words: Int32[Tensor, "b v w"] | None
    """Texels that vertices see; ``None`` if light passes through everything."""


class MeshFrames:
    """Poses a mesh and traces what hides light from it; a CUDA graph may capture both."""

    def __init__(self, mesh: ShadingMesh, grid: TexelGrid, backend: Backend = "auto") -> None:
        """Build the hierarchy of rays; waits for a GPU."""
        self.mesh = mesh
        self.grid = grid
        self.is_covered = covered_vertices(mesh.rest_vertices, mesh.faces, mesh.occluders)
        """Where no light arrives at rest."""
        self._faces = mesh.faces
        self._exposed = exposed_faces(mesh.faces, self.is_covered, mesh.labels)
        self._is_inside = inside_faces(mesh.faces, mesh.labels)
        self._occluder = OccluderMesh.build(mesh.rest_vertices, mesh.occluders, backend)
        self._all_probes = morton_order(mesh.rest_vertices)
        self._incident = IncidentFaces.build(mesh.faces, len(mesh.rest_vertices))

    def with_grid(self, grid: TexelGrid) -> MeshFrames:
        """The same mesh in a light of other texels; only what is traced differs."""
        other = copy.copy(self)
        other.grid = grid
        return other

    def with_occluder_faces(self, max_faces: int) -> MeshFrames:
        """The same mesh, decimated where it hides light and where Gaussians look that up.

        Its vertices are some of the others. ``bind`` binds to it; normals stay those of the whole
        mesh. Borders and topology may leave more faces: see ``num_occluder_faces``. Takes the CPU
        some seconds, and waits for a GPU.

        Raises:
            ValueError: If ``max_faces`` is not positive.
        """
        other, mesh = copy.copy(self), self.mesh
        occluders = decimate(mesh.rest_vertices, mesh.occluders, max_faces).faces
        other._occluder = OccluderMesh.build(mesh.rest_vertices, occluders, self._occluder.backend)
        other._faces = torch.cat([occluders, mesh.faces[len(mesh.occluders) :]])
        other._exposed = exposed_faces(other._faces, self.is_covered, mesh.labels)
        other._is_inside = inside_faces(other._faces, mesh.labels)
        return other

    @property
    def num_occluder_faces(self) -> int:
        """Faces of the mesh that hides light."""
        return len(self._faces) - (len(self.mesh.faces) - len(self.mesh.occluders))

    def bind(
        self, means: Float[Tensor, "n 3"], is_inside: Bool[Tensor, " n"] | None = None
    ) -> MeshBinding:
        """Nearest points of exposed faces; rows are those of all faces. Waits for a GPU.

        Args:
            means: Neutral Gaussians.
            is_inside: Which of them are bound to the inside of the mouth, and the others to the
                rest; ``None``: all of them to whatever is near.
        """
        exposed = self._exposed
        if is_inside is None:
            return self._bind_to(means, exposed)
        is_inner = self._is_inside[exposed]
        sides = [is_inside.nonzero()[:, 0], (~is_inside).nonzero()[:, 0]]
        bound = [
            self._bind_to(means[rows], exposed[chosen])
            for rows, chosen in zip(sides, (is_inner, ~is_inner), strict=True)
            if len(rows)
        ]
        return MeshBinding.cat(bound)[torch.cat(sides).argsort()]

    def is_bound_inside(self, binding: MeshBinding) -> Bool[Tensor, " n"]:
        """Which points lie on the inside of the mouth."""
        return self._is_inside[binding.face_index]

    def _bind_to(self, means: Float[Tensor, "n 3"], rows: Int[Tensor, " g"]) -> MeshBinding:
        found = bind_to_mesh(means, self.mesh.rest_vertices, self._faces[rows])
        return replace(found, face_index=rows[found.face_index])

    @torch.no_grad()
    def normals(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Of the posed vertices."""
        return self._normals(self.mesh.vertices(pose))

    @torch.no_grad()
    def traced(
        self,
        pose: HeadPose,
        light_turns: Float[Tensor, "b 3 3"],
        probes: Int[Tensor, " p"] | None = None,
    ) -> PosedMesh:
        """Pose, refit and trace.

        Args:
            pose: Of b frames.
            light_turns: Rotations from the map's frame into the world.
            probes: Vertices whose words are looked up, as of ``MeshBinding.probes``; ``None`` for
                all. The others are told to see nothing.
        """
        vertices = self.mesh.vertices(pose)
        normals = self._normals(vertices)
        directions = (self.grid.directions @ light_turns.mT).contiguous()
        probes = self._all_probes if probes is None else probes
        return PosedMesh(normals, self._occluder.trace(vertices, normals, directions, probes))

    def _normals(self, vertices: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]:
        if are_for_kernels(vertices):
            return incident_normals(vertices, self._incident)
        return posed_normals(vertices, self.mesh.faces)


@dataclass(frozen=True)
class TracedTrack:
    """Words of the timesteps of a track that are trained on, on the device of the training."""

    rows: Int[Tensor, " timesteps"]
    """Row of ``words`` by timestep; -1 for what was not traced."""
    words: Int32[Tensor, "frames v w"]

    @classmethod
    def trace(
        cls,
        frames: MeshFrames,
        pose: HeadPose,
        light_turns: Mapping[int, Float[Tensor, "3 3"]],
        path: Path | None = None,
    ) -> TracedTrack:
        """Trace some timesteps, which takes the CPU about a second each.

        Args:
            frames: The mesh.
            pose: The whole track, on the device.
            light_turns: Rotation of the light by timestep.
            path: File that keeps the words; read instead if it exists already.

        Raises:
            ValueError: If the file holds other frames, or was made for another mesh.
        """
        timesteps = sorted(light_turns)
        directions = frames.grid.directions

        def trace(index: int) -> Int32[Tensor, "v w"]:
            timestep = timesteps[index]
            turn = light_turns[timestep].to(directions)[None]
            words = frames.traced(pose[timestep], turn).words
            assert words is not None
            return words[0]

        if path is None:
            first = trace(0)
            words = first.new_empty(len(timesteps), *first.shape)
            words[0] = first
            rest = range(1, len(timesteps))
            for index in track(rest, len(rest), "tracing shadows", "frames"):
                words[index] = trace(index)
        else:
            turns = torch.stack([light_turns[timestep] for timestep in timesteps])
            key = _cache_key(frames, pose, torch.tensor(timesteps), turns)
            if path.exists():
                cache = VisibilityCache.open(path, key)
            else:
                cache = VisibilityCache.build(path, key, trace)
            words = cache.load(directions.device)
        rows = torch.full((len(pose),), -1)
        rows[timesteps] = torch.arange(len(timesteps))
        return cls(rows.to(directions.device), words)

    def at(self, timesteps: Int[Tensor, " b"]) -> Int32[Tensor, "b v w"]:
        """Words of traced timesteps; nothing waits for a GPU."""
        return self.words.index_select(0, self.rows.index_select(0, timesteps))


def light_turns_by_timestep(sequence: HeadSequence, space: LightSpace) -> dict[int, Tensor]:
    """Rotations of the light for every timestep of the training split.

    Raises:
        ValueError: If the light stands with the camera and there are several cameras at a moment.
    """
    turns: dict[int, Tensor] = {}
    for record in sequence.split("train"):
        turn = light_to_world(record.camera, space)[0]
        known = turns.setdefault(record.timestep, turn)
        if not torch.equal(known, turn):
            raise ValueError(
                f"{record.image_path}: light that stands with the camera needs one camera per "
                f"moment, timestep {record.timestep} has several"
            )
    return turns


def _cache_key(
    frames: MeshFrames, pose: HeadPose, timesteps: Tensor, light_turns: Tensor
) -> CacheKey:
    mesh, grid = frames.mesh, frames.grid
    fields = pose.tensors()
    digest = CacheKey.hash_of(
        mesh.rest_vertices, mesh.occluders, timesteps, light_turns, grid.directions,
        *(fields[name] for name in sorted(fields)),
    )  # fmt: skip
    return CacheKey(len(timesteps), len(mesh.rest_vertices), len(grid.directions), digest)
