"""GSHeadRelight's generator: latents to styles, to Gaussians, to pictures in any light.

Gaussians depend neither on camera nor on light: they are generated once per head (``gaussians``),
lit (``rendering.shade``) and rendered (``render``) as often as wanted. Heads that are shown often
are activated before (``gaussians.activate_heads``).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.methods.gsheadrelight.config import GeneratorConfig
from vultus.methods.gsheadrelight.gaussians import (
    ActivatedHeads,
    HeadGaussians,
    SceneryGaussians,
)
from vultus.methods.gsheadrelight.point_generator import PointGenerator, PointHeads
from vultus.methods.gsheadrelight.rendering import (
    Pictures,
    ShadeMode,
    label_camera,
    lit_channels,
    render_channels,
)
from vultus.methods.gsheadrelight.scenery import SceneryGenerator
from vultus.nets.modulated_linear import ModulatedLinear
from vultus.nets.stylegan2.layers import EqualizedLinear, draw_weights
from vultus.nets.stylegan2.mapping import MappingNetwork, map_to_styles

__all__ = ["Generator"]

_UNUSED_WIDTH = 32


class _UnusedCameraBranch(nn.Module):
    """Weights that published checkpoints hold and nothing reads.

    In GSGAN they made colours depend on the camera. They are kept so that checkpoints come back as
    they were.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = EqualizedLinear(3, _UNUSED_WIDTH)
        self.affine = EqualizedLinear(_UNUSED_WIDTH, width)


class Generator(nn.Module):
    """Generate heads that can be lit."""

    def __init__(self, config: GeneratorConfig, generator: torch.Generator | None = None) -> None:
        """Build all networks.

        Args:
            config: What to build.
            generator: Draws the weights; None leaves them to PyTorch's global generator.
        """
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(
            config.z_dim, config.label_dim, config.w_dim, num_layers=config.mapping_layers
        )
        self.head = PointGenerator(config, generator)
        self.unused = _UnusedCameraBranch(config.channels[0])
        self.background = None
        if config.background_points:
            self.background = SceneryGenerator(config, generator)
        if generator is not None:
            draw_weights(self, generator)
            for layer in self.modules():
                if isinstance(layer, ModulatedLinear | PointHeads):
                    layer.draw(generator)

    @property
    def num_ws(self) -> int:
        """Styles per head."""
        return self.config.num_ws

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
        return map_to_styles(self.mapping, z, condition, self.num_ws, truncation, cutoff)

    def gaussians(self, ws: Float[Tensor, "b n w"]) -> HeadGaussians:
        """Generate the Gaussians of heads."""
        return self.gaussians_and_anchors(ws)[0]

    def gaussians_and_anchors(
        self, ws: Float[Tensor, "b n w"]
    ) -> tuple[HeadGaussians, HeadGaussians]:
        """Generate Gaussians, and the nodes that placed them, coarse first (for losses)."""
        self._check_styles(ws)
        drawn, nodes = self.head(ws[:, :-1])
        return drawn.as_head().bounded(), nodes.as_head()

    def scenery(self, ws: Float[Tensor, "b n w"]) -> SceneryGaussians:
        """Generate what is behind heads.

        Raises:
            ValueError: If the generator has no background.
        """
        self._check_styles(ws)
        if self.background is None:
            raise ValueError("the generator has no background: background_points is 0")
        return self.background(ws[:, -1])

    def render(
        self,
        gaussians: HeadGaussians | ActivatedHeads,
        light: Float[Tensor, "#b *m k c"],
        labels: Float[Tensor, "b 25"],
        *,
        mode: ShadeMode = "lit",
        scenery: SceneryGaussians | None = None,
        background: Float[Tensor, 3] | None = None,
        size: int | None = None,
    ) -> Pictures:
        """Light and render heads; all lights of a head in one pass.

        Args:
            gaussians: Of ``gaussians``, activated or not.
            light: One or more for each head, or for all alike; see ``rendering.shading``.
            labels: Cameras.
            mode: What to show.
            scenery: Of ``scenery``.
            background: Colour in [0, 1] behind everything, black if None.
            size: Side of the pictures; None as configured.
        """
        parity = self.config.parity
        camera = label_camera(labels, size or self.config.image_size, parity)
        return render_channels(
            gaussians,
            lit_channels(gaussians, light, mode),
            camera,
            scenery=scenery,
            background=background,
            parity=parity,
            backend=self.config.backend,
        )

    def _check_styles(self, ws: Tensor) -> None:
        if ws.shape[1] != self.num_ws:
            raise ValueError(f"ws must hold {self.num_ws} styles per head, got {ws.shape[1]}")
