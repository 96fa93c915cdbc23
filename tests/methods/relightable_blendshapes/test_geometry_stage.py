"""The geometry stage on a sphere whose bumps the rig does not know."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fakes import FakeHead
from jointed_head import JointedHead, film_bumpy_head
from tolerances import assert_close
from vultus.core.run_folder import RunFolder
from vultus.data.frame_store import FrameStore
from vultus.data.semantics import SEMANTIC_GROUPS
from vultus.data.sequence import HeadSequence
from vultus.methods.relightable_blendshapes.geometry_config import (
    PRESETS,
    GeometryConfig,
    GeometryModelConfig,
    GeometryOptim,
    KeepWeights,
    scale_schedule,
)
from vultus.methods.relightable_blendshapes.geometry_file import FittedMesh, PersonalGeometry
from vultus.methods.relightable_blendshapes.geometry_labels import VertexViews, vote_labels
from vultus.methods.relightable_blendshapes.geometry_stage import GeometryFit, fit_geometry
from vultus.methods.relightable_blendshapes.geometry_trainer import GeometryTrainer
from vultus.methods.relightable_blendshapes.material_mesh import ShadingMesh

CPU = torch.device("cpu")
TINY = replace(
    PRESETS["toy"],
    steps=8,
    checkpoint_every=3,
    log_every=2,
    model=GeometryModelConfig(subdivisions=1, light_height=4),
    optim=replace(
        PRESETS["toy"].optim,
        batch_size=2,
        refine_at=4,
        coarse_until=2,
        observe_every=3,
        observed_frames=3,
        decay_steps=3,
    ),
)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_bumpy_head(tmp_path_factory.mktemp("bumpy") / "capture")


@pytest.fixture(scope="module")
def frames(sequence: HeadSequence) -> FrameStore:
    return FrameStore(sequence, "train")


def fit(
    sequence: HeadSequence, frames: FrameStore, config: GeometryConfig, folder: Path
) -> GeometryFit:
    run = RunFolder(folder)
    run = RunFolder.open(folder) if run.config_path.exists() else RunFolder.create(
        folder, config, seed=3
    )  # fmt: skip
    return fit_geometry(sequence, frames, config, run, 3, CPU)


def test_the_mesh_comes_nearer_to_the_truth(sequence, frames, tmp_path) -> None:
    config = replace(PRESETS["toy"], steps=100, log_every=1)
    found = fit(sequence, frames, config, tmp_path / "run")
    before, after = found.before, found.after
    assert before.overlap is not None
    assert after.overlap is not None
    assert before.normal_degrees is not None
    assert after.normal_degrees is not None
    assert before.depth_millimetres is not None
    assert after.depth_millimetres is not None
    assert found.split == "test"
    # Pixels are as wide as 5 mm.
    assert before.overlap < 0.92
    assert after.overlap > 0.96
    assert after.normal_degrees < 0.75 * before.normal_degrees
    assert after.depth_millimetres < 0.7 * before.depth_millimetres
    losses = [row["photometric"] for row in RunFolder(tmp_path / "run").read_metrics()]
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])


def test_a_resumed_run_is_the_uninterrupted_one(sequence, frames, tmp_path) -> None:
    """It stops after the subdivision at step 4, and before a look at the frames."""
    whole = fit(sequence, frames, TINY, tmp_path / "whole")
    run = RunFolder.create(tmp_path / "parts", TINY, seed=3)
    for stop in (3, 5):
        trainer = GeometryTrainer(sequence, frames, TINY, 3, CPU)
        if run.latest_checkpoint() is None:
            trainer.observe(0)
            first = 0
        else:
            checkpoint = run.load_checkpoint()
            trainer.restore(checkpoint)
            first = checkpoint.step
        for step in range(first + 1, stop + 1):
            trainer.step(step)
            if step == TINY.optim.refine_at:
                trainer.refine()
                trainer.observe(step)
            elif step % TINY.optim.observe_every == 0:
                trainer.observe(step)
        run.save_checkpoint(trainer.checkpoint(stop))
    resumed = fit(sequence, frames, TINY, tmp_path / "parts")
    for name in ("offsets", "albedo", "radiance", "labels", "faces"):
        assert torch.equal(getattr(whole.geometry, name), getattr(resumed.geometry, name)), name
    assert bool(whole.geometry.offsets.any())


def test_a_checkpoint_that_does_not_fit_is_refused(sequence, frames) -> None:
    trainer = GeometryTrainer(sequence, frames, TINY, 3, CPU)
    trainer.step(1)
    good = trainer.checkpoint(1)
    for weights, optimizer, message in (
        ({"offsets": good.weights["offsets"][1:]}, {}, "must have 'offsets' of shape"),
        ({"labels": good.weights["labels"].float()}, {}, "must have 'labels' of shape"),
        ({"chroma": good.weights["chroma"][:, :2]}, {}, "must have 'chroma' of shape"),
        ({"other": good.weights["chroma"]}, {}, "other must have the shape None"),
        ({}, {"offsets/step": torch.zeros(2)}, "must have step of 'offsets' of shape"),
    ):
        bad = replace(good, weights=good.weights | weights, optimizer=good.optimizer | optimizer)
        with pytest.raises(ValueError, match=message):
            GeometryTrainer(sequence, frames, TINY, 3, CPU).restore(bad)


def test_a_checkpoint_that_lost_moments_is_refused(sequence, frames) -> None:
    trainer = GeometryTrainer(sequence, frames, TINY, 3, CPU)
    trainer.step(1)
    good = trainer.checkpoint(1)
    kept = {k: v for k, v in good.optimizer.items() if not k.startswith("offsets/")}
    for moments, message in (
        (kept, "^optimiser must have .* of 'offsets', got nothing$"),
        (good.optimizer | {"hair/step": torch.zeros(())}, "^optimiser must not have 'hair/step'"),
    ):
        with pytest.raises(ValueError, match=message):
            GeometryTrainer(sequence, frames, TINY, 3, CPU).restore(
                replace(good, optimizer=moments)
            )


def test_captures_without_label_maps_are_named(sequence, frames, caplog) -> None:
    GeometryTrainer(sequence, frames, TINY, 0, CPU)
    assert "label maps" not in caplog.text
    bare = copy(frames)
    bare.records = tuple(replace(record, parsing_path=None) for record in frames.records)
    trainer = GeometryTrainer(sequence, bare, TINY, 0, CPU)
    assert f"{sequence.root}: has no label maps" in caplog.text
    before = trainer.facts.labels
    trainer.observe(0)
    assert torch.equal(trainer.facts.labels, before)


def test_refining_leaves_the_surface_where_it_is(sequence, frames) -> None:
    trainer = GeometryTrainer(sequence, frames, TINY, 0, CPU)
    trainer.observe(0)
    trainer.step(1)
    before = trainer.mesh.pose(trainer.model.offsets, sequence.pose[:2])
    coarse, count = trainer.mesh.faces, trainer.mesh.num_vertices
    moments = trainer.checkpoint(1).optimizer["offsets/exp_avg"]
    trainer.refine()
    after = trainer.mesh.pose(trainer.model.offsets, sequence.pose[:2])
    assert_close(after[:, :count], before)
    assert len(trainer.mesh.faces) == 4 * len(coarse)
    carried = trainer.checkpoint(1).optimizer
    assert_close(carried["offsets/exp_avg"][:count], moments)
    assert float(carried["offsets/step"]) == 1.0
    # The rotation of one joint is the same everywhere: midpoints stay midpoints.
    first, second = trainer.mesh.refinement.edges[0].unbind(1)
    assert_close(after[:, count:], 0.5 * (before[:, first] + before[:, second]))


def test_a_stage_sees_all_frames_before_it_repeats_one(sequence, frames) -> None:
    trainer = GeometryTrainer(sequence, frames, TINY, 0, CPU)
    total = len(frames)
    seen = torch.cat([trainer.rows(step) for step in range(1, total + 1)])
    assert torch.equal(seen[:total].sort().values, torch.arange(total))
    assert torch.equal(seen[total:].sort().values, torch.arange(total))
    assert not torch.equal(seen[:total], seen[total:])


def test_the_file_holds_the_mesh(sequence, frames, tmp_path) -> None:
    geometry = fit(sequence, frames, TINY, tmp_path / "run").geometry
    geometry.save(tmp_path / "geometry.safetensors")
    loaded = PersonalGeometry.load(tmp_path / "geometry.safetensors")
    for name in ("rest", "offsets", "faces", "skinning_weights", "labels", "albedo", "radiance"):
        assert torch.equal(getattr(loaded, name), getattr(geometry, name)), name
    assert (loaded.levels, loaded.light_space) == (1, "world")
    mesh = FittedMesh(loaded, sequence.head)
    assert isinstance(mesh, ShadingMesh)
    assert_close(mesh.rest_vertices, geometry.canonical.vertices)
    moving = sequence.pose[1].replace(identity_coeffs=None)
    assert_close(mesh.vertices(moving), mesh.vertices(sequence.pose[1]))
    assert mesh.vertices(moving).shape == (1, len(mesh.albedo), 3)


def test_the_file_belongs_to_one_head(sequence, frames, tmp_path) -> None:
    geometry = PersonalGeometry.of(GeometryTrainer(sequence, frames, TINY, 0, CPU))
    other = JointedHead(12, 18)
    other.version = "2"
    with pytest.raises(ValueError, match="head must be the one of the geometry"):
        FittedMesh(geometry, other)
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        PersonalGeometry.load(tmp_path / "other.safetensors")


def test_captures_without_joints_or_masks_are_refused(sequence, frames) -> None:
    with pytest.raises(ValueError, match="needs a head model with joints, got 'fake'"):
        GeometryTrainer(replace(sequence, head=FakeHead(12, 18)), frames, TINY, 0, CPU)
    bare = FrameStore.from_pixels(frames.pixels[:, :3], frames.camera, frames.timesteps)
    with pytest.raises(ValueError, match="needs frames with masks"):
        GeometryTrainer(sequence, bare, TINY, 0, CPU)


# ---- labels and settings -------------------------------------------------------------------------


def test_most_pixels_decide_a_label_and_ties_keep_the_old_one() -> None:
    hair, skin = SEMANTIC_GROUPS.index("hair"), SEMANTIC_GROUPS.index("skin")
    votes = torch.zeros(4, len(SEMANTIC_GROUPS))
    votes[0, hair], votes[0, skin] = 3, 2
    votes[1, hair], votes[1, skin] = 2, 2
    votes[2, skin] = 5
    labels = vote_labels(torch.tensor([skin, skin, hair, hair]), votes)
    assert labels.tolist() == [hair, skin, skin, hair]


def test_pixels_vote_for_the_vertex_that_they_see() -> None:
    corners = torch.tensor([[0, 0, 1], [2, -1, 1]])
    rgb = torch.tensor([0.6, 0.3, 0.1])[:, None, None].repeat(1, 2, 3)
    mask = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]])
    hair, background = (SEMANTIC_GROUPS.index(name) for name in ("hair", "background"))
    semantics = torch.tensor([[[hair, hair, hair], [hair, hair, background]]], dtype=torch.uint8)
    views = VertexViews.none(4)
    views.add(corners, rgb, mask, semantics)
    assert views.votes[:, hair].tolist() == [2, 1, 0, 0]
    assert not bool(views.votes[:, background].any())
    expected = torch.tensor([[0.6, 0.3, 0.1]] * 2 + [[1 / 3] * 3] * 2)
    assert_close(views.chroma, expected)


def test_label_maps_reach_the_vertices(sequence, frames) -> None:
    """The studio writes what each pixel shows: nothing but skin on a sphere."""
    trainer = GeometryTrainer(sequence, frames, TINY, 0, CPU)
    wrong = torch.full_like(trainer.facts.labels, SEMANTIC_GROUPS.index("hair"))
    trainer.facts = replace(trainer.facts, labels=wrong)
    trainer.observe(0)
    share = (trainer.facts.labels == SEMANTIC_GROUPS.index("skin")).float().mean()
    assert share > 0.5


def test_keep_weights_follow_the_labels() -> None:
    labels = torch.tensor([SEMANTIC_GROUPS.index(name) for name in ("eyes", "hair", "skin")])
    assert_close(KeepWeights().of_labels(labels), torch.tensor([100.0, 0.01, 1.0]))


def test_rates_fall_along_a_cosine_at_the_end() -> None:
    optim = GeometryOptim(decay_steps=100, decay_to=0.1)
    assert optim.decay(200, 300) == pytest.approx(1.0)
    assert optim.decay(250, 300) == pytest.approx(0.55)
    assert optim.decay(300, 300) == pytest.approx(0.1)


def test_a_schedule_is_scaled_as_a_whole() -> None:
    half = scale_schedule(PRESETS["standard"], 0.5)
    assert (half.steps, half.optim.refine_at, half.optim.decay_steps) == (1500, 500, 500)
    assert half.is_refined(501)
    assert not half.is_refined(500)
    # As in the schedules of all methods: what is kept and logged stays as often.
    assert half.checkpoint_every == PRESETS["standard"].checkpoint_every
    assert half.log_every == PRESETS["standard"].log_every
    with pytest.raises(ValueError, match="schedule must be positive"):
        scale_schedule(PRESETS["standard"], 0.0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GeometryConfig(steps=0), "steps must be at least 1, got 0"),
        (lambda: GeometryModelConfig(subdivisions=-1), "subdivisions must not be negative, got -1"),
        (lambda: GeometryModelConfig(light_height=0), "light_height must be positive, got 0"),
        (lambda: GeometryOptim(batch_size=0), "batch_size must be positive, got 0"),
        # Before the first step there is nothing to subdivide after: it would never happen.
        (lambda: GeometryOptim(refine_at=0), "refine_at must be positive, got 0"),
        (
            lambda: GeometryConfig(keep_checkpoints=-1),
            "keep_checkpoints must be at least 0, got -1",
        ),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # Once per process, of PyTorch 2.11.
def test_the_stage_finds_the_same_mesh_on_a_gpu(sequence, frames, tmp_path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    config = replace(PRESETS["toy"], steps=40)
    expected = fit(sequence, frames, config, tmp_path / "cpu")
    run = RunFolder.create(tmp_path / "gpu", config, seed=3)
    found = fit_geometry(sequence, frames, config, run, 3, torch.device("cuda"))
    for name, value in expected.after.facts().items():
        assert found.after.facts()[name] == pytest.approx(value, rel=0.05), name
    difference = (found.geometry.offsets - expected.geometry.offsets).norm(dim=1)
    assert difference.median() < 0.1 * expected.geometry.offsets.norm(dim=1).median()
