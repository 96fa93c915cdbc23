"""Golden values of whole generators and discriminators with weights under their published names."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import softplus

from vultus.kernels.triplane_volume import VolumeDraws, VolumeSettings
from vultus.methods.spherehead.config import (
    DiscriminatorConfig,
    DiscriminatorKind,
    GeneratorConfig,
)
from vultus.methods.spherehead.discriminator import Discriminator
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.methods.spherehead.official import from_official_weights

IMAGES, REST = 1e-3, 1e-4
LOGITS, PENALTY = 1e-4, 1e-3


def assert_near(actual: Tensor | None, expected: Tensor, tolerance: float) -> None:
    """Compare with the largest value as the scale."""
    assert actual is not None
    assert actual.shape == expected.shape
    scale = float(expected.abs().max())
    assert float((actual - expected).detach().abs().max()) <= tolerance * scale


def weights_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = "param."
    return from_official_weights(
        {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    )


def config_in(path: Path) -> dict[str, Any]:
    """The constructor arguments that a fixture states."""
    with safe_open(path, "pt") as stream:
        return ast.literal_eval(stream.metadata()["config"])


def generator_from(folder: Path, name: str, stated: Mapping[str, Any]) -> Generator:
    rendering = stated["rk"]
    volume = VolumeSettings(
        coarse_samples=rendering["depth_resolution"],
        fine_samples=rendering["depth_resolution_importance"],
        limits=(rendering["ray_start"], rendering["ray_end"]),
        parity="official",
    )
    generator = Generator(
        GeneratorConfig(
            z_dim=stated["z_dim"],
            mapping_layers=stated["map_layers"],
            channel_base=stated["cbase"],
            channel_max=stated["cmax"],
            plane_size=rendering["triplane_size"],
            volume=volume,
            super_resolution="2x",
            parity="official",
        )
    )
    parts = [load_file(folder / f"{name}.params_{part}.safetensors") for part in ("main", "sr")]
    generator.load_state_dict(weights_in(parts[0] | parts[1]))
    return generator.eval()


@pytest.fixture(scope="module")
def published(golden_dir: Path) -> tuple[Generator, dict[str, Tensor]]:
    folder = golden_dir / "spherehead"
    path = folder / "d_generator.io.safetensors"
    return generator_from(folder, "d_generator", config_in(path)["G"]), load_file(path)


def draws_in(golden: Mapping[str, Tensor]) -> VolumeDraws:
    jitter = golden["draw_stratified"][..., 0]
    return VolumeDraws(jitter, golden["draw_pdf_u"].unflatten(0, jitter.shape[:2]))


@torch.no_grad()
def test_styles_and_camera_offsets_are_the_published_ones(
    published: tuple[Generator, dict[str, Tensor]],
) -> None:
    generator, golden = published
    z, labels = golden["z"], golden["c"]
    assert generator.num_ws == golden["ws"].shape[1]
    assert_near(generator.map(z, labels, 0.7, 4), golden["ws"], 1e-5)
    assert_near(generator.map(z, labels)[:, :1], golden["ws_psi1"], 1e-5)
    shifted, offset = generator.offset_labels(z, labels)
    assert_near(offset, golden["delta_c"], REST)
    assert_near(shifted, golden["c_new"], REST)


@torch.no_grad()
def test_planes_are_the_published_ones(published: tuple[Generator, dict[str, Tensor]]) -> None:
    generator, golden = published
    image = generator.backbone.synthesis(golden["ws"], "const")
    assert_near(image[:, :8], golden["backbone_out_ch0_7"], REST)
    assert_near(image.mean(dim=(2, 3)), golden["backbone_out_mean"], REST)
    planes = generator.planes(golden["ws"])
    assert_near(planes[:1, :, :, :4], golden["planes_n0_c0_3"], REST)
    assert_near(planes.sum(dim=(-2, -1)), golden["planes_sum"], REST)


@torch.no_grad()
def test_points_have_the_published_density_and_features(
    published: tuple[Generator, dict[str, Tensor]],
) -> None:
    generator, golden = published
    features, density = generator.query(generator.planes(golden["ws"]), golden["points"])
    assert_near(density[..., None], golden["sigma"], REST)
    assert_near(features, golden["rgb_features"], REST)


@torch.no_grad()
def test_images_replay_the_published_ones(published: tuple[Generator, dict[str, Tensor]]) -> None:
    generator, golden = published
    size = golden["out.image_raw"].shape[-1]
    images = generator.render(
        generator.planes(golden["ws"]),
        golden["ws"],
        golden["c_new"],
        draws_in(golden),
        neural_size=size,
    )
    assert_near(images.raw_image, golden["out.image_raw"], IMAGES)
    assert_near(images.depth, golden["out.image_depth"], REST)
    assert_near(images.mask, golden["out.image_mask"], REST)
    assert_near(images.image, golden["out.image"], IMAGES)


def discriminator_from(path: Path, kind: DiscriminatorKind) -> Discriminator:
    stated = config_in(path)
    discriminator = Discriminator(
        DiscriminatorConfig(
            kind=kind,
            image_size=stated["res"],
            channel_base=stated["cbase"],
            channel_max=stated["cmax"],
            group_size=stated["mb"],
            parsing_classes=stated["pc"],
        )
    )
    discriminator.load_state_dict(weights_in(load_file(path)))
    return discriminator


def test_mask_discriminators_judge_as_published(golden_dir: Path) -> None:
    path = golden_dir / "spherehead" / "e_discriminator_mask_dual_v2.safetensors"
    golden, discriminator = load_file(path), discriminator_from(path, "mask")
    names = ("image", "image_raw", "image_mask")
    image, raw, mask = inputs = [golden[name].requires_grad_() for name in names]
    labels = golden["c"]
    assert_near(discriminator.mapping(None, labels), golden["cmap"], LOGITS)
    logits = discriminator(HeadImages(image, raw, mask), labels)
    assert_near(logits, golden["logits"], LOGITS)
    gradients = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    for name, gradient in zip(names, gradients, strict=True):
        assert_near(gradient, golden[f"grad_{name}"], LOGITS)
    of_image, of_raw, of_mask = (g.square().sum(dim=(1, 2, 3)) for g in gradients)
    assert_near(of_image + of_raw, golden["r1_penalty"], PENALTY)
    assert_near(of_mask, golden["r1_penalty_seg"], PENALTY)
    swapped = discriminator(HeadImages(image, raw, mask), labels.roll(1, 0))
    assert_near(swapped, golden["logits_rolled_c"], LOGITS)
    assert_near(softplus(swapped).mean(), golden["vico_softplus_mean"], LOGITS)


def test_second_derivatives_of_the_discriminator_are_the_published_ones(golden_dir: Path) -> None:
    path = golden_dir / "spherehead" / "e_discriminator_mask_dual_v2.safetensors"
    golden, discriminator = load_file(path), discriminator_from(path, "mask")
    image, raw, mask = inputs = [
        golden[name].requires_grad_() for name in ("image", "image_raw", "image_mask")
    ]
    logits = discriminator(HeadImages(image, raw, mask), golden["c"])
    gradients = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    of_image, of_raw, of_mask = (g.square().sum(dim=(1, 2, 3)) for g in gradients)
    (of_image + of_raw + of_mask).mean().backward()
    weights = dict(discriminator.named_parameters())
    prefix = "param_grad_of_r1."
    expected = from_official_weights(
        {n.removeprefix(prefix): t for n, t in golden.items() if n.startswith(prefix)}
    )
    assert expected
    for name, gradient in expected.items():
        assert_near(weights[name].grad, gradient, PENALTY)


@torch.no_grad()
def test_parsing_discriminators_judge_as_published(golden_dir: Path) -> None:
    folder = golden_dir / "spherehead"
    path = folder / "e_discriminator_holo.safetensors"
    golden, discriminator = load_file(path), discriminator_from(path, "parsing")
    others = load_file(folder / "e_discriminator_mask_dual_v2.safetensors")
    images = HeadImages(
        others["image"], others["image_raw"], others["image_mask"], golden["image_parsing"]
    )
    assert_near(discriminator(images, others["c"]), golden["logits"], LOGITS)
