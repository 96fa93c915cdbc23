"""Settings as words: every kind of value, and refusals that name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from vultus.cli.setting_overrides import with_settings
from vultus.methods.gaussianhead.config import GaussianHeadConfig
from vultus.methods.relightable_blendshapes.config import RelightableBlendshapesConfig


def changed(**settings: str) -> RelightableBlendshapesConfig:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return with_settings(RelightableBlendshapesConfig(), named, "--set")


def test_values_become_what_their_setting_is() -> None:
    config = changed(
        steps="500", model__num_expressions="None", optim__feature_lr="1e-3", backend="ref",
        materials__train_light="false", materials__geometry="mesh/geometry.safetensors",
        model__teeth_offset="[0.0, 0.01, 0.02]", materials__rates__roughness="1",
    )  # fmt: skip
    assert (config.steps, config.model.num_expressions, config.backend) == (500, None, "ref")
    assert config.optim.feature_lr == 1e-3
    assert config.materials.train_light is False
    assert config.materials.geometry == Path("mesh/geometry.safetensors")
    assert config.model.teeth_offset == (0.0, 0.01, 0.02)
    assert config.materials.rates.roughness == 1.0


def test_dashes_are_underscores_and_the_rest_stays() -> None:
    config = with_settings(RelightableBlendshapesConfig(), {"model.num-points": "7"}, "--set")
    assert config.model.num_points == 7
    assert changed(model__num_points="7") == config
    assert changed(model__num_points="50000") == RelightableBlendshapesConfig()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.num-pints", "7", "--set model.num_pints is not known; ModelConfig has: appearance"),
        ("steps.of", "7", "--set steps.of is not known"),
        ("model.num-points", "many", "--set model.num_points must be int, got 'many'"),
        ("model.num-points", "7.5", "--set model.num_points must be int, got 7.5"),
        ("model.num-points", "0", "--set model.num_points must be at least 1, got 0"),
        ("losses.ssim-weight", "nan", "--set losses.ssim-weight must be a number, got nan"),
        ("losses.ssim-weight", "NaN", "--set losses.ssim-weight must be a number, got NaN"),
        ("materials.visibility", "some", "--set materials.visibility must be one of 'cached'"),
        ("materials.map-rows", "0", "--set materials: map_rows and rebind_interval must be"),
    ],
)
def test_what_cannot_be_set_is_named(name, value, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        with_settings(RelightableBlendshapesConfig(), {name: value}, "--set")


def test_settings_of_other_methods_are_set_the_same_way() -> None:
    assert with_settings(GaussianHeadConfig(), {"log-every": "3"}, "--set").log_every == 3
