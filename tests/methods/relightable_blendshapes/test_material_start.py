"""Materials start on the mesh, in the light and with the albedo of a geometry stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from tolerances import assert_close
from vultus.core.image_io import write_radiance
from vultus.data.light_card import LightCard
from vultus.data.semantics import SEMANTIC_GROUPS
from vultus.data.sequence import HeadSequence
from vultus.geometry.mesh_sampling import closest_points
from vultus.geometry.meshes import vertex_normals
from vultus.heads.base import HeadPose
from vultus.heads.registry import describe_head, load_head
from vultus.methods.relightable_blendshapes.config import PRESETS, RelightableBlendshapesConfig
from vultus.methods.relightable_blendshapes.geometry_file import FittedMesh, PersonalGeometry
from vultus.methods.relightable_blendshapes.material_config import MaterialConfig, MaterialRates
from vultus.methods.relightable_blendshapes.material_mesh import HeadMesh, ShadingMesh
from vultus.methods.relightable_blendshapes.material_start import start_materials
from vultus.methods.relightable_blendshapes.start import FACE, StartPoints

TeethChoice = Literal["missing", "always", "never"]
OFFSET = 0.004
"""Along the normals, metres."""


def settings(teeth: TeethChoice = "never", **materials: Any) -> RelightableBlendshapesConfig:
    config = PRESETS["toy-pbr"]
    return replace(
        config,
        model=replace(config.model, teeth=teeth),
        materials=replace(config.materials, **materials),
    )


def capture() -> HeadSequence:
    head = load_head("procedural")
    size = next(spec.size for spec in head.parameters_spec if spec.name == "identity_coeffs")
    pose = HeadPose(identity_coeffs=torch.zeros(1, size), jaw_pose=torch.zeros(2, 3))
    return HeadSequence(root=Path(), frames=(), splits={}, head=head, pose=pose)


@pytest.fixture(scope="module")
def geometry() -> PersonalGeometry:
    """The head, swollen, red, in light of brightness 2."""
    sequence = capture()
    head, subject = sequence.head, HeadPose(identity_coeffs=sequence.pose.identity_coeffs)
    rest, faces = head.vertices(subject)[0], head.topology.faces
    return PersonalGeometry(
        rest=rest,
        offsets=OFFSET * vertex_normals(rest, faces),
        faces=faces,
        skinning_weights=head.skinning_weights,
        labels=torch.zeros(len(rest), dtype=torch.int64),
        albedo=torch.tensor([0.8, 0.2, 0.2]).expand(len(rest), 3),
        radiance=torch.full((3, 8, 16), 2.0),
        light_space="world",
        levels=0,
        subject=subject,
        head=describe_head(head),
    )


def test_gaussians_and_light_start_where_the_geometry_stage_ended(geometry, tmp_path) -> None:
    path = tmp_path / "geometry.safetensors"
    geometry.save(path)
    sequence = capture()
    appearance = start_materials(settings(geometry=path), sequence)
    mesh = appearance.mesh
    assert isinstance(mesh, ShadingMesh)
    assert isinstance(mesh, FittedMesh)
    assert_close(mesh.rest_vertices, geometry.rest + geometry.offsets)
    assert_close(appearance.radiance, torch.full((3, 16, 32), 2.0))
    points = geometry.rest[geometry.faces[::50]].mean(dim=1)
    carried = mesh.carried(points)
    on_mesh = closest_points(carried, mesh.rest_vertices, mesh.faces, num_neighbors=8).points
    # Where two layers touch, the nearest point may be of the other one.
    assert (carried - on_mesh).norm(dim=1).quantile(0.9) < 0.1 * OFFSET
    assert (carried - points).norm(dim=1).mean() > 0.8 * OFFSET
    assert_close(mesh.vertices(sequence.pose[0])[0], mesh.rest_vertices)


def test_without_a_geometry_stage_the_head_itself_is_lit_evenly() -> None:
    appearance = start_materials(settings(initial_light=0.5, map_rows=4), capture())
    assert isinstance(appearance.mesh, HeadMesh)
    assert_close(appearance.radiance, torch.full((3, 4, 8), 0.5))
    points = torch.rand(5, 3)
    assert torch.equal(appearance.mesh.carried(points), points)


def test_geometry_of_another_capture_is_refused(geometry, tmp_path) -> None:
    path = tmp_path / "geometry.safetensors"
    config = settings(geometry=path)
    with pytest.raises(FileNotFoundError, match=r"geometry\.safetensors"):
        start_materials(config, capture())
    replace(geometry, light_space="camera_opengl").save(path)
    with pytest.raises(ValueError, match="light must stand still in world"):
        start_materials(config, capture())
    replace(geometry, head={**geometry.head, "version": "0"}).save(path)
    with pytest.raises(ValueError, match="head must be the one of the geometry"):
        start_materials(config, capture())


def test_geometry_of_another_person_is_refused(geometry, tmp_path) -> None:
    path = tmp_path / "geometry.safetensors"
    coefficients = geometry.subject.identity_coeffs.clone()
    coefficients[0, 0] = 0.5
    replace(geometry, subject=HeadPose(identity_coeffs=coefficients)).save(path)
    with pytest.raises(ValueError, match="subject, their identity_coeffs differ"):
        start_materials(settings(geometry=path), capture())


def test_checkpoints_refuse_geometry_that_was_made_again(geometry, tmp_path) -> None:
    path, sequence = tmp_path / "geometry.safetensors", capture()
    config = settings(geometry=path, map_rows=4)
    neutral = {"means": sequence.head.neutral[::20].clone()}
    means = neutral["means"]

    def started():
        appearance = start_materials(config, sequence)
        appearance.gaussians_changed(neutral, appearance.constants(neutral))
        return appearance

    geometry.save(path)
    saved = started().tensors()
    started().check(saved, len(means))
    replace(geometry, offsets=0.5 * geometry.offsets).save(path)
    with pytest.raises(ValueError, match=r"geometry\.safetensors: must be the geometry that"):
        started().check(saved, len(means))


def test_gaussians_are_bound_to_rows_of_the_mesh_itself() -> None:
    sequence = capture()
    appearance = start_materials(settings(map_rows=4), sequence)
    faces = appearance.mesh.faces
    means = sequence.head.neutral[sequence.head.topology.regions["hair"]]
    appearance.gaussians_changed({"means": means}, appearance.constants({"means": means}))
    saved = appearance.tensors()
    corners = sequence.head.neutral[faces[saved["bound_faces"]]]
    points = (corners * saved["barycentrics"][..., None]).sum(dim=1)
    assert (points - means).norm(dim=1).median() < 1e-5


def test_skin_that_sinks_is_not_bound_to_the_inside_of_the_mouth() -> None:
    """Lips are thinner than Gaussians sink while they are trained."""
    sequence = capture()
    appearance = start_materials(settings(map_rows=4), sequence)
    rest, faces = appearance.mesh.rest_vertices, appearance.mesh.faces
    mouth = SEMANTIC_GROUPS.index("mouth")
    is_mouth = appearance.mesh.labels == mouth
    lips = appearance.mesh.labels == SEMANTIC_GROUPS.index("lips")
    near = (rest - rest[lips].mean(dim=0)).norm(dim=1) < 0.04
    start = rest[near & ~is_mouth]
    constants = appearance.constants({"means": start})
    sunk = start - 0.008 * vertex_normals(rest, faces)[near & ~is_mouth]
    skin = ~constants["is_inside"]
    assert skin.float().mean() > 0.8

    def of_mouth(constants) -> torch.Tensor:
        appearance.gaussians_changed({"means": sunk}, constants)
        return is_mouth[faces[appearance.tensors()["bound_faces"]]].any(dim=1)

    assert torch.equal(of_mouth(constants), ~skin)
    # Where each is bound to whatever is nearest, many are bound to the mouth.
    nearest = appearance.constants({"means": sunk})
    assert (of_mouth(nearest) & skin).float().mean() > 0.1
    # What is inside stays there when it comes out, row by row.
    out = {"is_inside": torch.arange(len(start)) % 2 == 0}
    assert torch.equal(of_mouth(out), out["is_inside"])


def test_a_light_file_comes_before_the_light_of_the_geometry(geometry, tmp_path) -> None:
    path, probe = tmp_path / "geometry.safetensors", tmp_path / "probe.exr"
    geometry.save(path)
    radiance = torch.rand(3, 16, 32)
    write_radiance(probe, radiance)
    for file in (None, path):
        config = settings(geometry=file, light_file=probe)
        found = start_materials(config, capture()).radiance
        assert_close(found, radiance, looser=1e4, reason="half floats of the file")


def test_a_captures_card_tells_the_light_with_its_exposure(tmp_path) -> None:
    radiance = torch.rand(3, 16, 32)
    write_radiance(tmp_path / "room.exr", radiance)
    card = tmp_path / "light.json"
    LightCard("room.exr", 0.25).save(card, {})
    found = start_materials(settings(light_file=card), capture()).radiance
    assert_close(found, 0.25 * radiance, looser=1e4, reason="half floats of the file")
    LightCard(None, 1.0).save(card, {})
    with pytest.raises(ValueError, match=r"light\.json: train_env must name a map .*, got null"):
        start_materials(settings(light_file=card), capture())


def test_strips_of_teeth_are_looked_up_and_hide_nothing() -> None:
    sequence = capture()
    bare = start_materials(settings(map_rows=4), sequence).mesh
    mesh = start_materials(settings("always", map_rows=4), sequence).mesh
    num = len(bare.rest_vertices)
    assert len(mesh.rest_vertices) > num
    assert torch.equal(mesh.occluders, bare.faces)
    assert torch.equal(mesh.faces[: len(bare.faces)], bare.faces)
    assert int(mesh.faces[len(bare.faces) :].min()) >= num
    closed, opened = (
        mesh.vertices(HeadPose(jaw_pose=torch.tensor([[angle, 0.0, 0.0]])))[0]
        for angle in (0.0, 0.3)
    )
    assert_close(closed[:num], bare.vertices(HeadPose(jaw_pose=torch.zeros(1, 3)))[0])
    moved = (opened - closed)[num:].norm(dim=1)
    half = len(moved) // 2
    assert moved[:half].max() < 1e-6
    assert moved[half:].min() > 0.005


def test_what_a_closed_mouth_hides_starts_faint() -> None:
    appearance = start_materials(settings(map_rows=4), capture())
    head = capture().head
    teeth, lips = head.topology.regions["teeth"], head.topology.regions["lips"]
    points = head.neutral[teeth | lips]
    surface = closest_points(points, head.neutral, head.topology.faces, num_neighbors=8)
    start = StartPoints(points, torch.full((len(points),), FACE), surface)
    stored = appearance.initial(start, torch.Generator())
    opacities = stored["opacity_logits"].sigmoid()
    is_tooth = teeth[teeth | lips]
    assert opacities[is_tooth].median() < 0.05
    expected = torch.tensor(PRESETS["toy-pbr"].model.initial_opacity)
    assert_close(opacities[~is_tooth].median(), expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MaterialConfig(min_roughness=0.65), r"min_roughness must lie in \[0, 0.65\)"),
        (lambda: MaterialConfig(min_roughness=-0.1), r"min_roughness must lie in \[0, 0.65\)"),
        (lambda: MaterialConfig(initial_light=float("nan")), "initial_light must be positive"),
        (lambda: MaterialConfig(light_start=-1), "light_start must not be negative, got -1"),
        (lambda: MaterialRates(decay_steps=0), "decay_steps must be at least 1, got 0"),
        (lambda: MaterialRates(albedo_init=0.0), "albedo_init must be positive, got 0.0"),
        (lambda: MaterialRates(light_final=0.0), "light_final must be positive, got 0.0"),
        (lambda: MaterialRates(specular=-1e-3), "specular must not be negative, got -0.001"),
    ],
)
def test_material_settings_that_cannot_be_meant_are_refused(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()
