"""Published models as avatars of ours, which every command understands, and back."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vultus.data.sequence import HeadSequence
from vultus.methods.gaussianhead.config import GaussianHeadConfig, ModelConfig
from vultus.methods.gaussianhead.model import GaussianHead
from vultus.methods.gaussianhead.official import OfficialModel, model_config

__all__ = ["avatar_from_official", "config_from_official", "official_from_avatar"]

_AXES = ("x", "y", "z")
_PUBLISHED = ModelConfig(
    driving=("expression_coeffs",),
    derivation="official",
    opacity_offsets=False,
)
_FIXED = (
    "drives_with_view",
    "derivation",
    "num_derivations",
    "channels",
    "color_activation",
    "sample_at",
    "width",
    "depth",
    "num_frequencies",
    "scale_offsets",
    "normalize_deformed_quats",
    "opacity_offsets",
    "scene",
    "scene_center",
    "scene_scale",
    "near",
    "sh_degree",
    "view_directions",
)
"""Settings that the published program cannot express otherwise."""


def config_from_official(official: OfficialModel) -> GaussianHeadConfig:
    """Settings under which a published model renders as it does in its own program.

    Raises:
        ValueError: If a tri-plane has another resolution along each axis.
    """
    resolutions = []
    for scale in official.appearance.planes:
        assert isinstance(scale, nn.ParameterList)
        (y, x), z = scale[0].shape[2:], scale[1].shape[2]
        if not x == y == z:
            named = ", ".join(f"{n} {size}" for n, size in zip(_AXES, (x, y, z), strict=True))
            raise ValueError(f"tri-planes must have one resolution for all axes, got {named}")
        resolutions.append(int(x))
    motion = official.motion
    first, plane = motion.layers[0], official.appearance.state_dict()["planes.0.0"]
    assert isinstance(first, nn.Linear)
    model = replace(
        model_config(official),
        num_derivations=official.appearance.num_derivations,
        channels=plane.shape[1],
        resolutions=tuple(resolutions),
        width=first.out_features,
        depth=len(motion.layers),
        num_gaussians=official.gaussians["means"].shape[0],
        extent=1.0,
    )
    return GaussianHeadConfig(model=model, steps=max(official.iteration, 1), prune_by="last")


def avatar_from_official(
    official: OfficialModel, sequence: HeadSequence, device: torch.device | str = "cpu"
) -> GaussianHead:
    """Put a published model on a capture with expression vectors of the same length.

    Raises:
        ValueError: If they have another length.
    """
    config = config_from_official(official)
    expressions = sequence.pose.expression_coeffs
    size = 0 if expressions is None else expressions.shape[1]
    if size != official.motion.driving_size:
        raise ValueError(
            f"{sequence.root}: expressions must have {official.motion.driving_size} numbers as in "
            f"the model, got {size}"
        )
    avatar = GaussianHead(config, sequence, seed=0, device=device)
    tensors: dict[str, Tensor] = {**avatar.tensors(), **official.gaussians}
    tensors |= {f"motion.{n}": t for n, t in official.motion.state_dict().items()}
    tensors |= {f"appearance.{n}": t for n, t in official.appearance.state_dict().items()}
    avatar.load_tensors(tensors)
    return avatar


def official_from_avatar(avatar: GaussianHead, step: int) -> OfficialModel:
    """What ``write_official`` needs of an avatar that was trained as the published program does.

    Args:
        avatar: Of the preset ``official``, driven by the expression alone.
        step: Becomes the iteration.

    Raises:
        ValueError: If a setting is unlike the published program's; names it.
    """
    model = avatar.config.model
    for name in _FIXED:
        value, published = getattr(model, name), getattr(_PUBLISHED, name)
        if value != published:
            raise ValueError(
                f"the published program needs model.{name} {published!r}, the run has {value!r}"
            )
    motion, appearance = avatar.networks
    gaussians = {name: value.detach().cpu() for name, value in avatar.gaussians.items()}
    return OfficialModel(gaussians, motion, appearance, step)
