"""A head without a model: any mesh of fixed topology with one set of offsets per frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vultus.core.bundles import load_bundle, save_bundle
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadPose, ParameterSpec, Topology
from vultus.heads.blendshapes import check_pose
from vultus.heads.regions import complete_regions, open_boundary

__all__ = ["TRACKED_FORMAT", "TrackedMesh"]

TRACKED_FORMAT = "vultus-tracked-1"


class TrackedMesh(nn.Module):
    """Neutral vertices plus ``vertex_offset``, then a rigid motion about the origin."""

    template: Tensor
    weights: Tensor

    def __init__(
        self,
        neutral: Float[Tensor, "v 3"],
        faces: Int[Tensor, "f 3"],
        uv: Float[Tensor, "t 2"] | None = None,
        uv_faces: Int[Tensor, "f 3"] | None = None,
        regions: Mapping[str, Bool[Tensor, " v"]] | None = None,
    ) -> None:
        """Take a mesh; without regions all of it is skin and its open edges are the boundary.

        Args:
            neutral: Vertices at rest, metres.
            faces: Counter-clockwise seen from outside.
            uv: Texture coordinates. Without them, all faces share one point.
            uv_faces: Needed with ``uv``.
            regions: Vertex masks by name.

        Raises:
            ValueError: If faces address missing vertices, or only one of uv and uv_faces is given.
        """
        super().__init__()
        count = neutral.shape[0]
        if faces.numel() and (int(faces.min()) < 0 or int(faces.max()) >= count):
            raise ValueError(
                f"faces must address {count} vertices, got {int(faces.min())} to {int(faces.max())}"
            )
        if (uv is None) != (uv_faces is None):
            raise ValueError("uv and uv_faces must be given together")
        if regions is None:
            boundary = open_boundary(faces, count)
            regions = {"skin": torch.ones(count, dtype=torch.bool), "boundary": boundary}
        self._topology = Topology(
            faces,
            torch.zeros(1, 2) if uv is None else uv,
            torch.zeros_like(faces) if uv_faces is None else uv_faces,
            complete_regions(regions, count),
        )
        self.register_buffer("template", neutral)
        self.register_buffer("weights", torch.ones(count, 1))

    @classmethod
    def from_track(
        cls, track: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"], neutral_frame: int = 0
    ) -> tuple[TrackedMesh, HeadPose]:
        """Split an animation into a head and its poses.

        Args:
            track: Posed vertices per frame, metres.
            faces: Counter-clockwise seen from outside.
            neutral_frame: Frame that is the neutral.
        """
        neutral = track[neutral_frame]
        return cls(neutral, faces), HeadPose(vertex_offset=track - neutral)

    @classmethod
    def from_file(cls, path: Path) -> TrackedMesh:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a tracked mesh.
        """
        bundle = load_bundle(path)
        if bundle.metadata.get("format") != TRACKED_FORMAT:
            raise ValueError(
                f"{path}: format must be {TRACKED_FORMAT}, got {bundle.metadata.get('format')}"
            )
        masks = dict(zip(bundle.metadata["regions"], bundle.tensor("regions").bool(), strict=True))
        return cls(
            bundle.tensor("neutral"),
            bundle.tensor("faces"),
            bundle.tensor("uv"),
            bundle.tensor("uv_faces"),
            masks,
        )

    def save(self, path: Path) -> None:
        """Write the mesh (not the poses) as safetensors."""
        topology = self._topology
        tensors = {
            "neutral": self.template,
            "faces": topology.faces,
            "uv": topology.uv,
            "uv_faces": topology.uv_faces,
            "regions": torch.stack(list(topology.regions.values())).to(torch.uint8),
        }
        save_bundle(path, tensors, {"format": TRACKED_FORMAT, "regions": list(topology.regions)})

    @property
    def name(self) -> str:
        """``"tracked"``."""
        return "tracked"

    @property
    def version(self) -> str:
        """Number of vertices: offsets of another mesh do not fit."""
        return str(self.template.shape[0])

    @property
    def parameters_spec(self) -> tuple[ParameterSpec, ...]:
        """The inputs by name and size."""
        return (
            ParameterSpec("vertex_offset", 3 * self.template.shape[0]),
            ParameterSpec("global_rotation", 3),
            ParameterSpec("translation", 3),
        )

    @property
    def expression_names(self) -> tuple[str, ...]:
        """None: a tracked mesh can be replayed but not driven."""
        return ()

    @property
    def topology(self) -> Topology:
        """Faces, texture coordinates and regions."""
        return self._topology

    @property
    def neutral(self) -> Float[Tensor, "v 3"]:
        """Vertices at rest."""
        return self.template

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The root alone."""
        return ("root",)

    @property
    def joint_parents(self) -> tuple[int, ...]:
        """The root has none."""
        return (-1,)

    @property
    def skinning_weights(self) -> Float[Tensor, "v 1"]:
        """All ones."""
        return self.weights

    def vertices(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose the mesh.

        Raises:
            ValueError: If ``vertex_offset`` belongs to another mesh.
        """
        check_pose(pose, self.parameters_spec)
        posed = self.template.expand(len(pose), -1, -1)
        if pose.vertex_offset is not None:
            posed = posed + pose.vertex_offset.to(posed)
        if pose.global_rotation is not None:
            rotation = axis_angle_to_matrix(pose.global_rotation.to(posed))
            posed = posed @ rotation.transpose(1, 2)
        if pose.translation is not None:
            posed = posed + pose.translation.to(posed)[:, None]
        return posed
