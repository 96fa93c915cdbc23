"""Made-up generators as the published programs pickle them: SphereHead, PanoHead and EG3D."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from torch import Tensor, nn

from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.spherehead.config import GeneratorConfig
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.official import to_official_weights
from vultus.nets.stylegan2.official_pickle import OfficialNetwork

SPHERES = GeneratorConfig(
    z_dim=16,
    w_dim=8,
    mapping_layers=3,
    channel_base=64,
    channel_max=8,
    plane_size=8,
    volume=VolumeSettings(limits="box", coarse_samples=12, fine_samples=6, box_size=2.0),
    sphere_channels=(512, 256),
    parsing_classes=5,
    super_resolution="4x",
    super_resolution_clamp=None,
    label_scale=0.5,
)
GRIDS = replace(
    SPHERES,
    volume=replace(SPHERES.volume, representation="tri_grid", grid_depth=3),
    parsing_classes=0,
)
PLANES = replace(
    SPHERES,
    volume=replace(SPHERES.volume, representation="tri_plane", crop_margin=None),
    parsing_classes=0,
    has_background=False,
    has_camera_offset=False,
    has_to_rgb=False,
    decoder_activation="sigmoid",
)


def as_published(config: GeneratorConfig, generator: Generator | None = None) -> OfficialNetwork:
    """A generator of these settings as its pickle describes it."""
    generator = Generator(config) if generator is None else generator
    rendering = {
        "ray_start": "auto",
        "ray_end": "auto",
        "box_warp": config.volume.box_size,
        "depth_resolution": config.volume.coarse_samples,
        "depth_resolution_importance": config.volume.fine_samples,
        "decoder_activation": config.decoder_activation,
        "c_scale": config.label_scale,
    }
    return OfficialNetwork(
        "TriPlaneGenerator",
        to_official_weights(generator.state_dict()),
        {"rendering_kwargs": rendering, "neural_rendering_resolution": 64},
        {"channel_base": config.channel_base, "channel_max": config.channel_max},
    )


class Persistent(dict[str, Any]):
    """Pickles as the release pickles its modules."""

    def __reduce__(self) -> tuple[object, ...]:
        rebuild = sys.modules["torch_utils.persistence"].__dict__["_reconstruct_persistent_obj"]
        return rebuild, (dict(self),)


@contextmanager
def release_modules() -> Iterator[None]:
    """Names that pickles of the release mention; what they name must never be run."""

    def rebuild(meta: dict[str, Any]) -> None:
        raise AssertionError(f"was run for {meta}")

    module, name = "torch_utils.persistence", "_reconstruct_persistent_obj"
    rebuild.__module__, rebuild.__qualname__ = module, name
    modules = {"torch_utils": types.ModuleType("torch_utils"), module: types.ModuleType(module)}
    setattr(modules[module], name, rebuild)
    with mock.patch.dict(sys.modules, modules):
        yield


def write_official_pickle(path: Path, networks: Mapping[str, OfficialNetwork]) -> Path:
    """Write networks as the release writes them, with source code that must not be run."""
    with release_modules():
        pickled = {name: _persistent(network) for name, network in networks.items()}
        path.write_bytes(pickle.dumps(pickled, protocol=4))
    return path


def _persistent(network: OfficialNetwork) -> Persistent:
    root = _module(network.weights)
    root["class_name"] = network.class_name
    root["state"] |= {**network.attributes, "_init_kwargs": network.arguments}
    return root


def _module(weights: Mapping[str, Tensor]) -> Persistent:
    own = {name: tensor for name, tensor in weights.items() if "." not in name}
    parameters = {n: nn.Parameter(t) for n, t in own.items() if t.is_floating_point()}
    buffers = {n: t for n, t in own.items() if n not in parameters}
    children = dict.fromkeys(name.partition(".")[0] for name in weights if "." in name)
    modules = {
        child: _module(
            {n.partition(".")[2]: t for n, t in weights.items() if n.partition(".")[0] == child}
        )
        for child in children
    }
    state = {"_parameters": parameters, "_buffers": buffers, "_modules": modules}
    return Persistent(
        type="class", version=6, module_src="raise SystemExit", class_name="Part", state=state
    )
