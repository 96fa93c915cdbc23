"""Mapping networks: latents and labels to styles."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.nets.stylegan2.layers import Activation, EqualizedLinear, normalize_second_moment

__all__ = ["MappingNetwork", "map_to_styles", "swap_with_predecessor", "truncate"]


def truncate(
    ws: Float[Tensor, "b n d"],
    mean_w: Float[Tensor, " d"],
    truncation: float,
    cutoff: int | None = None,
) -> Float[Tensor, "b n d"]:
    """Move styles towards their mean.

    Args:
        ws: Styles of every layer.
        mean_w: Mean over many latents.
        truncation: 1 leaves styles as they are, 0 gives the mean.
        cutoff: Only the first layers are moved; None for all.
    """
    if truncation == 1.0:
        return ws
    moved = torch.lerp(mean_w, ws[:, :cutoff], truncation)
    return torch.cat([moved, ws[:, moved.shape[1] :]], dim=1)


def swap_with_predecessor(
    x: Float[Tensor, "b ..."], uniforms: Float[Tensor, " b"], share: float
) -> Float[Tensor, "b ..."]:
    """Give a share of the batch what its predecessor has.

    Args:
        x: Labels or styles.
        uniforms: In [0, 1); those below the share are swapped.
        share: How many, on average.
    """
    is_swapped = (uniforms < share).view(-1, *[1] * (x.ndim - 1))
    return torch.where(is_swapped, x.roll(1, 0), x)


class MappingNetwork(nn.Module):
    """Map latents and labels to w; either may be absent (width 0).

    Labels are embedded to the width of w, and both inputs are scaled to a mean square of one.
    """

    mean_w: Tensor

    def __init__(
        self,
        z_dim: int,
        label_dim: int,
        w_dim: int,
        *,
        num_layers: int,
        lr_multiplier: float = 0.01,
        last_activation: Activation = "lrelu",
        has_mean: bool = True,
    ) -> None:
        """Build the layers; ``has_mean`` keeps a running mean of w for truncation."""
        super().__init__()
        if z_dim == 0 and label_dim == 0:
            raise ValueError("z_dim and label_dim must not both be 0")
        embedded_dim = w_dim if label_dim else 0
        self.z_dim = z_dim
        self.embed = EqualizedLinear(label_dim, w_dim) if label_dim else None
        self.layers = nn.ModuleList(
            EqualizedLinear(
                w_dim if index else z_dim + embedded_dim,
                w_dim,
                activation="lrelu" if index < num_layers - 1 else last_activation,
                lr_multiplier=lr_multiplier,
            )
            for index in range(num_layers)
        )
        if has_mean:
            self.register_buffer("mean_w", torch.zeros(w_dim))

    def forward(
        self, z: Float[Tensor, "b z"] | None, label: Float[Tensor, "b c"] | None
    ) -> Float[Tensor, "b d"]:
        """Map to w, before truncation; an input of width 0 is ignored."""
        parts = []
        if self.z_dim:
            if z is None or z.shape[1] != self.z_dim:
                shape = None if z is None else tuple(z.shape)
                raise ValueError(f"z must have {self.z_dim} columns, got {shape}")
            parts.append(normalize_second_moment(z.float()))
        if self.embed is not None:
            if label is None:
                raise ValueError("label is needed by this network, got None")
            parts.append(normalize_second_moment(self.embed(label.float())))
        x = torch.cat(parts, dim=1)
        for layer in self.layers:
            x = layer(x)
        return x

    @torch.no_grad()
    def track_mean(self, w: Float[Tensor, "b d"], decay: float = 0.998) -> None:
        """Move the running mean towards the mean of a batch of w."""
        self.mean_w.lerp_(w.mean(dim=0), 1.0 - decay)


def map_to_styles(
    mapping: MappingNetwork,
    z: Float[Tensor, "b z"],
    condition: Float[Tensor, "b c"],
    num_ws: int,
    truncation: float = 1.0,
    cutoff: int | None = None,
) -> Float[Tensor, "b n w"]:
    """Give every layer the same style.

    Args:
        mapping: With a mean of w.
        z: Latents.
        condition: Labels as the network embeds them.
        num_ws: Layers.
        truncation: As in ``truncate``, as is ``cutoff``.
        cutoff: See there.
    """
    ws = mapping(z, condition)[:, None].expand(-1, num_ws, -1)
    return truncate(ws, mapping.mean_w, truncation, cutoff)
