"""The geometry stage under training: one step, one look at the frames, one subdivision.

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from vultus.core.run_folder import Checkpoint
from vultus.core.seeding import torch_generator
from vultus.data.frame_store import Batch, FrameStore
from vultus.data.frames import load_frame
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.geometry.cameras import Camera
from vultus.heads.base import JointedHead, head_on_device
from vultus.kernels.mesh_raster import Fragments, rasterize_mesh
from vultus.methods.relightable_blendshapes.geometry_config import GeometryConfig
from vultus.methods.relightable_blendshapes.geometry_judging import MeshScores, judge_mesh
from vultus.methods.relightable_blendshapes.geometry_labels import (
    VertexViews,
    nearest_corners,
    vote_labels,
)
from vultus.methods.relightable_blendshapes.geometry_model import (
    GeometryModel,
    GeometryTerms,
    MeshPicture,
    Perceptual,
    VertexFacts,
    draw_mesh,
)
from vultus.methods.relightable_blendshapes.material_mesh import region_labels
from vultus.methods.relightable_blendshapes.personal_mesh import PersonalMesh, static_pose
from vultus.methods.saved_tensors import check_saved_tensors
from vultus.nets.weights import load_weights
from vultus.optim.backward import backward_of_sum
from vultus.optim.moments import load_moments, saved_moments

__all__ = ["GeometryTrainer", "check_capture"]

_LOG = logging.getLogger(__name__)

_PER_VERTEX = ("offsets", "albedo_logits")
_MASKED_CHANNELS = 4
_MOMENTS = ("exp_avg", "exp_avg_sq")


class GeometryTrainer:
    """Mesh, parameters, optimiser and what is known about the vertices."""

    def __init__(
        self,
        sequence: HeadSequence,
        frames: FrameStore,
        config: GeometryConfig,
        seed: int,
        device: torch.device,
        perceptual: Perceptual | None = None,
    ) -> None:
        """Start as the head model.

        Args:
            sequence: The capture.
            frames: Its training frames, with mattes.
            config: All settings.
            seed: Decides which frames are seen when.
            device: Where to compute.
            perceptual: On that device.

        Raises:
            ValueError: As ``check_capture``.
        """
        check_capture(sequence, frames)
        if all(record.parsing_path is None for record in frames.records):
            _LOG.warning(
                "%s: has no label maps; vertices keep the labels of the head model's regions",
                sequence.root,
            )
        self.sequence, self.frames, self.config = sequence, frames, config
        self.device, self._seed, self._perceptual = device, seed, perceptual
        head = head_on_device(sequence.head, device)
        assert isinstance(head, JointedHead)
        self.subject = static_pose(head, sequence.pose).to(device)
        self.pose = sequence.pose.to(device)
        self.mesh = PersonalMesh.of(head, self.subject, 0, device)
        self.facts = VertexFacts(
            region_labels(head.topology).to(device),
            torch.full((self.mesh.num_vertices, 3), 1.0 / 3.0, device=device),
        )
        self._start(GeometryModel(self.mesh.num_vertices, config.model.light_height))

    def _start(self, model: GeometryModel) -> None:
        """Take parameters for those of the current mesh."""
        self.model = model.to(self.device)
        groups = [
            {"name": name, "params": [parameter], "lr": 0.0}
            for name, parameter in self.model.named_parameters()
        ]
        self._optimizer = torch.optim.Adam(groups)
        self._terms = GeometryTerms(self.mesh, self.facts, self.config)

    def rows(self, step: int) -> Int[Tensor, " b"]:
        """The frames of a step (the first is 1): all once, in a new order, then all again."""
        size, total = self.config.optim.batch_size, len(self.frames)
        found = []
        for place in range((step - 1) * size, step * size):
            generator = torch_generator(self._seed, f"geometry.epoch_{place // total}")
            found.append(torch.randperm(total, generator=generator)[place % total])
        return torch.stack(found)

    def batch(self, rows: Int[Tensor, " b"], factor: int = 1) -> Batch:
        """Frames on the device, smaller by a factor."""
        batch = self.frames.batch(rows)
        camera, rgb, mask = batch.camera, batch.rgb, batch.mask
        assert mask is not None
        if factor > 1:
            width, height = max(1, camera.width // factor), max(1, camera.height // factor)
            camera = camera.resized(width, height)
            rgb, mask = (F.adaptive_avg_pool2d(image, (height, width)) for image in (rgb, mask))
        device = self.device
        return Batch(batch.timesteps.to(device), camera.to(device), rgb.to(device), mask.to(device))

    def draw(self, batch: Batch) -> MeshPicture:
        """Picture of the mesh as it is now."""
        with torch.no_grad():
            posed = self.mesh.frames(self.pose[batch.timesteps])
        return draw_mesh(
            posed.carry(self.model.offsets),
            self.mesh,
            self.model,
            batch.camera,
            self.sequence.light_space,
            self.config.model,
        )

    def rasterize(self, vertices: Float[Tensor, "b v 3"], camera: Camera) -> Fragments:
        """What pixels see of posed vertices of the mesh."""
        return rasterize_mesh(vertices, self.mesh.faces, camera)

    def step(self, step: int) -> dict[str, Tensor]:
        """One step of the optimiser; returns the weighted terms.

        Args:
            step: Its number, from 1.
        """
        optim = self.config.optim
        self._set_rates(step)
        batch = self.batch(
            self.rows(step), optim.coarse_factor if step <= optim.coarse_until else 1
        )
        terms = {
            **self._terms.of_pictures(self.draw(batch), batch, step, self._perceptual),
            **self._terms.of_shape(self.model, is_refined=self.config.is_refined(step)),
        }
        self._optimizer.zero_grad()
        backward_of_sum(terms)
        self._optimizer.step()
        return {name: term.detach() for name, term in terms.items()}

    def _set_rates(self, step: int) -> None:
        optim, config = self.config.optim, self.config
        factor = optim.refined_offset_factor if config.is_refined(step) else 1.0
        rates = {
            "offsets": factor * optim.offset_lr,
            "albedo_logits": optim.albedo_lr,
            "light_raw": optim.light_lr,
        }
        decay = optim.decay(step, config.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = decay * rates[group["name"]]

    @torch.no_grad()
    def observe(self, step: int) -> None:
        """Look up labels and colours of vertices in random frames [5.2]."""
        generator = torch_generator(self._seed, f"geometry.observe_{step}")
        count = min(self.config.optim.observed_frames, len(self.frames))
        views = VertexViews.none(self.mesh.num_vertices)
        for row in torch.randperm(len(self.frames), generator=generator)[:count]:
            batch = self.batch(row[None])
            posed = self.mesh.pose(self.model.offsets, self.pose[batch.timesteps])
            fragments = self.rasterize(posed, batch.camera)
            corners = nearest_corners(fragments, self.mesh.faces)[0].cpu()
            mask = None if batch.mask is None else batch.mask[0].cpu()
            views.add(corners, batch.rgb[0].cpu(), mask, self._semantics(int(row)))
        labels = vote_labels(self.facts.labels, views.votes.to(self.device))
        self.facts = VertexFacts(labels, views.chroma.to(self.device))
        self._terms = GeometryTerms(self.mesh, self.facts, self.config)

    def _semantics(self, row: int) -> UInt8[Tensor, "1 h w"] | None:
        """Label map of a frame, if the capture has one."""
        if not self.frames.records or self.frames.records[row].parsing_path is None:
            return None
        semantics = load_frame(self.sequence, self.frames.records[row]).semantics
        return None if semantics is None else semantics[0]

    @torch.no_grad()
    def refine(self) -> None:
        """Subdivide the mesh and all that belongs to its vertices, moments of Adam too."""
        old_model, old_optimizer = self.model, self._optimizer
        self._to_level(self.config.model.subdivisions)
        apply = self.mesh.refinement.apply
        model = GeometryModel(self.mesh.num_vertices, self.config.model.light_height)
        labels = self.facts.labels
        for edges in self.mesh.refinement.edges:
            labels = torch.cat([labels, labels[edges[:, 0]]])
        self.facts = VertexFacts(labels, apply(self.facts.chroma))
        for name, old in old_model.named_parameters():
            model.get_parameter(name).data = apply(old.data) if name in _PER_VERTEX else old.data
        self._start(model)
        for group, old_group in zip(
            self._optimizer.param_groups, old_optimizer.param_groups, strict=True
        ):
            state = dict(old_optimizer.state[old_group["params"][0]])
            if group["name"] in _PER_VERTEX:
                state |= {key: apply(state[key]) for key in _MOMENTS if key in state}
            self._optimizer.state[group["params"][0]] = state

    def _to_level(self, level: int) -> None:
        self.mesh = PersonalMesh.of(self.mesh.head, self.subject, level, self.device)

    def judge(self, records: Sequence[FrameRecord]) -> MeshScores:
        """Compare the mesh as it is now with frames."""
        offsets = self.model.offsets.detach()
        return judge_mesh(self.mesh, offsets, self.sequence, self.pose, records)

    def checkpoint(self, step: int) -> Checkpoint:
        """Everything that an exact resume needs."""
        weights = {**dict(self.model.named_parameters()), **self.facts.tensors()}
        moments = saved_moments(self._optimizer, dict(self.model.named_parameters()))
        return Checkpoint(step, weights, moments, {})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on after the step of a checkpoint.

        Raises:
            ValueError: If it is one of other settings or another capture, or lacks moments.
        """
        if self.config.is_refined(checkpoint.step + 1):
            self._to_level(self.config.model.subdivisions)
        count = self.mesh.num_vertices
        model = GeometryModel(count, self.config.model.light_height)
        facts = {n: own.new_empty(count, *own.shape[1:]) for n, own in self.facts.tensors().items()}
        check_saved_tensors(checkpoint.weights, {}, model.state_dict() | facts)
        weights = {name: value.to(self.device) for name, value in checkpoint.weights.items()}
        self.facts = VertexFacts(weights.pop("labels"), weights.pop("chroma"))
        load_weights(model, weights, "checkpoint")
        self._start(model)
        load_moments(self._optimizer, dict(self.model.named_parameters()), checkpoint.optimizer)


def check_capture(sequence: HeadSequence, frames: FrameStore) -> None:
    """Refuse captures that no mesh can be fitted to.

    Raises:
        ValueError: If the head model has no joints or the frames have no masks.
    """
    if not isinstance(sequence.head, JointedHead):
        raise ValueError(
            f"{sequence.root}: the geometry stage needs a head model with joints, "
            f"got {sequence.head.name!r}"
        )
    if frames.pixels.shape[1] != _MASKED_CHANNELS:
        raise ValueError(f"{sequence.root}: the geometry stage needs frames with masks")
