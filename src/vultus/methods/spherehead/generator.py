"""SphereHead's generator, with EG3D's and PanoHead's representations as options.

Latents become styles (``map``), styles planes (``planes``), planes and a camera images
(``render``). Planes do not depend on the camera, so several views share them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.data.camera_labels import shift_labels
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.triplane_volume import (
    DecoderActivation,
    DecoderWeights,
    VolumeDraws,
    VolumeSettings,
    query_points,
    render_planes,
)
from vultus.methods.spherehead.config import SUPER_RESOLUTION, GeneratorConfig
from vultus.methods.spherehead.images import HeadImages
from vultus.methods.spherehead.rays import label_rays
from vultus.methods.spherehead.super_resolution import SuperResolution
from vultus.nets.stylegan2.fast_synthesis import FastSynthesis
from vultus.nets.stylegan2.filters import resize_antialiased
from vultus.nets.stylegan2.layers import EqualizedConv2d, EqualizedLinear, draw_weights
from vultus.nets.stylegan2.mapping import MappingNetwork, map_to_styles
from vultus.nets.stylegan2.synthesis import NoiseMode, SynthesisNetwork, ToRgb

__all__ = ["Generator", "PlaneDecoder"]

_OFFSET_DIM = 3
_GRADIENT_DTYPES = {"single": torch.float32, "bfloat16": torch.bfloat16}
"""Gradients want more range than float16 has."""


class Backbone(nn.Module):
    """Mapping and synthesis of the image that holds the planes."""

    def __init__(self, config: GeneratorConfig) -> None:
        """Build both networks."""
        super().__init__()
        self.mapping = MappingNetwork(
            config.z_dim, config.label_dim, config.w_dim, num_layers=config.mapping_layers
        )
        self.synthesis = SynthesisNetwork(
            config.w_dim,
            config.plane_size,
            config.backbone_channels,
            channel_base=config.channel_base,
            channel_max=config.channel_max,
            clamp=config.clamp,
        )


class PlaneDecoder(nn.Module):
    """Two layers from features to a density and features."""

    def __init__(self, config: GeneratorConfig) -> None:
        """Build the layers."""
        super().__init__()
        self.activation: DecoderActivation = config.decoder_activation
        multiplier = config.decoder_lr_multiplier
        channels, width = config.plane_channels, config.decoder_width
        self.hidden = EqualizedLinear(channels, width, lr_multiplier=multiplier)
        self.out = EqualizedLinear(width, 1 + channels, lr_multiplier=multiplier)

    def weights(self) -> DecoderWeights:
        """Weights as the renderer applies them."""
        return DecoderWeights(
            *self.hidden.effective_weights(), *self.out.effective_weights(), self.activation
        )


class Generator(nn.Module):
    """Generate heads and their images."""

    def __init__(self, config: GeneratorConfig, generator: torch.Generator | None = None) -> None:
        """Build all networks.

        Args:
            config: What to build.
            generator: Draws the weights; None leaves them to PyTorch's global generator.
        """
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.decoder = PlaneDecoder(config)
        plan = SUPER_RESOLUTION[config.super_resolution]
        self.super_resolution = SuperResolution(
            plan, config.plane_channels, config.w_dim, clamp=config.super_resolution_clamp
        )
        self.sphere_a = self.sphere_b = None
        if config.volume.representation == "dual_sphere":
            self.sphere_a, self.sphere_b = _sphere_branch(config), _sphere_branch(config)
        self.background = _background(config, plan.input_size) if config.has_background else None
        self.camera_offset = _camera_offset(config) if config.has_camera_offset else None
        self.to_rgb = self.to_parsing = None
        if config.has_to_rgb:
            self.to_rgb = ToRgb(config.plane_channels, 3, config.w_dim)
        if config.parsing_classes:
            self.to_parsing = ToRgb(config.plane_channels, config.parsing_classes, config.w_dim)
        branches = [branch for branch in (self.sphere_a, self.sphere_b) if branch is not None]
        self._fast_planes = FastSynthesis(self.backbone.synthesis.block_list(), branches)
        self._fast_scenery = None
        if self.background is not None:
            self._fast_scenery = FastSynthesis(self.background.block_list())
        if generator is not None:
            draw_weights(self, generator)
        if self.camera_offset is not None:
            last = self.camera_offset.layers[-1]
            assert isinstance(last, EqualizedLinear)
            last.weight.data *= config.camera_offset_scale

    @property
    def num_ws(self) -> int:
        """Styles per head."""
        return self.backbone.synthesis.num_ws

    def keep_derived(self) -> None:
        """Prepare for many images on a GPU; the weights must not change from now on."""
        self._fast_planes.keep_derived()
        if self._fast_scenery is not None:
            self._fast_scenery.keep_derived()
        self.super_resolution.keep_derived()

    def map(
        self,
        z: Float[Tensor, "b z"],
        labels: Float[Tensor, "b 25"],
        truncation: float = 1.0,
        cutoff: int | None = None,
    ) -> Float[Tensor, "b n w"]:
        """Map latents to styles, conditioned on cameras (which may differ from the rendered ones).

        Args:
            z: Latents.
            labels: Cameras.
            truncation: 0 gives the mean head, 1 full variety.
            cutoff: Truncate only the first styles.
        """
        condition = labels * self.config.label_scale
        if not self.config.is_conditioned:
            condition = torch.zeros_like(labels)
        return map_to_styles(self.backbone.mapping, z, condition, self.num_ws, truncation, cutoff)

    def offset_labels(
        self, z: Float[Tensor, "b z"], labels: Float[Tensor, "b 25"]
    ) -> tuple[Float[Tensor, "b 25"], Float[Tensor, "b 3"]]:
        """Shift cameras by the learned offset; the labels to render, and the offset.

        Without a network for it, the offset is zero.
        """
        if self.camera_offset is None:
            return labels, labels.new_zeros(len(labels), _OFFSET_DIM)
        condition = labels
        if not self.config.is_conditioned:
            condition = torch.zeros_like(labels)
        if self.config.parity == "official":
            labels = condition
        offset = self.camera_offset(z, condition * self.config.label_scale)
        return shift_labels(labels, offset), offset

    def planes(
        self,
        ws: Float[Tensor, "b n w"],
        noise_mode: NoiseMode = "const",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Synthesise the planes: b 2 3 d h w for two spheres, else b 3 d h w.

        On a GPU they are float16 with ``precision="half"`` and no gradients.
        """
        if are_for_kernels(ws):
            options = {"noise_mode": noise_mode, "generator": generator, "dtype": self._dtype}
            planes = self._fast_planes(self.backbone.synthesis.block_styles(ws), **options)
            if planes.dtype == torch.bfloat16:
                planes = planes.float()
            return planes.unflatten(1, (3, -1) if self.sphere_a is None else (2, 3, -1))
        image = self.backbone.synthesis(ws, noise_mode, generator)
        if self.sphere_a is None or self.sphere_b is None:
            return image.unflatten(1, (3, -1))
        spheres = [branch(image).unflatten(1, (3, -1)) for branch in (self.sphere_a, self.sphere_b)]
        return torch.stack(spheres, dim=1)

    def draw(
        self,
        batch: int,
        generator: torch.Generator,
        *,
        neural_size: int | None = None,
        volume: VolumeSettings | None = None,
    ) -> VolumeDraws:
        """Draw what ``render`` needs; the generator must live on the weights' device."""
        rays = (neural_size or self.config.neural_size) ** 2
        device = self.backbone.mapping.mean_w.device
        return VolumeDraws.draw((batch, rays), volume or self.config.volume, generator, device)

    def render(
        self,
        planes: Float[Tensor, "b ..."],
        ws: Float[Tensor, "b n w"],
        labels: Float[Tensor, "b 25"],
        draws: VolumeDraws,
        *,
        neural_size: int | None = None,
        volume: VolumeSettings | None = None,
        background_ws: Float[Tensor, "b n w"] | None = None,
        noise_mode: NoiseMode = "const",
        generator: torch.Generator | None = None,
    ) -> HeadImages:
        """Render planes.

        Args:
            planes: Of ``planes``.
            ws: The styles they were made from.
            labels: Cameras.
            draws: Random numbers of the volume renderer, for the same size.
            neural_size: Side of the feature image; None as configured.
            volume: Settings of the rays; None as configured.
            background_ws: Styles of the background; None the same.
            noise_mode: Noise of the background's layers; super-resolution has its own setting.
            generator: For random noise.
        """
        size = neural_size or self.config.neural_size
        origins, directions = label_rays(labels, size)
        settings = volume or self.config.volume
        rendered = render_planes(
            planes,
            self.decoder.weights(),
            origins,
            directions,
            settings,
            draws,
            backend=self.config.backend,
            precision=self.config.precision,
        )
        features, depth, opacity = (
            values.transpose(1, 2).unflatten(2, (size, size)) for values in rendered
        )
        if self.decoder.activation == "sigmoid":
            features = 2.0 * features - 1.0
        if self.background is not None:
            styles = ws if background_ws is None else background_ws
            scenery = self._scenery(styles, noise_mode, generator)
            features = features + (1.0 - opacity) * resize_antialiased(scenery, size)
        w = ws[:, -1]
        raw = features[:, :3] if self.to_rgb is None else self.to_rgb(features, w)
        parsing = None
        if self.to_parsing is not None:
            parsing = self.to_parsing(features, w).softmax(dim=1)
        sharpening_noise = self.config.super_resolution_noise
        image = self.super_resolution(
            raw, features, w, sharpening_noise, generator, dtype=self._dtype
        )
        return HeadImages(image, raw, 1.002 * opacity - 0.001, parsing, depth)

    def query(
        self,
        planes: Float[Tensor, "b ..."],
        points: Float[Tensor, "b p 3"],
        *,
        is_cropped: bool | None = None,
        noise: Float[Tensor, "b p"] | None = None,
        volume: VolumeSettings | None = None,
    ) -> tuple[Float[Tensor, "b p d"], Float[Tensor, "b p"]]:
        """Features and raw densities at world points.

        Args:
            planes: Of ``planes``.
            points: World positions.
            is_cropped: Whether points that no ray sees are empty; None for yes, but with official
                parity.
            noise: Normal numbers for the noise on the density.
            volume: Settings of the planes; None as configured.
        """
        if is_cropped is None:
            is_cropped = self.config.parity == "fixed"
        settings = volume or self.config.volume
        weights = self.decoder.weights()
        return query_points(
            planes,
            weights,
            points,
            settings,
            is_cropped=is_cropped,
            noise=noise,
            backend=self.config.backend,
        )

    def _scenery(
        self, ws: Tensor, noise_mode: NoiseMode, generator: torch.Generator | None
    ) -> Float[Tensor, "b d s s"]:
        assert self.background is not None
        missing = max(self.background.num_ws - ws.shape[1], 0)
        padded = torch.cat([ws, ws[:, -1:].expand(-1, missing, -1)], dim=1)
        styles = padded[:, : self.background.num_ws]
        if self._fast_scenery is not None and are_for_kernels(ws):
            options = {"noise_mode": noise_mode, "generator": generator, "dtype": self._dtype}
            return self._fast_scenery(self.background.block_styles(styles), **options).float()
        return self.background(styles, noise_mode, generator)

    @property
    def _dtype(self) -> torch.dtype:
        """Of features between layers on a GPU."""
        if torch.is_grad_enabled():
            return _GRADIENT_DTYPES[self.config.gradient_precision]
        return torch.float16 if self.config.precision == "half" else torch.float32


def _sphere_branch(config: GeneratorConfig) -> nn.Sequential:
    image_channels, between = config.sphere_channels
    return nn.Sequential(
        EqualizedConv2d(image_channels, between, 1, has_bias=False),
        EqualizedConv2d(between, 3 * config.plane_channels, 1, has_bias=False),
    )


def _background(config: GeneratorConfig, size: int) -> SynthesisNetwork:
    return SynthesisNetwork(
        config.w_dim,
        size,
        config.plane_channels,
        channel_base=config.channel_base // 2,
        channel_max=config.channel_max,
        clamp=config.clamp,
    )


def _camera_offset(config: GeneratorConfig) -> MappingNetwork:
    return MappingNetwork(
        config.z_dim,
        config.label_dim,
        _OFFSET_DIM,
        num_layers=config.mapping_layers,
        lr_multiplier=1.0,
        last_activation="linear",
    )
