"""``--help`` of every command exits with 0 and names every option."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise

import pytest

from vultus.cli.ablate import AblateOptions
from vultus.cli.data import CheckOptions, StudioOptions
from vultus.cli.data_patch import PatchOptions
from vultus.cli.demo import DemoOptions
from vultus.cli.edit_materials import EditMaterialsOptions
from vultus.cli.envmap_light import EnvmapLightOptions
from vultus.cli.evaluate import EvaluateOptions
from vultus.cli.evaluate_relighting import EvaluateRelightingOptions
from vultus.cli.export import ExportOptions
from vultus.cli.generate import GenerateOptions
from vultus.cli.generate_mesh import GenerateMeshOptions
from vultus.cli.generate_relit import GenerateRelitOptions
from vultus.cli.generate_splats import GenerateSplatsOptions
from vultus.cli.generate_video import GenerateVideoOptions
from vultus.cli.generator_options import (
    CameraOptions,
    GaussianOptions,
    LitGaussianOptions,
    ManyLightsOptions,
    PeopleOptions,
    PictureOptions,
    RelightableOptions,
    SphereHeadOptions,
    SphereSurfaceOptions,
)
from vultus.cli.geometry import GeometryOptions
from vultus.cli.light_options import LightOptions
from vultus.cli.main import COMMANDS, run
from vultus.cli.mesh import MeshOptions
from vultus.cli.mix_styles import MixStylesOptions
from vultus.cli.one_hot import OneHotOptions
from vultus.cli.reenact import ReenactOptions
from vultus.cli.relight import RelightOptions
from vultus.cli.render import RenderOptions
from vultus.cli.train import TrainOptions
from vultus.cli.train_generator import GeneratorTrainOptions
from vultus.data.cropping.pipeline import CropConfig
from vultus.data.image_packing import PackConfig
from vultus.data.studio.collection.config import CollectionConfig
from vultus.data.studio.config import StudioConfig
from vultus.export.avatar_mesh import FusionSettings
from vultus.methods.gsheadrelight.light_sources import LightSettings
from vultus.methods.gsheadrelight.occupancy import OccupancySettings
from vultus.methods.gsheadrelight.shown_gaussians import ShownGaussians
from vultus.methods.registry import GENERATORS, METHODS, method_presets
from vultus.methods.relightable_blendshapes.geometry_config import GeometryConfig
from vultus.methods.relightable_blendshapes.material_editing import MaterialEdit
from vultus.methods.spherehead.config import SphereHeadConfig
from vultus.methods.spherehead.density import DensitySettings
from vultus.methods.surfhead.config import SurfHeadConfig

# Part of the command line and the classes whose fields are its options.
OPTIONS: dict[str, tuple[type, ...]] = {
    "demo": (DemoOptions,),
    "train surfhead": (TrainOptions, SurfHeadConfig),
    "train spherehead": (GeneratorTrainOptions, SphereHeadConfig),
    "ablate surfhead": (AblateOptions,),
    "geometry": (GeometryOptions, GeometryConfig),
    "evaluate": (EvaluateOptions,),
    "render": (RenderOptions,),
    "relight": (RelightOptions,),
    "edit-materials": (EditMaterialsOptions,),
    "evaluate-relighting": (EvaluateRelightingOptions,),
    "reenact": (ReenactOptions,),
    "mesh": (MeshOptions,),
    "export": (ExportOptions,),
    "generate": (GenerateOptions, SphereHeadOptions, PeopleOptions),
    "generate gsheadrelight": (
        GenerateOptions,
        RelightableOptions,
        LightOptions,
        PictureOptions,
        ShownGaussians,
    ),
    "generate-relit gsheadrelight": (GenerateRelitOptions, ManyLightsOptions, LightSettings),
    "generate-splats gsheadrelight": (GenerateSplatsOptions, GaussianOptions, LightSettings),
    "envmap-light": (EnvmapLightOptions,),
    "generate-video spherehead": (GenerateVideoOptions, SphereHeadOptions, PeopleOptions),
    "generate-mesh spherehead": (GenerateMeshOptions, SphereSurfaceOptions, DensitySettings),
    "generate-mesh gsheadrelight": (GenerateMeshOptions, LitGaussianOptions, OccupancySettings),
    "mix-styles spherehead": (MixStylesOptions, SphereHeadOptions),
    "data studio": (StudioOptions, StudioConfig),
    "data check": (CheckOptions,),
    "data collection": (CollectionConfig,),
    "data pack": (PackConfig,),
    "data patch-dataset": (PatchOptions,),
    "data crop": (CropConfig,),
}

# Their help is that of the first method; the others have pages of their own.
_NEED_A_GENERATOR = (
    "generate",
    "generate-video",
    "generate-mesh",
    "mix-styles",
    "invert",
    "evaluate-generator",
)


# Positional, or with a flag of its own.
def unnamed(field: str, options: type) -> dict[str, str]:
    """Options of a field that adds no part of its own to their names."""
    names = [each.name.replace("_", "-") for each in dataclasses.fields(options)]
    return {f"{field}.{name}": f"--{name}" for name in names}


# Their options are listed as classes of their own.
_PARTS = {
    "generator": "--weights",
    "surface": "--resolution",
    **unnamed("people", PeopleOptions),
    **unnamed("cameras", CameraOptions),
}
_PICTURE_PARTS = {
    **unnamed("pictures", PictureOptions),
    **unnamed("pictures.cameras", CameraOptions),
    **unnamed("shown", ShownGaussians),
}
_LIT_PARTS = {**_PARTS, **unnamed("light", LightOptions), **_PICTURE_PARTS}
_RELIT_PARTS = {
    **_LIT_PARTS,
    **unnamed("generator", GaussianOptions),
    **unnamed("settings", LightSettings),
    **{f"generator.{name}": flag for name, flag in _PICTURE_PARTS.items()},
}
_OTHER_FLAGS = {
    "generate": _PARTS,
    "generate gsheadrelight": _LIT_PARTS,
    "generate-relit gsheadrelight": _RELIT_PARTS,
    "generate-splats gsheadrelight": _RELIT_PARTS,
    "envmap-light": {"envmap": "PATH", **unnamed("settings", LightSettings)},
    "generate-video spherehead": _PARTS,
    "generate-mesh spherehead": _PARTS,
    "generate-mesh gsheadrelight": _LIT_PARTS,
    "mix-styles spherehead": _PARTS,
    "data check": {"data": "PATH"},
    "train surfhead": {"data": "--data"},
    "train spherehead": {"images": "--data", "choice": "--choice.back-repeat"},
    "ablate surfhead": {"data": "--data"},
    "geometry": {"data": "--data"},
    "edit-materials": unnamed("edit", MaterialEdit),
    "render": unnamed("expressions", OneHotOptions),
    "relight": unnamed("expressions", OneHotOptions),
    "mesh": unnamed("fusion", FusionSettings),
}


def flags(options: type, prefix: str = "") -> list[str]:
    """Flags of a dataclass and of those inside it."""
    found: list[str] = []
    for field in dataclasses.fields(options):
        name = f"{prefix}{field.name.replace('_', '-')}"
        factory = field.default_factory
        if isinstance(factory, type) and dataclasses.is_dataclass(factory):
            found += flags(factory, f"{name}.")
        else:
            found.append(f"--{name}")
    return found


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run([*command.split(), "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(command, capsys)
    assert f"vultus {command}" in text
    assert text.startswith("usage: ")


@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(command, capsys)
    named = set(re.findall(r"--[a-z][a-z0-9.-]*", text))
    other = _OTHER_FLAGS.get(command, {})
    for options in OPTIONS[command]:
        for flag in flags(options):
            expected = other.get(flag.removeprefix("--"), flag)
            assert expected in named or (not expected.startswith("--") and expected in text), flag


@pytest.mark.parametrize("command", OPTIONS)
def test_commands_that_write_can_be_tried_first(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--dry-run" in help_of(command, capsys)


def test_help_of_training_shows_methods_presets_and_their_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = help_of("train", capsys)
    for name, entry in {**METHODS, **GENERATORS}.items():
        assert name in text
        assert " ".join(entry.description.split()) in " ".join(text.split())
    for name, preset in method_presets("surfhead").items():
        text = help_of(f"train surfhead --preset {name}", capsys)
        assert f"defaults below are those of {name!r}" in " ".join(text.split())
        steps = re.search(
            r"--steps INT\s+Optimisation steps; one image each\. \(default: (\d+)\)", text
        )
        assert steps is not None
        assert int(steps[1]) == preset.steps


def pages_of(command: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Help of a command, of its subcommands, and of it with every method."""
    text = help_of(command, capsys)
    listed = re.findall(r"^ +(?:• )?([a-z][a-z_-]+)  +\S", text, re.MULTILINE)
    names = list(GENERATORS) if command in _NEED_A_GENERATOR else listed
    return {command: text, **{name: help_of(f"{command} {name}", capsys) for name in names}}


def lines_that_end_early(text: str) -> list[str]:
    """Lines inside sentences that had room for the first word of the next line."""
    found = []
    lines = [line.rstrip() for line in text.splitlines()]
    width = max(map(len, lines))
    for line, following in pairwise(lines):
        is_text = bool(line) and not line.startswith("usage:") and set(line) > set(" -")
        names_an_option = re.fullmatch(r" *(--?[a-z]|[A-Z]+\b)(?!.*\S {2,}\S).*", line)
        is_new_row = re.match(r" *-| {2}[a-z_-]+ {2,}\S", following)
        goes_on = following[:2] == "  " and not is_new_row
        ends_a_sentence = line.endswith((".", ")", ":"))
        if not is_text or names_an_option or not goes_on or ends_a_sentence:
            continue
        word = following.split()[0]
        if len(line) + 1 + len(word) < width:
            found.append(f"{line}|{word}")
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_flows_to_the_width_of_the_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        for page, text in pages_of(command, capsys).items():
            assert "``" not in text, page
            assert lines_that_end_early(text) == [], page


def test_a_line_that_is_broken_inside_a_sentence_is_found() -> None:
    page = """ options
 ------------------------------------------------------------
  --device STR  What computes: cpu, cuda, cuda:N, or
                auto. (default: cpu)
"""
    assert lines_that_end_early(page) == [
        "  --device STR  What computes: cpu, cuda, cuda:N, or|auto."
    ]


def test_commands_with_subcommands_have_a_page_for_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert set(pages_of("train", capsys)) == {"train", *METHODS, *GENERATORS}
    assert set(pages_of("assets", capsys)) == {"assets", "list", "import", "where"}
    assert {"bench", "raster", "relighting"} < set(pages_of("bench", capsys))
    assert {"data", "studio", "patch-dataset"} < set(pages_of("data", capsys))


def test_unset_options_say_what_then_happens_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of("mesh", capsys).split())
    assert "Checkpoint to load, by its step; default: the last one. --device" in text
    assert "(default: None)" not in text
    assert "Metres; decides instead of the resolution. (default: none)" in text
