"""A GaussianHead avatar: Gaussians, two networks, their optimiser, their losses.

Reference: GaussianHead, arXiv 2312.01632; figures in brackets are sections of our specification.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from vultus.core.seeding import torch_generator
from vultus.data.frame_store import Batch
from vultus.data.sequence import HeadSequence
from vultus.gaussians.densify import AdaptiveDensity
from vultus.gaussians.splat_files import Splats
from vultus.gaussians.surfels import logit
from vultus.geometry.cameras import Camera, camera_centers
from vultus.geometry.depth import rotate_maps
from vultus.heads.base import HeadModel, HeadPose
from vultus.kernels.gaussian_raster import OutputName
from vultus.kernels.ssim import l1_ssim
from vultus.methods.gaussianhead.appearance import AppearanceNetwork
from vultus.methods.gaussianhead.baking import world_splats
from vultus.methods.gaussianhead.config import GaussianHeadConfig, ModelConfig
from vultus.methods.gaussianhead.deformation import DeformationNetwork
from vultus.methods.gaussianhead.driving import (
    VIEW_SIZES,
    DrivingScale,
    driving_sizes,
    driving_vectors,
    head_camera,
    head_to_world,
    view_vectors,
)
from vultus.methods.gaussianhead.posing import PosedGaussians, pose_gaussians
from vultus.methods.gaussianhead.rates import learning_rates
from vultus.methods.gaussianhead.start import find_scene, initial_gaussians, training_cameras
from vultus.methods.saved_tensors import check_saved_tensors
from vultus.nets.vgg_distance import VggDistance, imported_vgg_distance
from vultus.optim.adam import GpuAdam, replace_values, set_learning_rate
from vultus.optim.riemannian_adam import build_riemannian_adam
from vultus.render.gaussians import render_gaussians
from vultus.render.output import RenderOutput

__all__ = ["GaussianHead"]

_MOTION, _APPEARANCE = "motion.", "appearance."
_RESET_MARGIN = 1e-6
"""Opacities of 0 and 1 have no logit."""


class GaussianHead:
    """The avatar of one subject; satisfies ``methods.base.ReconstructionMethod``."""

    def __init__(
        self,
        config: GaussianHeadConfig,
        sequence: HeadSequence,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Scatter Gaussians and draw both networks.

        Args:
            config: All settings.
            sequence: The capture; its poses decide the length of the driving vector, its cameras
                the extent.
            seed: Decides positions, rotations, planes, weights and the offsets of split Gaussians;
                the same on any device.
            device: Where parameters lie and batches of ``training_step`` must lie.
        """
        self.config = config
        self.device = torch.device(device)
        self.head: HeadModel = sequence.head
        self.track = sequence.pose
        self._seed = seed
        self._background = torch.tensor(sequence.background, device=self.device)
        self._is_white = all(value == 1 for value in sequence.background)
        self._driving_sizes = driving_sizes(sequence.pose, config.model.driving)
        raw = driving_vectors(sequence.pose, self._driving_sizes)
        self._driving_scale = DrivingScale.identity(raw.shape[1])
        if config.model.normalize_driving:
            seen = [record.timestep for record in sequence.split("train")]
            self._driving_scale = DrivingScale.of(raw[sorted(set(seen))], self._driving_sizes)
        self._driving = self._driving_scale(raw).to(self.device)
        motions = head_to_world(sequence.head, sequence.pose)
        self._motions = motions.to(self.device)
        self._scene = find_scene(config.model, sequence, motions)
        self._center = self._scene.center.to(self.device)
        self._scale = torch.tensor(self._scene.scale, device=self.device)
        self._view_scale: DrivingScale | None = None
        if config.model.drives_with_view:
            cameras = training_cameras(sequence, motions).to(self.device)
            resting = torch.eye(4, device=self.device).expand(len(cameras), 4, 4)
            views = view_vectors(self.scene_camera(cameras, resting))
            self._view_scale = DrivingScale.of(views, VIEW_SIZES)

        inputs = raw.shape[1] + (0 if self._view_scale is None else sum(VIEW_SIZES.values()))
        motion, appearance = _draw_networks(config.model, inputs, seed)
        self._motion_network = motion.to(self.device)
        self._appearance = appearance.to(self.device)
        values = initial_gaussians(
            config.model, sequence, self._scene, torch_generator(seed, "gaussianhead.init")
        )
        self.gaussians = {name: Parameter(v.to(self.device)) for name, v in values.items()}
        self.optimizer = self._build_optimizer()
        num = self.num_gaussians
        self._density = AdaptiveDensity(config.densify, num, self.device)
        self._opacities = torch.zeros(num, device=self.device)
        self._drawn_opacities = self._opacities
        self._vgg: VggDistance | None = None
        if config.losses.vgg_weight > 0:
            self._vgg = imported_vgg_distance()
            self._vgg = None if self._vgg is None else self._vgg.to(self.device)

    @property
    def num_gaussians(self) -> int:
        """How many there are now."""
        return self.gaussians["means"].shape[0]

    @property
    def networks(self) -> tuple[DeformationNetwork, AppearanceNetwork]:
        """What moves Gaussians, and what decodes their looks."""
        return self._motion_network, self._appearance

    # ---- rendering -------------------------------------------------------------------------

    def active_sh_degree(self, step: int | None) -> int:
        """Degree of colour at a step; the full degree once training is over."""
        model = self.config.model
        if step is None:
            return model.sh_degree
        return min(step // model.sh_degree_interval, model.sh_degree)

    def moves(self, step: int | None) -> bool:
        """Whether the warm-up is over."""
        return step is None or step >= self.config.model.warm_up

    def render(self, pose: HeadPose, camera: Camera, step: int | None = None) -> RenderOutput:
        """Image, depth in metres and normals of the depth in the world, on the CPU."""
        with torch.no_grad():
            driving, motions = self.driven(pose)
            _, output = self.rasterize(
                driving, motions, camera.to(self.device), step, ("depth", "median_depth")
            )
            normals = rotate_maps(motions[:, :3, :3].transpose(1, 2), output.require("normals"))
            output = replace(
                output,
                depth=output.require("depth") / self._scale,
                median_depth=output.require("median_depth") / self._scale,
                normals=normals,
                depth_normals=normals,
            )
            return output.to("cpu")

    def posed_gaussians(self, pose: HeadPose, camera: Camera) -> PosedGaussians:
        """Gaussians in the scene's frame as a camera in the world sees them."""
        driving, motions = self.driven(pose)
        return self._pose(driving, self.scene_camera(camera.to(self.device), motions), None)

    def splats(self, pose: HeadPose | None) -> Splats:
        """Gaussians for files, in the world; at rest, where the head is at rest, without a pose.

        Opacity and colour also depend on where the camera is: it is that of the first training
        image.
        """
        pose = HeadPose() if pose is None else pose
        with torch.no_grad():
            motion = head_to_world(self.head, pose.to("cpu"))[0]
            posed = self.posed_gaussians(pose, self._scene.viewpoint)
            return world_splats(posed, motion, self._scene, self.config.model)

    def driven(self, pose: HeadPose) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b 4 4"]]:
        """Driving vectors and motions of the head for any poses, on the device."""
        pose = pose.to("cpu")
        driving = self._driving_scale(driving_vectors(pose, self._driving_sizes))
        motions = head_to_world(self.head, pose)
        return driving.to(self.device), motions.to(self.device)

    def scene_camera(self, camera: Camera, motions: Float[Tensor, "b 4 4"]) -> Camera:
        """See the moving head from the scene's frame; everything on the device."""
        return head_camera(camera, motions, self._center, self._scale)

    def _pose(self, driving: Tensor, camera: Camera, step: int | None) -> PosedGaussians:
        if self._view_scale is not None:
            driving = torch.cat([driving, self._view_scale(view_vectors(camera))], dim=1)
        return pose_gaussians(
            self.gaussians,
            self._motion_network if self.moves(step) else None,
            self._appearance,
            driving,
            camera_centers(camera),
            self.config.model,
        )

    def rasterize(
        self,
        driving: Float[Tensor, "b e"],
        motions: Float[Tensor, "b 4 4"],
        camera: Camera,
        step: int | None = None,
        outputs: Collection[OutputName] = (),
    ) -> tuple[PosedGaussians, RenderOutput]:
        """Pose the Gaussians and draw them in scene units; a CUDA graph may capture it.

        Args:
            driving: See ``driven``.
            motions: See ``driven``.
            camera: In the world, on the device, one per frame.
            step: See ``render``.
            outputs: What is drawn beside the image.
        """
        model = self.config.model
        camera = self.scene_camera(camera, motions)
        posed = self._pose(driving, camera, step)
        output = render_gaussians(
            posed.means,
            posed.quats,
            posed.scales,
            posed.opacities,
            camera,
            sh_coeffs=posed.sh_coeffs,
            sh_degree=self.active_sh_degree(step),
            background=self._background,
            normalize_quats=model.normalize_deformed_quats,
            near=model.near,
            outputs=outputs,
            backend=self.config.backend,
        )
        return posed, output

    # ---- training --------------------------------------------------------------------------

    def phase(self, step: int) -> Hashable:
        """Degree of colour, whether anything moves, and whether densification still watches."""
        return self.active_sh_degree(step), self.moves(step), self._density.is_active(step)

    def training_step(self, batch: Batch, step: int) -> tuple[RenderOutput, dict[str, Tensor]]:
        """Render a batch and return the weighted loss terms of section 5."""
        weights = self.config.losses
        driving = self._driving.index_select(0, batch.timesteps)
        motions = self._motions.index_select(0, batch.timesteps)
        posed, output = self.rasterize(driving, motions, batch.camera, step)
        self._drawn_opacities = posed.opacities.detach()
        difference, similarity = l1_ssim(output.image, batch.rgb)
        terms = {
            "l1": (1.0 - weights.ssim_weight) * difference,
            "ssim": weights.ssim_weight * (1.0 - similarity),
        }
        if self._vgg is not None:
            terms["vgg"] = weights.vgg_weight * self._vgg(output.image, batch.rgb)
        if weights.alpha_weight > 0 and batch.mask is not None:
            terms["alpha"] = weights.alpha_weight * (output.alpha - batch.mask).abs().mean()
        return output, terms

    def set_rates(self, step: int) -> None:
        """Let the rates of positions, motion network and planes decay."""
        rates = learning_rates(self.config.optim, step - 1)
        for group in self.optimizer.param_groups:
            set_learning_rate(self.optimizer, group["name"], rates.of(group["name"]))

    def update(self, output: RenderOutput, step: int, skip: Tensor | None = None) -> None:
        """Step the optimiser, gather statistics of densification."""
        if isinstance(self.optimizer, GpuAdam):
            self.optimizer.skip = skip
        self.optimizer.step()
        screen_gradient = output.screen_gradient.grad
        if screen_gradient is None or not self._density.is_active(step):
            return
        self._density.accumulate(screen_gradient, output.radii, skip=skip)
        seen = self._drawn_opacities.amax(dim=0)
        if self.config.prune_by == "interval":
            seen = torch.maximum(self._opacities, seen)
        self._opacities.copy_(
            seen if skip is None else torch.where(skip[0] == 0, seen, self._opacities)
        )

    def edits_at(self, step: int) -> bool:
        """Whether Gaussians are added, removed or made fainter after a step."""
        return self._density.grows_at(step) or self._resets_at(step)

    def edit(self, step: int) -> None:
        """Grow and prune Gaussians, and reset their opacities."""
        self.optimizer.zero_grad(set_to_none=True)
        edited = self._density.edit(
            step,
            self.gaussians,
            {"opacities": self._opacities},
            self.optimizer,
            world_scales=self.gaussians["log_scales"].detach().exp(),
            extent=self._scene.extent,
            generator=torch_generator(self._seed, f"gaussianhead.densify.{step}"),
            is_white=self._is_white,
        )
        if edited is None:
            return
        self.gaussians, opacities = edited.parameters, edited.extras["opacities"]
        if self._resets_at(step):
            self._reset_opacities(opacities)
        self._opacities = torch.zeros_like(opacities)

    def _resets_at(self, step: int) -> bool:
        has_offsets = "opacity_offsets" in self.gaussians
        return has_offsets and self._density.resets_at(step, is_white=self._is_white)

    def _reset_opacities(self, opacities: Tensor) -> None:
        """Lower the offsets so that opacities are at most ``reset_opacity``."""
        bounded = opacities.clamp(_RESET_MARGIN, 1.0 - _RESET_MARGIN)
        excess = (bounded.logit() - logit(self.config.densify.reset_opacity)).clamp(min=0.0)
        lowered = self.gaussians["opacity_offsets"].detach() - excess
        self.gaussians = replace_values(self.optimizer, self.gaussians, "opacity_offsets", lowered)

    # ---- state -----------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Gaussians, both networks, and statistics of densification."""
        networks = {name: value.detach() for name, value in self._network_parameters().items()}
        return self._gaussian_tensors() | networks

    def _gaussian_tensors(self) -> dict[str, Tensor]:
        """Those with a row for each Gaussian."""
        return (
            {name: value.detach() for name, value in self.gaussians.items()}
            | {"opacities": self._opacities}
            | {f"density.{name}": value for name, value in self._density.tensors().items()}
        )

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore ``tensors()`` and start a fresh optimiser of the right shape.

        Raises:
            ValueError: If one is missing, or belongs to other settings.
        """
        networks = self._network_parameters()
        check_saved_tensors(tensors, self._gaussian_tensors(), networks)
        own = {name: tensor.to(self.device, copy=True) for name, tensor in tensors.items()}
        with torch.no_grad():
            for name, parameter in networks.items():
                parameter.copy_(own[name])
        self.gaussians = {name: Parameter(own[name]) for name in self.gaussians}
        self._opacities = own["opacities"]
        self._density.load_tensors(
            {n.removeprefix("density."): t for n, t in own.items() if n.startswith("density.")}
        )
        self.optimizer = self._build_optimizer()

    def summary(self) -> dict[str, int | bool]:
        """Number of Gaussians, size of the model, and whether VGG takes part."""
        numbers = sum(value.numel() for value in self._parameters().values())
        return {
            "gaussians": self.num_gaussians,
            "model_bytes": 4 * numbers,
            "vgg_loss": self._vgg is not None,
        }

    def _build_optimizer(self) -> torch.optim.Adam:
        parameters = self._parameters()
        rates = learning_rates(self.config.optim, 0)
        on_spheres = {"derivation"} if self.config.model.derivation == "paper" else set()
        return build_riemannian_adam(
            parameters,
            {name: rates.of(name) for name in parameters},
            on_spheres,
            epsilon=self.config.optim.adam_epsilon,
        )

    def _parameters(self) -> dict[str, Parameter]:
        return {**self.gaussians, **self._network_parameters()}

    def _network_parameters(self) -> dict[str, Parameter]:
        motion = {_MOTION + n: p for n, p in self._motion_network.named_parameters()}
        appearance = {_APPEARANCE + n: p for n, p in self._appearance.named_parameters()}
        return motion | appearance


def _draw_networks(
    model: ModelConfig, driving_size: int, seed: int
) -> tuple[DeformationNetwork, AppearanceNetwork]:
    motion = DeformationNetwork(
        driving_size,
        torch_generator(seed, "gaussianhead.motion"),
        width=model.width,
        depth=model.depth,
        skip_after=model.skip_after,
        num_frequencies=model.num_frequencies,
        starts_at_rest=model.starts_at_rest,
        has_tf32=model.has_tf32,
    )
    appearance = AppearanceNetwork(
        torch_generator(seed, "gaussianhead.appearance"),
        resolutions=[(r, r, r) for r in model.resolutions],
        channels=model.channels,
        num_derivations=model.num_derivations,
        color_activation=model.color_activation,
    )
    return motion, appearance
