"""Golden values of GSHeadRelight's generator: styles, Gaussians, pictures and gradients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vultus.methods.gsheadrelight.config import GeneratorConfig
from vultus.methods.gsheadrelight.gaussians import Gaussians
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.official import from_official_generator, to_official_generator
from vultus.methods.gsheadrelight.rendering import label_camera, shade

RAW, IMAGE, GRADIENT = 2e-4, 2e-3, 2e-3
FIELDS = {
    "xyz": "means",
    "scale": "log_scales",
    "rotation": "quats",
    "opacity": "opacity_logits",
    "albedo": "albedo_dc",
    "dc_rt": "transfer",
    "color": "color_dc",
}


def config_in(path: Path) -> GeneratorConfig:
    stated = json.loads(path.read_text())
    channels = stated["tiny"]["channels"]
    return GeneratorConfig(
        z_dim=stated["tiny"]["w_dim"],
        w_dim=stated["tiny"]["w_dim"],
        num_points=stated["num_pts"],
        channels=tuple(channels.values()),
        background_points=stated["tiny"]["bg_pts"],
        background_channels=stated["tiny"]["bg_ch"],
        image_size=stated["img"],
        detail=stated["custom_options"]["rgb_resolution"],
        parity="official",
    )


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    return load_file(golden_dir / "gsheadrelight" / "generator.safetensors")


@pytest.fixture(scope="module")
def generator(golden_dir: Path, golden: dict[str, Tensor]) -> Generator:
    config = config_in(golden_dir / "gsheadrelight" / "generator_config.json")
    built = Generator(config)
    weights = from_official_generator(prefixed(golden, "state."), built.state_dict(), config)
    built.load_state_dict(weights)
    return built


def mono(golden: Mapping[str, Tensor]) -> Tensor:
    return golden["in.l"][..., None]


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    error = float((actual - expected).detach().abs().max())
    assert error <= tolerance * max(1.0, float(expected.abs().max()))


def assert_gaussians(actual: Gaussians, golden: Mapping[str, Tensor], prefix: str) -> None:
    expected = prefixed(golden, prefix)
    assert expected
    for name, values in expected.items():
        assert_near(getattr(actual, FIELDS[name]), values, RAW)


@torch.no_grad()
def test_styles_are_the_published_ones(generator: Generator, golden: dict[str, Tensor]) -> None:
    assert_near(generator.map(golden["in.z"], golden["in.c"]), golden["out.ws"], 1e-5)
    truncated = generator.map(golden["in.z"], golden["in.c"], 0.7, 14)
    assert_near(truncated, golden["out.ws_psi07_cut14"], 1e-5)


@torch.no_grad()
def test_gaussians_of_all_levels_are_the_published_ones(
    generator: Generator, golden: dict[str, Tensor]
) -> None:
    gaussians, anchors = generator.gaussians_and_anchors(golden["out.ws"])
    assert_gaussians(gaussians, golden, "out.gs.")
    assert_gaussians(anchors, golden, "out.anchor.")
    assert_gaussians(generator.scenery(golden["out.ws"]), golden, "out.bg.")


@torch.no_grad()
def test_cameras_have_the_published_slips(golden: dict[str, Tensor]) -> None:
    camera = label_camera(golden["in.c"], 64, "official")
    for index in range(2):
        expected = golden[f"cam{index}.world_view_transform"].T
        assert_near(camera.world_to_camera[index], expected, 1e-5)
    assert_near(32.0 / camera.intrinsics[:1, 0, 0], golden["cam.tanfov"].reshape(1), 1e-6)


@torch.no_grad()
def test_pictures_are_the_published_ones(generator: Generator, golden: dict[str, Tensor]) -> None:
    gaussians = generator.gaussians(golden["out.ws"])
    labels, light = golden["in.c"], mono(golden)
    made = generator.render(gaussians, light, labels)
    assert_near(made.image, golden["out.image"], IMAGE)
    assert_near(made.alpha, golden["out.alpha"], IMAGE)
    assert_near(made.depth, golden["out.depth"], IMAGE)
    albedo = generator.render(gaussians, light, labels, mode="albedo").image
    assert_near(albedo, golden["out.image_albedo"], IMAGE)
    shaded = generator.render(gaussians, light, labels, mode="shading").image
    assert_near(shaded, golden["out.image_dc_rt"], IMAGE)
    colored = golden["in.l_rgb"].transpose(1, 2)
    relit = generator.render(gaussians, colored, labels).image
    assert_near(relit, golden["out.image_rgblight"], IMAGE)


@torch.no_grad()
def test_pictures_with_a_background_are_the_published_ones(
    generator: Generator, golden: dict[str, Tensor]
) -> None:
    ws = golden["out.ws"]
    scenery = generator.scenery(ws)
    made = generator.render(generator.gaussians(ws), mono(golden), golden["in.c"], scenery=scenery)
    assert_near(made.image, golden["out.image_bg"], IMAGE)
    assert_near(made.alpha, golden["out.alpha_bg"], IMAGE)
    assert_near(made.depth, golden["out.depth_bg"], IMAGE)


@torch.no_grad()
def test_changed_gaussians_give_the_published_pictures(
    generator: Generator, golden: dict[str, Tensor]
) -> None:
    gaussians = generator.gaussians(golden["out.ws"])
    solid = replace(gaussians, opacity_logits=torch.ones_like(gaussians.opacity_logits))
    thin = replace(gaussians, log_scales=gaussians.log_scales - 1.0)
    for changed, name in ((solid, "opacity_ones"), (thin, "rendering_scale_m1")):
        made = generator.render(changed, mono(golden), golden["in.c"])
        assert_near(made.image, golden[f"out.image_{name}"], IMAGE)


@torch.no_grad()
def test_colors_are_the_published_ones(generator: Generator, golden: dict[str, Tensor]) -> None:
    gaussians = generator.gaussians(golden["out.ws"])
    colored = golden["in.l_rgb"].transpose(1, 2)
    for light, name in ((mono(golden), "dc_last"), (colored, "dc_rgblight_last")):
        color = shade(gaussians, light, is_clamped=False)
        expected = 0.5 + 0.28209479177387814 * golden[f"out.features_{name}"][:, 0]
        assert_near(color[-1], expected, RAW)


def test_gradients_are_the_published_ones(generator: Generator, golden: dict[str, Tensor]) -> None:
    ws = golden["out.ws"].clone().requires_grad_()
    light = golden["in.l"].clone().requires_grad_()
    image = generator.render(generator.gaussians(ws), light[..., None], golden["in.c"]).image
    wanted = [ws, light, generator.head.start]
    found = torch.autograd.grad((image * golden["cot.image"]).sum(), wanted)
    for gradient, name in zip(found, ("ws", "l", "_xyz"), strict=True):
        expected = golden[f"grad.{name}"]
        error = (gradient - expected).norm() / expected.norm()
        assert float(error) < GRADIENT, name


def test_published_weights_come_back_exactly(
    generator: Generator, golden: dict[str, Tensor]
) -> None:
    published = prefixed(golden, "state.")
    written = to_official_generator(generator.state_dict(), generator.config)
    assert written.keys() == published.keys()
    for name, tensor in published.items():
        assert written[name].dtype == tensor.dtype
        assert torch.allclose(written[name], tensor, atol=1e-7), name
