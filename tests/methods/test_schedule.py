"""Numbers of steps that cannot be meant are refused by the settings of every method alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vultus.methods.adversarial import AdversarialSettings
from vultus.methods.gaussianhead.config import GaussianHeadConfig
from vultus.methods.relightable_blendshapes.config import RelightableBlendshapesConfig
from vultus.methods.relightable_blendshapes.geometry_config import GeometryConfig
from vultus.methods.surfhead.config import SurfHeadConfig

AVATARS = (SurfHeadConfig, GaussianHeadConfig, RelightableBlendshapesConfig)
INTERVALS = [("log_every", 1), ("checkpoint_every", 1), ("keep_checkpoints", 0)]


@pytest.mark.parametrize(("name", "least"), [("steps", 1), *INTERVALS])
@pytest.mark.parametrize("settings", [*AVATARS, GeometryConfig])
def test_avatars_and_meshes_have_a_schedule_that_can_be_meant(
    settings: Callable[..., object], name: str, least: int
) -> None:
    assert getattr(settings(**{name: least}), name) == least
    with pytest.raises(ValueError, match=f"^{name} must be at least {least}, got {least - 1}$"):
        settings(**{name: least - 1})


@pytest.mark.parametrize("settings", AVATARS)
def test_avatars_are_evaluated_at_the_end_alone_or_at_intervals_too(
    settings: Callable[..., object],
) -> None:
    assert settings(evaluate_every=0) == settings()
    with pytest.raises(ValueError, match=r"^evaluate_every must be at least 0, got -1$"):
        settings(evaluate_every=-1)


@pytest.mark.parametrize(("name", "least"), INTERVALS)
def test_generators_have_a_schedule_that_can_be_meant(name: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be at least {least}, got {least - 1}$"):
        AdversarialSettings(**{name: least - 1})


def test_a_generator_trains_for_one_step_at_least() -> None:
    assert AdversarialSettings(images=8, batch=8).steps == 1
    with pytest.raises(ValueError, match="images must be at least one batch of 8: 7"):
        AdversarialSettings(images=7, batch=8)
