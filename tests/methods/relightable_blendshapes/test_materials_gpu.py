"""Materials on a GPU: its pictures are the CPU's, captured steps are launched ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny_captures import film_procedural_head
from training_checks import picture_error, trained
from vultus.core.run_folder import RunFolder
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence
from vultus.engine.fit import fit
from vultus.gaussians.densify import DensifyConfig
from vultus.methods.relightable_blendshapes.config import PRESETS, RelightableBlendshapesConfig
from vultus.methods.relightable_blendshapes.material_config import VisibilityMode
from vultus.methods.relightable_blendshapes.material_layers import LAYERS
from vultus.methods.relightable_blendshapes.material_relighting import Relighter, Surroundings
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.render.lighting.environments import made_environment

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_procedural_head(tmp_path_factory.mktemp("materials") / "capture")


def tiny(visibility: VisibilityMode) -> RelightableBlendshapesConfig:
    """Ten steps, in which light, highlights and shadows begin and Gaussians are bound anew."""
    toy = PRESETS["toy-pbr"]
    materials = replace(
        toy.materials, visibility=visibility, map_rows=4, light_start=2, specular_start=3,
        shadow_ramp=6, rebind_interval=4,
    )  # fmt: skip
    return replace(
        toy,
        model=replace(toy.model, num_points=400, num_expressions=3),
        densify=DensifyConfig(start_step=0, stop_step=0),
        materials=materials,
        steps=10,
        checkpoint_every=5,
        log_every=1,
    )


@pytest.mark.parametrize("visibility", ["cached", "live", "none"])
def test_captured_steps_stay_close_to_launched_ones(capture, visibility, tmp_path: Path) -> None:
    """Sums of floats in another order, amplified by ten steps of Adam."""
    config, results = tiny(visibility), []
    for graph in (True, False):
        path = tmp_path / str(graph)
        avatar = trained(RelightableBlendshapes, capture, config, path, device="cuda", graph=graph)
        results.append(avatar.tensors())
    for name in ("means", "albedo", "roughness", "specular", "appearance.light"):
        difference = (results[0][name] - results[1][name]).abs().mean()
        assert difference < 1e-3, name


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("visibility", ["cached", "live"])
def test_training_brings_pictures_closer(capture, visibility, graph, tmp_path: Path) -> None:
    config = replace(tiny(visibility), steps=20)
    before = picture_error(RelightableBlendshapes(config, capture, 0, "cuda"), capture)
    avatar = trained(RelightableBlendshapes, capture, config, tmp_path, device="cuda", graph=graph)
    assert picture_error(avatar, capture) < 0.85 * before


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("visibility", ["cached", "live"])
def test_frozen_light_keeps_every_bit(capture, visibility, graph, tmp_path: Path) -> None:
    """Highlights begin within the steps: the graph is captured again, still without the light."""
    config, frames = tiny(visibility), FrameStore(capture, "train")
    lights = {}
    for start in (9, 10):
        materials = replace(config.materials, light_start=start, initial_light=0.5)
        settings = replace(config, materials=materials)
        avatar = RelightableBlendshapes(settings, capture, 0, "cuda")
        light = avatar.appearance.parameters()["light"]
        before = light.detach().clone()
        run = RunFolder.create(tmp_path / str(start), settings, seed=0)
        fit(avatar, frames, settings, run, 0, graph=graph)
        lights[start] = torch.equal(light, before)
    assert lights == {9: False, 10: True}


def test_relit_pictures_are_those_of_the_cpu(capture) -> None:
    surroundings = Surroundings(made_environment("three_point", 32))
    camera, pose = capture.split("val")[0].camera, capture.pose[1]
    on_cpu, on_gpu = (
        Relighter(RelightableBlendshapes(tiny("live"), capture, 0, device)).picture(
            pose, camera, surroundings, None, LAYERS
        )
        for device in ("cpu", "cuda")
    )
    # A ray along an edge may be seen otherwise by another tracer.
    assert (on_cpu.image - on_gpu.image).abs().mean() < 2e-3
    for name in LAYERS:
        assert (on_cpu.layers[name] - on_gpu.layers[name]).abs().mean() < 1e-2, name


@torch.no_grad()
def test_live_frames_can_be_captured() -> None:
    from vultus.bench.relighting import FRAME, RelightBenchScene, bench_relighting

    scene = RelightBenchScene(num=500, size=64, map_rows=4, num_expressions=4)
    rows = bench_relighting(scene, 2, device="cuda")
    assert {row.mode for row in rows} == {"eager", "graph"}
    assert all(row.seconds[FRAME].median > 0 for row in rows)
