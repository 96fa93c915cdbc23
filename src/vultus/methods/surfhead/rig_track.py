"""The rig parameters of a sequence, trainable where the config asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import Parameter

from vultus.heads.base import HeadModel, HeadPose, RiggedHead, head_on_device
from vultus.methods.surfhead.config import ModelConfig, OptimConfig
from vultus.methods.surfhead.transport import PosedFaces, RestMesh, pose_faces

__all__ = ["RigTrack"]


class RigTrack:
    """Poses triangles of any timestep; caches them while nothing about the rig changes.

    Shape and static offset are never trained (spec section 6), so the rest mesh is constant.
    """

    def __init__(
        self,
        head: HeadModel,
        pose: HeadPose,
        model: ModelConfig,
        optim: OptimConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        """Prepare the rest mesh and make trainable what ``optim`` asks for.

        On another device than the CPU, a copy of the head is posed; the caller's stays.
        """
        self._head = head_on_device(head, device)
        pose = pose.to(device)
        self._model = model
        self._rates = {} if not optim.finetune_rig else _learning_rates(pose, optim)
        self._pose = pose
        self.parameters = {
            name: Parameter(getattr(pose, name).clone().contiguous()) for name in self._rates
        }
        with torch.no_grad():
            self.rest_vertices = self._head.vertices(_rest_pose(pose))[0]
        self.rest = RestMesh.build(
            self.rest_vertices, head.topology.faces.to(device), model.third_edge
        )
        self._pose_vertices, self._moving = self._split_track()
        self._cache: dict[int, PosedFaces] = {}
        self._all: PosedFaces | None = None
        self._has_looked_at_all = False

    @property
    def pose(self) -> HeadPose:
        """The track with the current values of the trained fields, detached."""
        return self._pose.replace(**{n: p.detach() for n, p in self.parameters.items()})

    @property
    def learning_rates(self) -> Mapping[str, float]:
        """Learning rate of each trained field; empty when the rig is frozen."""
        return self._rates

    def training_faces(self, timesteps: Tensor) -> PosedFaces:
        """Triangles of training timesteps, differentiable in the trained fields."""
        if self.parameters:
            return self._faces_at(timesteps)
        if timesteps.is_cuda:
            # Which timestep it is, only the GPU knows.
            posed = self._all_timesteps()
            return self._faces_at(timesteps) if posed is None else posed[timesteps]
        if timesteps.shape[0] == 1:
            return self._cached(int(timesteps[0]))
        return self._faces_at(timesteps)

    def faces(self, pose: HeadPose) -> PosedFaces:
        """Triangles of any poses of this head."""
        return pose_faces(self._head.vertices(pose), self.rest, self._model.rig)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the trained fields."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[name])

    def _split_track(self) -> tuple[Callable[[HeadPose], Tensor], HeadPose]:
        """What poses the head from the fields that move, and those fields.

        A subject is shaped here, once, if the head can do so and the track is of one subject.
        Fields that the head does not read are left out.
        """
        head, given = self._head, self._pose.tensors()
        spec = [each for each in head.parameters_spec if each.name in given]
        read = HeadPose(**{each.name: given[each.name] for each in spec})
        static = [each.name for each in spec if each.is_static]
        moving = read.replace(**dict.fromkeys(static))
        is_one = len(moving) == len(read) and all(_rows_are_equal(given[n]) for n in static)
        if not (is_one and isinstance(head, RiggedHead)):
            return head.vertices, read
        with torch.no_grad():
            return partial(head.pose_subject, head.subject_rest(_rest_pose(self._pose))), moving

    def _faces_at(self, timesteps: int | Tensor) -> PosedFaces:
        """Triangles of moments of the track, differentiable in the trained fields."""
        read = self._moving.tensors()
        trained = {name: value for name, value in self.parameters.items() if name in read}
        pose = self._moving.replace(**trained)[timesteps]
        return pose_faces(self._pose_vertices(pose), self.rest, self._model.rig)

    def _cached(self, timestep: int) -> PosedFaces:
        if timestep in self._cache:
            return self._cache[timestep]
        with torch.no_grad():
            posed = self._faces_at(timestep)
        # Epochs repeat one order, so that a full cache had better keep what it has: replacing the
        # oldest entry would throw out each one before its next use.
        if (len(self._cache) + 1) * posed.num_bytes <= self._model.pose_cache_mib * 2**20:
            self._cache[timestep] = posed
        return posed

    @torch.no_grad()
    def _all_timesteps(self) -> PosedFaces | None:
        """Triangles of all timesteps, made at the first call; None if the cache has no room."""
        if not self._has_looked_at_all:
            self._has_looked_at_all = True
            first, num = self._faces_at(0), len(self._pose)
            if num * first.num_bytes <= self._model.pose_cache_mib * 2**20:
                others = [self._faces_at(i) for i in range(1, num)]
                self._all = PosedFaces.cat([first, *others])
        return self._all


def _rows_are_equal(field: Tensor) -> bool:
    return bool((field == field[:1]).all())


def _rest_pose(pose: HeadPose) -> HeadPose:
    first = pose[0]
    return HeadPose(identity_coeffs=first.identity_coeffs, static_offset=first.static_offset)


def _learning_rates(pose: HeadPose, optim: OptimConfig) -> dict[str, float]:
    rates = {
        "expression_coeffs": optim.expression_lr,
        "global_rotation": optim.pose_lr,
        "neck_pose": optim.pose_lr,
        "jaw_pose": optim.pose_lr,
        "eye_pose": optim.pose_lr,
        "translation": optim.translation_lr,
    }
    return {name: rate for name, rate in rates.items() if getattr(pose, name) is not None}
