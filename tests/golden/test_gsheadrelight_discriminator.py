"""Golden values of GSHeadRelight's discriminator, and names and counts of both networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vultus.methods.gsheadrelight.config import DiscriminatorConfig, GeneratorConfig
from vultus.methods.gsheadrelight.discriminator import Discriminator
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.official import (
    from_official_discriminator,
    official_name,
    to_official_discriminator,
    to_official_generator,
)

LOGITS, PENALTY = 1e-4, 1e-3
NUM_GENERATOR, NUM_DISCRIMINATOR = 41_053_728, 47_485_761
SMALL = DiscriminatorConfig(image_size=32, channel_base=512, channel_max=24, clamp=None)


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    error = float((actual - expected).detach().abs().max())
    assert error <= tolerance * float(expected.abs().max())


def listed(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Published names with shapes and types."""
    found = {}
    for line in path.read_text().splitlines():
        name, rest = line.split(" ", 1)
        shape, dtype = rest.rsplit(" ", 1)
        found[name] = tuple(int(size) for size in shape.strip("[]").split(",") if size), dtype
    return found


def described(weights: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {
        name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in weights.items()
    }


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_published_generator_has_its_names_shapes_and_count(golden_dir: Path) -> None:
    config = GeneratorConfig()
    with torch.device("meta"):
        generator = Generator(config)
    assert count(generator) == NUM_GENERATOR
    written = described(to_official_generator(generator.state_dict(), config))
    assert written == listed(golden_dir / "gsheadrelight" / "keys_G_ffhq512.txt")
    assert (config.num_gaussians, config.num_ws) == (349_440, 17)
    assert config.log_shrinkage == pytest.approx(torch.log(torch.tensor(2.0)).item())


def test_the_published_discriminator_has_its_names_shapes_and_count(golden_dir: Path) -> None:
    with torch.device("meta"):
        discriminator = Discriminator(DiscriminatorConfig())
    assert count(discriminator) == NUM_DISCRIMINATOR
    written = described(to_official_discriminator(discriminator.state_dict()))
    assert written == listed(golden_dir / "gsheadrelight" / "keys_D_ffhq512.txt")


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    return load_file(golden_dir / "gsheadrelight" / "discriminator.safetensors")


@pytest.fixture
def discriminator(golden: dict[str, Tensor]) -> Discriminator:
    built = Discriminator(SMALL)
    built.load_state_dict(
        from_official_discriminator(prefixed(golden, "state."), built.state_dict())
    )
    return built


def test_judgements_are_the_published_ones(
    discriminator: Discriminator, golden: dict[str, Tensor]
) -> None:
    judgement = discriminator(golden["in.img"], golden["in.c"], golden["in.l"])
    assert_near(judgement.logits, golden["out.logits"], LOGITS)
    assert_near(judgement.image_camera, golden["out.feat_contrastive"], LOGITS)
    assert_near(judgement.image_light, golden["out.feat_contrastive_lit"], LOGITS)
    assert_near(judgement.camera, golden["out.c_contrastive"], LOGITS)
    assert_near(judgement.light, golden["out.l_contrastive"], LOGITS)


def test_first_and_second_derivatives_are_the_published_ones(
    discriminator: Discriminator, golden: dict[str, Tensor]
) -> None:
    images = golden["in.img"].clone().requires_grad_()
    logits = discriminator(images, golden["in.c"], golden["in.l"]).logits
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    assert_near(gradient, golden["out.r1_grad"], LOGITS)
    squares = gradient.square().sum(dim=(1, 2, 3))
    assert_near(squares, golden["out.r1_penalty_per_sample"], PENALTY)
    (0.5 * squares).mean().backward()
    ours = {official_name(name): p.grad for name, p in discriminator.named_parameters()}
    expected = prefixed(golden, "grad_r1.")
    assert expected
    for name, values in expected.items():
        found = ours[name]
        assert found is not None
        assert_near(found, values, PENALTY)
