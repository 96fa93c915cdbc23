"""A SurfHead avatar: surfels bound to a rig, their optimiser, their losses.

Reference: SurFhead, arXiv 2410.11682; figures in brackets are sections of our specification.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import pad

from vultus.core.seeding import torch_generator
from vultus.data.frame_store import Batch
from vultus.data.sequence import HeadSequence
from vultus.gaussians.densify import AdaptiveDensity
from vultus.gaussians.posed import posed_splats
from vultus.gaussians.splat_files import Splats, surfels_to_splats
from vultus.gaussians.surfels import Surfels, fill_triangles, initial_surfels, logit
from vultus.geometry.cameras import Camera, camera_centers
from vultus.heads.base import HeadModel, HeadPose
from vultus.kernels.ssim import l1_ssim
from vultus.kernels.surfel_activations import ActivatedSurfels
from vultus.kernels.surfel_raster import OutputName
from vultus.methods.saved_tensors import check_saved_tensors
from vultus.methods.surfhead import objectives
from vultus.methods.surfhead.activation import activate
from vultus.methods.surfhead.config import SurfHeadConfig
from vultus.methods.surfhead.jacobian_blending import initial_blend_logits
from vultus.methods.surfhead.rig_track import RigTrack
from vultus.methods.surfhead.shading import canonical_rotations, canonical_sh_colors
from vultus.methods.surfhead.specular import SpecularNetwork
from vultus.methods.surfhead.specular_part import SpecularPart, add_specular
from vultus.methods.surfhead.transport import BoundSurfels, PosedFaces, PosedSurfels, transport
from vultus.optim.adam import GpuAdam, build_adam, set_learning_rate
from vultus.optim.schedules import exponential_decay
from vultus.render.output import RenderOutput
from vultus.render.surfels import render_surfels

__all__ = ["SurfHead"]

_RIG_PREFIX = "rig."
# Metres, about a head: one standing camera has no extent, and its surfels must still move.
_MIN_EXTENT = 0.25
# Colour coefficient of degree 0 that gives 0.
_BLACK = -0.5 / 0.28209479177387814
_EYEBALLS = ("left_eyeball", "right_eyeball")


class SurfHead:
    """The avatar of one subject; satisfies ``methods.base.ReconstructionMethod``."""

    def __init__(
        self,
        config: SurfHeadConfig,
        sequence: HeadSequence,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Put one surfel on every face.

        Args:
            config: All settings.
            sequence: The capture; its training cameras decide the extent.
            seed: Decides initial colours and the offsets of split surfels; the same on any device.
            device: Where parameters lie and batches of ``training_step`` must lie.
        """
        self.config = config
        self.device = torch.device(device)
        self.head: HeadModel = sequence.head
        self._seed = seed
        self._background = torch.tensor(sequence.background, device=self.device)
        self._is_white = all(value == 1 for value in sequence.background)
        self._extent = max(sequence.extent(), _MIN_EXTENT)
        self._rig = RigTrack(sequence.head, sequence.pose, config.model, config.optim, self.device)
        topology = sequence.head.topology
        self._eyeball_faces = topology.face_region(*_EYEBALLS).to(self.device)
        self._boundary_faces = topology.face_region("boundary").to(self.device)
        self._teeth_faces = topology.face_region("teeth").to(self.device)

        generator = torch_generator(seed, "surfhead.init")
        has_specular = config.specular.lobes != "none"
        values = initial_surfels(
            topology.faces.shape[0],
            config.model.sh_degree,
            generator,
            num_specular_features=config.specular.num_features if has_specular else 0,
        )
        self._face_index = values.pop("face_index")
        values["opacity_logits"].fill_(logit(config.model.initial_opacity))
        if config.model.initial_shape == "triangle":
            values |= fill_triangles(
                self._rig.rest_vertices.cpu(), topology.faces, config.model.initial_scale
            )
        else:
            values["log_scales"].fill_(math.log(config.model.initial_scale))
        if config.model.mouth_starts_dark and "mouth_interior" in topology.regions:
            values["sh_dc"][topology.face_region("mouth_interior")] = _BLACK
        if config.model.rig == "jbs" and config.model.blend == "learned":
            values["blend_weight_logits"] = initial_blend_logits(
                self._face_index.shape[0], config.model.blend_self_logit
            )
        self._specular: SpecularPart | None = None
        if has_specular:
            network_generator = torch_generator(seed, "surfhead.specular")
            self._specular = SpecularPart(config.specular, topology, network_generator, self.device)
        self._face_index = self._face_index.to(self.device)
        self.surfels = {name: Parameter(value.to(self.device)) for name, value in values.items()}
        self.optimizer = self._build_optimizer()
        self._density = AdaptiveDensity(config.densify, self._face_index.shape[0], self.device)
        self._index_surfels()

    # ---- rendering -------------------------------------------------------------------------

    @property
    def track(self) -> HeadPose:
        """The pose of every timestep with the current fine-tuning."""
        return self._rig.pose.to("cpu")

    def active_sh_degree(self, step: int | None) -> int:
        """Degree of colour at a step; the full degree once training is over."""
        model = self.config.model
        if step is None:
            return model.sh_degree
        return min(step // model.sh_degree_interval, model.sh_degree)

    def posed_surfels(self, pose: HeadPose) -> PosedSurfels:
        """Surfels in the world for any pose of this head, on the avatar's device."""
        faces = self._rig.faces(pose.to(self.device))
        bound = self._bound(activate(self.surfels))
        return transport(bound, self._rig.rest, faces, self._rigid_surfels)

    def render(self, pose: HeadPose, camera: Camera, step: int | None = None) -> RenderOutput:
        """Image, depth and normals of the avatar, on the CPU."""
        outputs: tuple[OutputName, ...] = ("depth", "normal", "median_depth")
        with torch.no_grad():
            faces = self._rig.faces(pose.to(self.device))
            _, output = self._rasterize(faces, camera.to(self.device), step, outputs)
            return output.to("cpu")

    @property
    def _rigid_surfels(self) -> Tensor | None:
        return self._eyeball_surfels if self.config.model.detach_eyeball_geometry else None

    def _bound(self, activated: ActivatedSurfels) -> BoundSurfels:
        weights = activated.blend_weights
        if self.config.model.rig == "jbs" and weights is None:
            weights = self._rig.rest.blend_by_distance(
                self._face_index, self.surfels["local_means"].detach()
            )
        return BoundSurfels(
            self._face_index,
            self.surfels["local_means"],
            self.surfels["quats"],
            activated.scales,
            weights,
        )

    def _rasterize(
        self,
        faces: PosedFaces,
        camera: Camera,
        step: int | None,
        outputs: Collection[OutputName],
    ) -> tuple[PosedSurfels, RenderOutput]:
        """Carry the surfels to posed triangles and draw them."""
        activated, rest = activate(self.surfels), self._rig.rest
        bound = self._bound(activated)
        placed = transport(bound, rest, faces, self._rigid_surfels)
        coefficients = torch.cat([self.surfels["sh_dc"], self.surfels["sh_rest"]], dim=1)
        degree = self.active_sh_degree(step)
        features, background = [], self._background
        is_turned = self.config.model.rotate_sh_directions
        if is_turned:
            rotations = canonical_rotations(bound, rest, faces, self._rigid_surfels)
            centers = camera_centers(camera)
            features.append(
                canonical_sh_colors(coefficients, degree, placed.means, centers, rotations)
            )
        shines = self._specular is not None and self._specular.is_active(step)
        if self._specular is not None and shines:
            features.append(
                self._specular.colors(
                    self.surfels["specular_features"],
                    bound,
                    rest,
                    faces,
                    placed,
                    camera,
                    self._rigid_surfels,
                )
            )
            background = pad(background, (0, self._specular.num_channels))
        batch = placed.means.shape[0]
        output = render_surfels(
            placed.means,
            placed.quats,
            placed.scales,
            activated.opacities.expand(batch, -1),
            camera,
            features=torch.cat(features, dim=-1) if features else None,
            sh_coeffs=None if is_turned else coefficients.expand(batch, -1, -1, -1),
            sh_degree=None if is_turned else degree,
            jacobians=placed.jacobians,
            jacobian_grad=self.config.model.jacobian_gradient,
            background=background,
            convention="surfhead",
            outputs=outputs,
            backend=self.config.backend,
        )
        if shines:
            output = replace(output, image=add_specular(output.image))
        return placed, output

    def bound_surfels(self) -> Surfels:
        """The surfels in their faces' frames, on the CPU."""
        values = {name: value.detach().cpu() for name, value in self.surfels.items()}
        return Surfels.from_dict(values | {"face_index": self._face_index.cpu()})

    @property
    def specular_network(self) -> SpecularNetwork | None:
        """What gives eyes their highlights; ``None`` for matte avatars."""
        return None if self._specular is None else self._specular.network

    def splats(self, pose: HeadPose | None) -> Splats:
        """Surfels for files: in the world for one pose, in their faces' frames without."""
        values = {name: value.detach().cpu() for name, value in self.surfels.items()}
        if pose is None:
            return surfels_to_splats(self.bound_surfels())
        with torch.no_grad():
            placed = self.posed_surfels(pose).to("cpu")
        return posed_splats(
            placed.means[0],
            placed.quats[0],
            placed.scales[0],
            values["opacity_logits"],
            values["sh_dc"],
            values["sh_rest"],
            None if placed.jacobians is None else placed.jacobians[0],
        )

    # ---- training --------------------------------------------------------------------------

    def phase(self, step: int) -> Hashable:
        """Degree of colour, terms that have started, and whether densification still watches."""
        return (
            self.active_sh_degree(step),
            self._compares_normals(step),
            self._distorts(step),
            self._density.is_active(step),
            self._specular is not None and self._specular.is_active(step),
        )

    def training_step(self, batch: Batch, step: int) -> tuple[RenderOutput, dict[str, Tensor]]:
        """Render a batch and return the weighted loss terms of section 5."""
        weights = self.config.losses
        compare_normals, distort = self._compares_normals(step), self._distorts(step)
        outputs: list[OutputName] = []
        if compare_normals:
            outputs.extend(("normal", "median_depth"))
        if weights.depth_smoothness_weight > 0:
            outputs.append("depth")
        if distort:
            outputs.append("distortion")
        faces = self._rig.training_faces(batch.timesteps)
        placed, output = self._rasterize(faces, batch.camera, step, outputs)
        difference, similarity = l1_ssim(output.image, batch.rgb)
        terms = {
            "l1": (1.0 - weights.ssim_weight) * difference,
            "ssim": weights.ssim_weight * (1.0 - similarity),
        }
        terms |= objectives.image_terms(output, batch, weights, compare_normals, distort)
        terms |= objectives.surfel_terms(
            self.surfels, placed, output.radii, self._eyeballs, self._face_scales, self.config
        )
        return output, terms

    def set_rates(self, step: int) -> None:
        """Let the positions' rate decay; the others stay."""
        optim = self.config.optim
        rate = exponential_decay(
            step, optim.position_lr_init, optim.position_lr_final, optim.position_lr_steps
        )
        set_learning_rate(self.optimizer, "local_means", rate * self._extent)
        if self._specular is not None:
            for name, network_rate in self._specular.rates(step).items():
                set_learning_rate(self.optimizer, name, network_rate)

    def update(self, output: RenderOutput, step: int, skip: Tensor | None = None) -> None:
        """Freeze what must not move, step Adam, gather statistics of densification."""
        self._mask_gradients()
        if isinstance(self.optimizer, GpuAdam):
            self.optimizer.skip = skip
        self.optimizer.step()
        screen_gradient = output.screen_gradient.grad
        if screen_gradient is not None and self._density.is_active(step):
            self._density.accumulate(
                screen_gradient, output.radii, amplified=self._teeth_surfels, skip=skip
            )

    def edits_at(self, step: int) -> bool:
        """Whether surfels are added, removed or made fainter after a step."""
        density = self._density
        return density.grows_at(step) or density.resets_at(step, is_white=self._is_white)

    def edit(self, step: int) -> None:
        """Grow and prune surfels, or reset their opacities."""
        self.optimizer.zero_grad(set_to_none=True)
        edited = self._density.edit(
            step,
            self.surfels,
            {"face_index": self._face_index},
            self.optimizer,
            world_scales=self._world_scales(),
            extent=self._extent,
            generator=torch_generator(self._seed, f"surfhead.densify.{step}"),
            frozen=self._rigid_surfels,
            is_white=self._is_white,
        )
        if edited is not None:
            self.surfels, self._face_index = edited.parameters, edited.extras["face_index"]
            self._index_surfels()

    def _compares_normals(self, step: int) -> bool:
        weights = self.config.losses
        return weights.surfel_normal_weight > 0 and step > weights.surfel_normal_from

    def _distorts(self, step: int) -> bool:
        weights = self.config.losses
        return weights.distortion_weight > 0 and step > weights.distortion_from

    def _world_scales(self) -> Tensor:
        return self.surfels["log_scales"].detach().exp() * self._face_scales[:, None]

    def _mask_gradients(self) -> None:
        model = self.config.model
        if model.detach_eyeball_geometry:
            for name in ("local_means", "quats", "blend_weight_logits"):
                self._zero_gradient(name, self._eyeball_surfels)
        if model.freeze_boundary_blending:
            self._zero_gradient("blend_weight_logits", self._boundary_surfels)

    def _zero_gradient(self, name: str, mask: Tensor) -> None:
        parameter = self.surfels.get(name)
        if parameter is not None and parameter.grad is not None:
            parameter.grad.masked_fill_(mask.view(-1, *(1,) * (parameter.ndim - 1)), 0.0)

    # ---- state -----------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Surfels, binding, fine-tuned rig and densification statistics."""
        shared = {name: value.detach() for name, value in self._shared_parameters().items()}
        return self._surfel_tensors() | shared

    def _surfel_tensors(self) -> dict[str, Tensor]:
        """Those with a row for each surfel."""
        return (
            {name: value.detach() for name, value in self.surfels.items()}
            | {"face_index": self._face_index}
            | {f"density.{name}": value for name, value in self._density.tensors().items()}
        )

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore ``tensors()`` and start a fresh optimiser of the right shape.

        Raises:
            ValueError: If one is missing, or belongs to other settings or another capture.
        """
        rig = {_RIG_PREFIX + name: value for name, value in self._rig.parameters.items()}
        check_saved_tensors(tensors, self._surfel_tensors(), rig)
        faces, count = tensors["face_index"], self._rig.rest.scales.shape[0]
        if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < count:
            raise ValueError(
                f"checkpoint must bind surfels to {count} faces, got {int(faces.min())} to "
                f"{int(faces.max())}: it was trained on another head"
            )
        own = {name: tensor.to(self.device, copy=True) for name, tensor in tensors.items()}
        self.surfels = {name: Parameter(own[name]) for name in self.surfels}
        self._face_index = own["face_index"]
        self._rig.load({n.removeprefix(_RIG_PREFIX): t for n, t in own.items()})
        if self._specular is not None:
            self._specular.load(own)
        self._density.load_tensors(
            {n.removeprefix("density."): t for n, t in own.items() if n.startswith("density.")}
        )
        self.optimizer = self._build_optimizer()
        self._index_surfels()

    def summary(self) -> dict[str, int]:
        """Number of surfels."""
        return {"surfels": self._face_index.shape[0]}

    def _index_surfels(self) -> None:
        self._eyeball_surfels = self._eyeball_faces[self._face_index]
        self._eyeballs = self._eyeball_surfels if bool(self._eyeball_surfels.any()) else None
        self._boundary_surfels = self._boundary_faces[self._face_index]
        self._teeth_surfels = self._teeth_faces[self._face_index]
        self._face_scales = self._rig.rest.scales[self._face_index]
        if self._specular is not None:
            self._specular.index_surfels(self._face_index)

    def _build_optimizer(self) -> torch.optim.Adam:
        return build_adam(
            {**self.surfels, **self._shared_parameters()},
            self._rates(),
            epsilon=self.config.optim.adam_epsilon,
        )

    def _shared_parameters(self) -> dict[str, Parameter]:
        """What is trained beside the surfels: the rig and the specular network."""
        rig = {_RIG_PREFIX + name: value for name, value in self._rig.parameters.items()}
        return rig if self._specular is None else rig | self._specular.parameters()

    def _rates(self) -> dict[str, float]:
        optim = self.config.optim
        rates = {
            "local_means": optim.position_lr_init * self._extent,
            "log_scales": optim.scaling_lr,
            "quats": optim.rotation_lr,
            "opacity_logits": optim.opacity_lr,
            "sh_dc": optim.feature_lr,
            "sh_rest": optim.feature_lr / 20.0,
            "blend_weight_logits": optim.blend_weight_lr,
            "specular_features": self.config.specular.feature_lr,
        }
        if self._specular is not None:
            rates |= self._specular.rates(0)
        return rates | {_RIG_PREFIX + name: r for name, r in self._rig.learning_rates.items()}
