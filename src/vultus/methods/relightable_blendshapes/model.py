"""An avatar of relightable Gaussian blendshapes: Gaussians, optimiser, losses.

Reference: Ma et al., 3D Gaussian Blendshapes, SIGGRAPH 2024, and the relightable successor; figures
in brackets are sections of our specification.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Hashable, Mapping
from dataclasses import fields, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from vultus.core.seeding import torch_generator
from vultus.data.frame_store import Batch
from vultus.data.sequence import HeadSequence
from vultus.gaussians.densify import AdaptiveDensity
from vultus.gaussians.splat_files import Splats
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadModel, HeadPose
from vultus.kernels.gaussian_raster import OutputName, rasterize_gaussians
from vultus.methods.relightable_blendshapes import objectives
from vultus.methods.relightable_blendshapes.appearance import (
    Appearance,
    ShadedGaussians,
    ShAppearance,
    View,
)
from vultus.methods.relightable_blendshapes.blendshapes import blend_attributes
from vultus.methods.relightable_blendshapes.config import OptimConfig, RelightableBlendshapesConfig
from vultus.methods.relightable_blendshapes.material_start import start_materials
from vultus.methods.relightable_blendshapes.mouth import confine, mouth_cylinder
from vultus.methods.relightable_blendshapes.posing import (
    Anchors,
    FrameMotion,
    PosedGaussians,
    pose_gaussians,
)
from vultus.methods.relightable_blendshapes.rig_motion import RigMotion, shape_subject, still_pose
from vultus.methods.relightable_blendshapes.start import (
    FACE,
    LOWER_TEETH,
    UPPER_TEETH,
    anchor_points,
    find_teeth_offset,
    initial_geometry,
    place_points,
)
from vultus.methods.saved_tensors import check_saved_tensors
from vultus.nets.perceptual import LpipsNetwork, imported_lpips
from vultus.optim.adam import GpuAdam, build_adam, set_learning_rate
from vultus.optim.schedules import exponential_decay
from vultus.render.gaussians import render_gaussians
from vultus.render.output import RenderOutput

__all__ = ["RelightableBlendshapes"]

_LOG = logging.getLogger(__name__)
_DELTAS = "_deltas"
_ANCHOR, _DENSITY, _APPEARANCE = "anchor.", "density.", "appearance."


class RelightableBlendshapes:
    """The avatar of one subject; satisfies ``methods.base.ReconstructionMethod``."""

    def __init__(
        self,
        config: RelightableBlendshapesConfig,
        sequence: HeadSequence,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Spread Gaussians over the subject's mesh.

        Args:
            config: All settings.
            sequence: The capture; its first moment gives the subject's shape.
            seed: Decides positions, initial colours and the offsets of split Gaussians; the same on
                any device.
            device: Where parameters lie and batches of ``training_step`` must lie.

        Raises:
            ValueError: If the head has no joints that carry Gaussians, or no expressions.
        """
        self.config = config
        self.device = torch.device(device)
        self.head: HeadModel = sequence.head
        self.track = sequence.pose
        self._seed = seed
        model = config.model
        self._rig = RigMotion(
            sequence.head,
            sequence.pose,
            model.num_expressions,
            fits_skull=model.official_quirks,
            device=self.device,
        )
        self._track = sequence.pose.to(self.device)
        self._motions = self._rig.motion(self._track)
        teeth_offset = find_teeth_offset(model, sequence.info)
        self._cylinder = mouth_cylinder(teeth_offset, self.device)
        self.appearance = _build_appearance(config, sequence, self.device)

        head, generator = self._rig.head, torch_generator(seed, "relightable_blendshapes.init")
        meshes = shape_subject(head, sequence.pose, model.num_expressions)
        start = place_points(head, meshes, model, teeth_offset, generator)
        anchors = anchor_points(head, meshes, start, model)
        neutral = initial_geometry(start, model) | self.appearance.initial(start, generator)
        zeros = {
            name + _DELTAS: torch.zeros(*value.shape, self._rig.num_expressions)
            for name, value in neutral.items()
        }
        values = {**neutral, **zeros}
        self._attributes = tuple(neutral)
        self.gaussians = {name: Parameter(v.to(self.device)) for name, v in values.items()}
        constants = {
            **anchors.tensors(),
            "part": start.part,
            **self.appearance.constants(neutral),
        }
        self._constants = {name: value.to(self.device) for name, value in constants.items()}
        self.optimizer = self._build_optimizer()
        self._density = AdaptiveDensity(config.densify, self.num_gaussians, self.device)
        self._lpips = _find_lpips(config.losses.lpips_weight, self.device)
        self._index_gaussians()

    @property
    def num_gaussians(self) -> int:
        """How many there are now, teeth included."""
        return self.gaussians["means"].shape[0]

    @property
    def anchors(self) -> Anchors:
        """What holds the Gaussians, row by row."""
        return Anchors(**{spec.name: self._constants[spec.name] for spec in fields(Anchors)})

    @property
    def part(self) -> Tensor:
        """Part of the head that each Gaussian belongs to; see ``start``."""
        return self._constants["part"]

    # ---- rendering -------------------------------------------------------------------------

    def blended(self, expression: Float[Tensor, "b k"]) -> dict[str, Tensor]:
        """All attributes for some expressions, not activated, on the device."""
        anchors = self.anchors
        return blend_attributes(
            {name: self.gaussians[name] for name in self._attributes},
            {name: self.gaussians[name + _DELTAS] for name in self._attributes},
            {"means": anchors.mean_deltas, "quats": anchors.quat_deltas},
            anchors.expression_mask,
            expression,
        )

    def posed_gaussians(self, pose: HeadPose) -> tuple[dict[str, Tensor], PosedGaussians]:
        """Blended attributes, and the Gaussians in the world, for any pose of this head."""
        motion = self._rig.motion(pose.to(self.device))
        blended = self.blended(motion.expression)
        return blended, pose_gaussians(blended, self.anchors, motion)

    def render(self, pose: HeadPose, camera: Camera, step: int | None = None) -> RenderOutput:
        """Image, depth and normals of the depth, on the CPU."""
        with torch.no_grad():
            pose = pose.to(self.device)
            view = View(pose, camera.to(self.device), step)
            motion = self._rig.motion(pose)
            _, _, output = self._draw(motion, view, ("depth", "median_depth"))
            return output.to("cpu")

    def _draw(
        self, motion: FrameMotion, view: View, outputs: Collection[OutputName] = ()
    ) -> tuple[PosedGaussians, ShadedGaussians, RenderOutput]:
        """Blend, pose, shade and rasterize; a CUDA graph may capture it."""
        blended = self.blended(motion.expression)
        posed = pose_gaussians(blended, self.anchors, motion)
        shaded = self.appearance.shade(blended, posed, view)
        output = render_gaussians(
            posed.means,
            posed.quats,
            posed.scales,
            posed.opacities,
            view.camera,
            features=shaded.colors,
            near=self.config.model.near,
            outputs=outputs,
            backend=self.config.backend,
        )
        image = self.appearance.picture(output.image, output.alpha, view)
        return posed, shaded, replace(output, image=image)

    def splats(self, pose: HeadPose | None) -> Splats:
        """Gaussians for files, in the world; of the subject at rest without a pose."""
        pose = still_pose(self.track) if pose is None else pose
        with torch.no_grad():
            blended, posed = self.posed_gaussians(pose)
            colors = self.appearance.splat_colors(blended, posed, pose.to(self.device))[0].cpu()
        return Splats(
            means=posed.means[0].cpu(),
            log_scales=blended["log_scales"][0].cpu(),
            quats=posed.quats[0].cpu(),
            opacity_logits=blended["opacity_logits"][0].cpu(),
            sh_dc=colors[:, :1],
            sh_rest=colors[:, 1:],
        )

    # ---- training --------------------------------------------------------------------------

    def phase(self, step: int) -> Hashable:
        """What the appearance says, and whether densification still watches."""
        return self.appearance.phase(step), self._density.is_active(step)

    def training_step(self, batch: Batch, step: int) -> tuple[RenderOutput, dict[str, Tensor]]:
        """Render a batch and return the weighted loss terms of section 5.1."""
        weights = self.config.losses
        timesteps = batch.timesteps
        view = View(self._track[timesteps], batch.camera, step, timesteps)
        posed, shaded, output = self._draw(self._motions[timesteps], view)
        terms = objectives.picture_terms(output.image, batch.rgb, weights, self._lpips)
        if weights.alpha_weight > 0 and batch.mask is not None:
            # Densification follows the colours alone [4.3]: opacity gets a picture of its own.
            is_shared = not self._density.is_active(step)
            alpha = output.alpha if is_shared else self._coverage(posed, batch.camera)
            terms["alpha"] = objectives.alpha_term(alpha, batch.mask, weights)
        terms |= objectives.shape_terms(
            self.gaussians["means"],
            self.gaussians["log_scales"].exp(),
            self._strips,
            self._cylinder,
            weights,
        )
        terms |= self.appearance.terms(self.gaussians, shaded, view)
        return output, terms

    def _coverage(self, posed: PosedGaussians, camera: Camera) -> Float[Tensor, "b 1 h w"]:
        return rasterize_gaussians(
            posed.means,
            posed.quats,
            posed.scales,
            posed.opacities,
            camera,
            features=torch.ones_like(posed.opacities)[..., None],
            near=self.config.model.near,
            backend=self.config.backend,
        ).image

    def set_rates(self, step: int) -> None:
        """Let the rate of positions decay, and what else the appearance changes from outside."""
        self.appearance.start_step(step)
        for name, rate in self._rates(step).items():
            set_learning_rate(self.optimizer, name, rate)

    def update(self, output: RenderOutput, step: int, skip: Tensor | None = None) -> None:
        """Step Adam, keep teeth in their room, gather statistics of densification."""
        if isinstance(self.optimizer, GpuAdam):
            self.optimizer.skip = skip
        self.optimizer.step()
        if self.config.losses.teeth_confinement == "hard":
            self._confine_teeth(skip)
        screen_gradient = output.screen_gradient.grad
        if screen_gradient is not None and self._density.is_active(step):
            self._density.accumulate(
                screen_gradient, output.radii, amplified=self._is_teeth, skip=skip
            )

    @torch.no_grad()
    def _confine_teeth(self, skip: Tensor | None) -> None:
        means = self.gaussians["means"]
        confined = torch.where(self._is_teeth[:, None], confine(means, self._cylinder), means)
        means.copy_(confined if skip is None else torch.where(skip[0] == 0, confined, means))

    def edits_at(self, step: int) -> bool:
        """Whether Gaussians are added and removed after a step, or looked at anew."""
        return self._density.grows_at(step) or self.appearance.looks_anew_at(step)

    def edit(self, step: int) -> None:
        """Grow and prune by neutral Gaussians; children inherit deltas and anchors."""
        self.optimizer.zero_grad(set_to_none=True)
        edited = self._density.edit(
            step,
            self.gaussians,
            self._constants,
            self.optimizer,
            world_scales=self.gaussians["log_scales"].detach().exp(),
            extent=self.config.optim.extent,
            generator=torch_generator(self._seed, f"relightable_blendshapes.densify.{step}"),
        )
        if edited is not None:
            self.gaussians, self._constants = edited.parameters, edited.extras
        self._index_gaussians()

    # ---- state -----------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Gaussians, anchors, what the appearance trains, and statistics of densification."""
        appearance = {_APPEARANCE + n: value for n, value in self.appearance.tensors().items()}
        return self._gaussian_tensors() | appearance

    def _gaussian_tensors(self) -> dict[str, Tensor]:
        """Those with a row for each Gaussian, but for the appearance's."""
        return (
            {name: value.detach() for name, value in self.gaussians.items()}
            | {_ANCHOR + name: value for name, value in self._constants.items()}
            | {_DENSITY + name: value for name, value in self._density.tensors().items()}
        )

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore ``tensors()`` and start a fresh optimiser of the right shape.

        Raises:
            ValueError: If one is missing, or belongs to other settings or another head.
        """
        missing = [name for name in self.tensors() if name not in tensors]
        if missing:
            raise ValueError(f"checkpoint lacks {missing[0]!r}: was it trained in another mode?")
        size, deltas = self._rig.num_expressions, tensors["means" + _DELTAS]
        if deltas.ndim and size != deltas.shape[-1]:
            raise ValueError(f"checkpoint must hold {size} blendshapes, got {deltas.shape[-1]}")
        check_saved_tensors(tensors, self._gaussian_tensors(), {})
        own = {name: tensor.to(self.device, copy=True) for name, tensor in tensors.items()}
        appearance = _stripped(own, _APPEARANCE)
        self.appearance.check(appearance, len(own["means"]))
        self.gaussians = {name: Parameter(own[name]) for name in self.gaussians}
        self._constants = {name: own[_ANCHOR + name] for name in self._constants}
        self._index_gaussians()
        self.appearance.load(appearance)
        self._density.load_tensors(_stripped(own, _DENSITY))
        self.optimizer = self._build_optimizer()

    def summary(self) -> dict[str, int | bool]:
        """Number of Gaussians and blendshapes, and whether LPIPS takes part."""
        return {
            "gaussians": self.num_gaussians,
            "blendshapes": self._rig.num_expressions,
            "lpips_loss": self._lpips is not None,
        }

    def _index_gaussians(self) -> None:
        part = self.part
        self._is_teeth = part != FACE
        strips = [(part == label).nonzero()[:, 0] for label in (UPPER_TEETH, LOWER_TEETH)]
        self._strips = [rows for rows in strips if rows.numel()]
        self.appearance.gaussians_changed(self.gaussians, self._constants)

    def _build_optimizer(self) -> torch.optim.Adam:
        appearance = self.appearance.parameters()
        trained = self.gaussians | {_APPEARANCE + name: p for name, p in appearance.items()}
        return build_adam(trained, self._rates(0), epsilon=self.config.optim.adam_epsilon)

    def _rates(self, step: int) -> dict[str, float]:
        """The rate of every parameter at a step."""
        own = self.appearance.parameters()
        return _geometry_rates(self.config.optim, step) | {
            (_APPEARANCE + name if name in own else name): rate
            for name, rate in self.appearance.rates(step).items()
            if name in own or name in self.gaussians
        }


def _build_appearance(
    config: RelightableBlendshapesConfig, sequence: HeadSequence, device: torch.device
) -> Appearance:
    if config.model.appearance == "pbr":
        return start_materials(config, sequence, device)
    background = torch.tensor(sequence.background, device=device)
    return ShAppearance(config.model, config.optim, background)


def _geometry_rates(optim: OptimConfig, step: int) -> dict[str, float]:
    position_lr = exponential_decay(
        step, optim.position_lr_init, optim.position_lr_final, optim.position_lr_steps
    )
    return {
        "means": position_lr * optim.extent,
        "log_scales": optim.scaling_lr,
        "quats": optim.rotation_lr,
        "opacity_logits": optim.opacity_lr,
        "means" + _DELTAS: optim.position_delta_lr,
        "log_scales" + _DELTAS: optim.scaling_delta_lr,
        "quats" + _DELTAS: optim.rotation_delta_lr,
        "opacity_logits" + _DELTAS: optim.opacity_delta_lr,
    }


def _find_lpips(weight: float, device: torch.device) -> LpipsNetwork | None:
    if weight <= 0:
        return None
    network = imported_lpips().get("vgg")
    if network is None:
        _LOG.warning("losses.lpips_weight is set, but LPIPS is not imported: the term is off")
        return None
    return copy.deepcopy(network).to(device)


def _stripped(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = ((name, value) for name, value in tensors.items() if name.startswith(prefix))
    return {name.removeprefix(prefix): value for name, value in found}
