"""Golden values of the losses' phases and of their gradients."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from vultus.kernels.triplane_volume import VolumeDraws, VolumeSettings
from vultus.methods.spherehead.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    ObjectiveConfig,
)
from vultus.methods.spherehead.discriminator import Discriminator
from vultus.methods.spherehead.generation import GenerationDraws, generate_batch
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.methods.spherehead.judging import Judge, real_images
from vultus.methods.spherehead.objectives import (
    DensityDraws,
    density_losses,
    discriminator_losses,
    generator_losses,
    gradient_penalties,
)
from vultus.methods.spherehead.official import from_official_name, from_official_weights

TOLERANCE = 1e-3
NEURAL_SIZE = 12
IMAGES_SEEN, BLUR_SEEN, MONOTONIC_SEEN = 100_000, 50_000, 300_000
CONFIG = ObjectiveConfig(blur_sigma=0.0, density_weight=0.25, mismatch_weight=0.0)
BLURRED = ObjectiveConfig(blur_sigma=10.0, mismatch_weight=0.0)
MONOTONIC = ObjectiveConfig(density_weight=0.25, density_kind="monotonic_detached")


@dataclass(frozen=True)
class Case:
    generator: Generator
    discriminator: Discriminator
    golden: dict[str, Tensor]

    def draw(self, name: str) -> Tensor:
        return self.golden[name]

    def generated(
        self, phase: str, config: ObjectiveConfig, seen: int
    ) -> tuple[HeadImages, Tensor]:
        jitter = self.draw(f"{phase}.draw02_rand_like")[..., 0]
        rays = jitter.shape[:2]
        volume = VolumeDraws(
            jitter,
            self.draw(f"{phase}.draw04_rand").unflatten(0, rays),
            self.draw(f"{phase}.draw03_randn_like")[..., 0].unflatten(1, jitter.shape[1:]),
            self.draw(f"{phase}.draw05_randn_like")[..., 0].unflatten(1, jitter.shape[1:]),
        )
        draws = GenerationDraws(
            self.draw(f"{phase}.draw00_rand").flatten(),
            self.draw(f"{phase}.draw01_rand").flatten(),
            volume,
        )
        z, labels = self.golden["gen_z"], self.golden["gen_c"]
        made = generate_batch(self.generator, z, labels, draws, config, seen, NEURAL_SIZE)
        return made.images, made.offsets

    def judge(self, config: ObjectiveConfig = CONFIG, seen: int = IMAGES_SEEN) -> Judge:
        return Judge(self.discriminator, config, seen)

    def real(self) -> HeadImages:
        image, mask = (
            self.golden[f"real_{name}_uint8_quarter"]
            .float()
            .repeat_interleave(4, 2)
            .repeat_interleave(4, 3)
            for name in ("img", "seg")
        )
        return real_images(image / 127.5 - 1.0, mask / 255.0, CONFIG, IMAGES_SEEN, NEURAL_SIZE)


@pytest.fixture
def case(golden_dir: Path) -> Case:
    folder = golden_dir / "spherehead"
    path = folder / "f_losses.io.safetensors"
    with safe_open(path, "pt") as stream:
        stated = ast.literal_eval(stream.metadata()["config"])
    of_generator = stated["G"]
    rendering = of_generator["rk"]
    volume = VolumeSettings(
        coarse_samples=rendering["depth_resolution"],
        fine_samples=rendering["depth_resolution_importance"],
        parity="official",
    )
    generator = Generator(
        GeneratorConfig(
            z_dim=of_generator["z_dim"],
            channel_base=of_generator["cbase"],
            channel_max=of_generator["cmax"],
            plane_size=rendering["triplane_size"],
            volume=volume,
            super_resolution="2x",
            parity="official",
            # Published arithmetic: one pair of points in 4000 differs by rounding only, and the
            # sign of a difference is the gradient of the density losses.
            backend="ref",
        )
    )
    discriminator = Discriminator(
        DiscriminatorConfig(
            image_size=128,
            channel_base=stated["Dcb"],
            channel_max=stated["Dcm"],
            clamp=None,
        )
    )
    parts = {
        part: load_file(folder / f"f_losses.params_{part}.safetensors")
        for part in ("main", "sr", "D")
    }
    generator.load_state_dict(stored(parts["main"] | parts["sr"]))
    discriminator.load_state_dict(stored(parts["D"]))
    return Case(generator, discriminator, load_file(path))


def stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return from_official_weights({n.removeprefix("param."): t for n, t in tensors.items()})


def assert_near(actual: Tensor, expected: Tensor, scale: float = 0.0) -> None:
    """Compare relative to the largest value, or to a scale above it."""
    scale = max(float(expected.abs().max()), scale)
    assert float((actual.detach() - expected).abs().max()) <= TOLERANCE * scale


def assert_gradients(case: Case, phase: str, network: nn.Module, gain: float = 1.0) -> None:
    """Compare the gradients that a fixture lists, and the norm of all.

    Published norms include noise strengths, whose gradients depend on draws that no fixture has;
    those of a discriminator, which has none, are compared exactly.
    """
    gradients = {n: gain * p.grad for n, p in network.named_parameters() if p.grad is not None}
    total = case.golden[f"{phase}.grad_total_norm"]
    norms = {name: gradient.norm() for name, gradient in gradients.items()}
    known = torch.stack([n for name, n in norms.items() if not name.endswith("noise_strength")])
    if len(known) == len(norms):
        assert_near(known.norm(), total)
    assert float(known.norm()) <= (1.0 + TOLERANCE) * float(total)
    prefix = f"{phase}.grad."
    names = [name for name in case.golden if name.startswith(prefix)]
    assert names
    for name in names:
        expected = case.golden[name]
        # Rounding of a small gradient is that of the large ones it is summed from.
        ours = from_official_name(name.removeprefix(prefix))
        assert_near(gradients[ours], expected, scale=1e-3 * float(total))


@pytest.mark.parametrize(
    ("phase", "config", "seen"),
    [("Gmain", CONFIG, IMAGES_SEEN), ("Gmain_blur", BLURRED, BLUR_SEEN)],
)
def test_generator_losses_and_gradients_are_the_published_ones(
    case: Case, phase: str, config: ObjectiveConfig, seen: int
) -> None:
    images, offsets = case.generated(phase, config, seen)
    labels = case.golden["gen_c"]
    losses = generator_losses(case.judge(config, seen), images, offsets, labels).losses
    assert_near(losses["adversarial"], case.golden[f"{phase}.stat.Loss_G_loss.0"].mean())
    assert_near(losses["camera_offset"], case.golden[f"{phase}.stat.Loss_G_trans_reg_loss.0"])
    case.discriminator.requires_grad_(False)
    torch.stack(list(losses.values())).sum().backward()
    assert_gradients(case, phase, case.generator)


def test_discriminator_losses_and_gradients_are_the_published_ones(case: Case) -> None:
    with torch.no_grad():
        fake, _ = case.generated("Dmain", CONFIG, IMAGES_SEEN)
    golden = case.golden
    result = discriminator_losses(
        case.judge(), fake, golden["gen_c"], case.real(), golden["real_c"], None
    )
    total = torch.stack(list(result.losses.values())).sum()
    assert_near(total, case.golden["Dmain.stat.Loss_D_loss.0"].mean())
    total.backward()
    assert_gradients(case, "Dmain", case.discriminator)


def test_gradient_penalties_are_the_published_ones(case: Case) -> None:
    penalties = gradient_penalties(case.judge(), case.real(), case.golden["real_c"])
    total = torch.stack(list(penalties.values())).sum()
    assert_near(total, case.golden["Dreg.stat.Loss_D_reg.0"].mean())
    seg = case.golden["Dreg.stat.Loss_r1_penalty_seg.0"].mean()
    assert_near(2.0 * penalties["r1_mask"], seg)
    total.backward()
    assert_gradients(case, "Dreg", case.discriminator, gain=16.0)


def density_draws(case: Case, phase: str, numbers: tuple[int, int, int]) -> DensityDraws:
    swap, points, noise = numbers
    uniforms = case.draw(f"{phase}.draw{swap:02d}_rand").expand(2)
    at = case.draw(f"{phase}.draw{points:02d}_rand")
    displaced = case.golden.get(f"{phase}.draw{points + 1:02d}_randn_like", torch.zeros(0))
    normal = case.golden.get(f"{phase}.draw{noise:02d}_randn_like")
    return DensityDraws(uniforms, at, displaced, None if normal is None else normal[..., 0])


def test_smooth_density_losses_are_the_published_ones(case: Case) -> None:
    phase = "Greg_l1"
    losses = density_losses(
        case.generator,
        case.golden["gen_z"],
        case.golden["gen_c"],
        [density_draws(case, phase, (0, 1, 4))],
        CONFIG,
        IMAGES_SEEN,
    )
    assert_near(losses["smooth_density"], case.golden[f"{phase}.stat.Loss_G_TVloss.0"])
    losses["smooth_density"].backward()
    assert_gradients(case, phase, case.generator, gain=4.0)


def test_monotonic_density_losses_are_the_published_ones(case: Case) -> None:
    phase = "Greg_mono_detach"
    first = density_draws(case, phase, (0, 1, 99))
    losses = density_losses(
        case.generator,
        case.golden["gen_z"],
        case.golden["gen_c"],
        [first, density_draws(case, phase, (3, 4, 99))],
        MONOTONIC,
        MONOTONIC_SEEN,
    )
    assert_near(losses["smooth_density"], case.golden[f"{phase}.stat.Loss_G_TVloss.0"])
    assert_near(losses["monotonic"], case.golden[f"{phase}.stat.Loss_G_monotonic_loss.0"])
    torch.stack(list(losses.values())).sum().backward()
    assert_gradients(case, phase, case.generator, gain=4.0)
