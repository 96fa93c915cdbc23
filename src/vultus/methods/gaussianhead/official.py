"""Model folders of the published GaussianHead (spec section 8).

    point_cloud/iteration_K/point_cloud.ply    positions, scales, rotations
    deform/iteration_K/deform.pth              motion network
    trip/iteration_K/trip.pth                  tri-planes and decoders
    tilted/iteration_K/tilted.pth              quaternions of the derivation
    cfg_args

Opacities and colours of the PLY are those of the last image that was rendered; nothing needs them.
The order of the Gaussians is part of the model (``derivation.official_matrices``) until the
derivation is baked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.core.files import write_text
from vultus.core.torch_pickle import load_state_dict_file
from vultus.gaussians.splat_files import Splats, read_splats, write_splats
from vultus.methods.gaussianhead.appearance import AppearanceNetwork
from vultus.methods.gaussianhead.config import ModelConfig
from vultus.methods.gaussianhead.deformation import DeformationNetwork
from vultus.methods.gaussianhead.derivation import official_stretches
from vultus.methods.gaussianhead.posing import PosedGaussians, pose_gaussians
from vultus.nets.encodings import num_encoded

__all__ = [
    "OfficialModel",
    "appearance_from_official",
    "bake_derivation",
    "model_config",
    "motion_from_official",
    "official_name",
    "pose_official",
    "read_official",
    "write_official",
]

_NUM_FREQUENCIES = 10
_NUM_DERIVATIONS = 4
_POINTS, _MOTION, _PLANES, _DERIVATION, _ARGUMENTS = (
    ("point_cloud", "point_cloud.ply"),
    ("deform", "deform.pth"),
    ("trip", "trip.pth"),
    ("tilted", "tilted.pth"),
    "cfg_args",
)
_NAMES = {
    "layers.": "linear.",
    "mean_head.": "gaussian_warp.",
    "quat_head.": "gaussian_rotation.",
    "scale_head.": "gaussian_scaling.",
    "planes.": "tri_plane.",
    "opacity_layers.": "opacity_net.net.",
    "color_layers.": "shs_net.net.",
    "dc_layer.": "shs_dc_net.",
    "rest_layer.": "shs_rest_net.",
}


@dataclass(frozen=True)
class OfficialModel:
    """A published model, ready to be posed."""

    gaussians: Mapping[str, Tensor]
    """``means``, ``log_scales``, ``quats`` and ``derivation``."""
    motion: DeformationNetwork
    appearance: AppearanceNetwork
    iteration: int
    is_baked: bool = False
    """Whether ``derivation`` holds factors per axis, so that Gaussians may change places."""

    @property
    def num_bytes(self) -> int:
        """Size of all numbers as float32."""
        parts = [*self.gaussians.values(), *self.motion.parameters(), *self.appearance.parameters()]
        return 4 * sum(part.numel() for part in parts)


def official_name(name: str) -> str:
    """What the published program calls a parameter of one of the networks."""
    for ours, theirs in _NAMES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise ValueError(f"{name!r} is no parameter of GaussianHead's networks")


def motion_from_official(weights: Mapping[str, Tensor]) -> DeformationNetwork:
    """Build the motion network from a published state dict, of any width and expression length.

    Raises:
        ValueError: If a tensor is missing or of another shape.
    """
    first = _tensor(weights, "linear.0.weight")
    depth = sum(1 for name in weights if re.fullmatch(r"linear\.\d+\.weight", name))
    joined = [
        i
        for i in range(1, depth)
        if _tensor(weights, f"linear.{i}.weight").shape[1] != first.shape[0]
    ]
    if len(joined) != 1 or first.shape[1] <= num_encoded(3, _NUM_FREQUENCIES):
        raise ValueError(
            f"linear.0.weight must have more than {num_encoded(3, _NUM_FREQUENCIES)} columns and "
            f"one later layer must join the input, got {first.shape[1]} and {len(joined)}"
        )
    network = DeformationNetwork(
        first.shape[1] - num_encoded(3, _NUM_FREQUENCIES),
        torch.Generator(),
        width=first.shape[0],
        depth=depth,
        skip_after=joined[0] - 1,
        num_frequencies=_NUM_FREQUENCIES,
    )
    _load(network, weights)
    return network


def appearance_from_official(
    weights: Mapping[str, Tensor], num_derivations: int = _NUM_DERIVATIONS
) -> AppearanceNetwork:
    """Build tri-planes and decoders from a published state dict, of one scale or several.

    Raises:
        ValueError: If a tensor is missing or of another shape.
    """
    scales = sorted({int(name.split(".")[1]) for name in weights if name.startswith("tri_plane.")})
    if scales != list(range(len(scales))) or not scales:
        raise ValueError(f"tri_plane.S must be numbered from 0, got {scales}")
    resolutions = []
    for scale in scales:
        _, channels, y, x = _tensor(weights, f"tri_plane.{scale}.0").shape
        z = _tensor(weights, f"tri_plane.{scale}.1").shape[2]
        resolutions.append((x, y, z))
    network = AppearanceNetwork(
        torch.Generator(),
        resolutions=resolutions,
        channels=channels,
        num_derivations=num_derivations,
    )
    _load(network, weights)
    return network


def read_official(folder: Path, iteration: int | None = None) -> OfficialModel:
    """Read a model folder; no code in it is run.

    Args:
        folder: What the published program calls ``model_path``.
        iteration: Which one; by default the last. All four parts are taken from it.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or the parts do not belong together; names the file.
    """
    iteration = _find_iteration(folder, iteration)
    splats = read_splats(_part(folder, _POINTS, iteration))
    path = _part(folder, _DERIVATION, iteration)
    tau = _tensor(load_state_dict_file(path), "tau", path)
    if tau.ndim != 3 or tau.shape[0] != len(splats) or tau.shape[2] != 4:
        raise ValueError(
            f"{path}: tau must have shape [{len(splats)}, k, 4] to fit the points, got "
            f"{list(tau.shape)}"
        )
    gaussians = {
        "means": splats.means,
        "log_scales": splats.log_scales,
        "quats": splats.quats,
        "derivation": tau.float(),
    }
    path = _part(folder, _MOTION, iteration)
    try:
        motion = motion_from_official(load_state_dict_file(path))
        path = _part(folder, _PLANES, iteration)
        appearance = appearance_from_official(load_state_dict_file(path), tau.shape[1])
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text}") from None
    return OfficialModel(gaussians, motion, appearance, iteration)


def write_official(folder: Path, model: OfficialModel) -> None:
    """Write a model folder that the published program and ``read_official`` understand.

    Finite values come back bit for bit. Opacities and colours of the PLY, which the published
    program overwrites, are grey and half transparent.

    Raises:
        ValueError: If the derivation is baked: the published program knows quaternions only.
    """
    if model.is_baked:
        raise ValueError("a baked derivation cannot be written in the published layout")
    values = {name: value.detach().cpu() for name, value in model.gaussians.items()}
    paths = {
        part: folder / part[0] / f"iteration_{model.iteration}" / part[1]
        for part in (_POINTS, _MOTION, _PLANES, _DERIVATION)
    }
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    num = values["means"].shape[0]
    splats = Splats(
        means=values["means"],
        log_scales=values["log_scales"],
        quats=values["quats"],
        opacity_logits=torch.full((num,), 0.5),
        sh_dc=torch.zeros(num, 1, 3),
        sh_rest=torch.zeros(num, 15, 3),
    )
    write_splats(paths[_POINTS], splats)
    for part, network in ((_MOTION, model.motion), (_PLANES, model.appearance)):
        weights = {official_name(name): p.cpu() for name, p in network.state_dict().items()}
        torch.save(weights, paths[part])
    torch.save({"tau": values["derivation"]}, paths[_DERIVATION])
    arguments = f"sh_degree=3, model_path={str(folder)!r}, white_background=True"
    write_text(folder / _ARGUMENTS, f"Namespace({arguments})")


def bake_derivation(model: OfficialModel) -> OfficialModel:
    """Store the factors that the published derivation amounts to; order no longer matters."""
    if model.is_baked:
        return model
    stretches = official_stretches(model.gaussians["derivation"])
    return replace(model, gaussians={**model.gaussians, "derivation": stretches}, is_baked=True)


def model_config(model: OfficialModel) -> ModelConfig:
    """The rules by which a published model is posed."""
    return ModelConfig(
        driving=("expression_coeffs",),
        derivation="baked_scale" if model.is_baked else "official",
        has_tf32=False,
        starts_at_rest=False,
        opacity_offsets=False,
    )


def pose_official(
    model: OfficialModel,
    expressions: Float[Tensor, "b e"],
    camera_centers: Float[Tensor, "b 3"],
) -> PosedGaussians:
    """Pose a published model; render with ``normalize_quats=False`` and SH degree 3."""
    return pose_gaussians(
        model.gaussians,
        model.motion,
        model.appearance,
        expressions,
        camera_centers,
        model_config(model),
    )


def _find_iteration(folder: Path, iteration: int | None) -> int:
    points = folder / _POINTS[0]
    if not points.is_dir():
        raise FileNotFoundError(f"{points}: no such folder; is {folder} a model folder?")
    names = (re.fullmatch(r"iteration_(\d{1,12})", path.name) for path in points.iterdir())
    known = sorted(int(match[1]) for match in names if match)
    if not known or (iteration is not None and iteration not in known):
        listed = ", ".join(map(str, known)) or "none"
        wanted = "iteration" if iteration is None else f"iteration {iteration}"
        raise FileNotFoundError(f"{points}: has no {wanted} (there is {listed})")
    return known[-1] if iteration is None else iteration


def _part(folder: Path, part: tuple[str, str], iteration: int) -> Path:
    path = folder / part[0] / f"iteration_{iteration}" / part[1]
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return path


def _tensor(weights: Mapping[str, Tensor], name: str, path: Path | None = None) -> Tensor:
    if name not in weights:
        where = "" if path is None else f"{path}: "
        raise ValueError(f"{where}lacks the tensor {name!r}")
    return weights[name]


def _load(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            value = _tensor(weights, official_name(name))
            if value.shape != parameter.shape:
                raise ValueError(
                    f"{official_name(name)} must have shape {list(parameter.shape)}, got "
                    f"{list(value.shape)}"
                )
            parameter.copy_(value)
