"""Known lights: where they stand, what pictures they give, and how captures tell of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import FakeHead
from vultus.core.image_io import read_image, to_bytes, write_radiance
from vultus.core.srgb import linear_to_srgb
from vultus.data.check import check_capture
from vultus.data.check_sheet import draw_check_sheet
from vultus.data.frames import load_colors, load_frame
from vultus.data.light_card import LightCard
from vultus.data.readers import lps_multiview, read_relight_truth, read_sequence
from vultus.data.relighting import distant_light, light_to_world, load_materials
from vultus.data.sequence import HeadSequence
from vultus.data.studio.capture import film, plan_film
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.lights import BUILT_IN_LIGHTS, auto_exposure, open_light
from vultus.data.studio.renderer import StudioRenderer
from vultus.data.studio.scene import build_scene
from vultus.data.studio.subject import Subject, plain_appearance
from vultus.data.studio.tone_curve import decode_film, encode_film, inverse_tone_map, tone_map
from vultus.geometry.cameras import Camera, look_at
from vultus.heads.base import HeadPose
from vultus.render.lighting.envmap import (
    EnvironmentMap,
    envmap_directions,
    envmap_solid_angles,
)
from vultus.render.lighting.lights import directional_lights

CONFIG = StudioConfig(
    frames=4, cameras=2, size=40, samples=1, num_lights=16, test_share=0.5,
    test_lights=("left", "right"),
)  # fmt: skip


def subject() -> Subject:
    head = FakeHead(rings=16, segments=24)
    return Subject(head, None, plain_appearance(head, 0, 32))


def head() -> FakeHead:
    return FakeHead(rings=16, segments=24)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("relighting") / "capture"
    assert film(CONFIG, out, subject=subject()) == 4 * 2 + 2 * 2 * 2
    return out


@pytest.fixture(scope="module")
def sequence(filmed: Path) -> HeadSequence:
    return read_sequence(filmed, head=head())


@pytest.fixture
def capture(filmed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(filmed, tmp_path / "capture")


def camera_at(*eye: float) -> Camera:
    intrinsics = torch.tensor([[150.0, 0.0, 24.0], [0.0, 150.0, 24.0], [0.0, 0.0, 1.0]])
    return Camera(look_at(torch.tensor([eye]), torch.zeros(3)), intrinsics[None], 48, 48)


EYES = [(0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (-0.6, 0.3, 0.7), (0.3, -0.4, -0.9)]


# ---- where lights stand ----------------------------------------------------------------------


@pytest.mark.parametrize("eye", EYES)
def test_light_from_behind_a_camera_comes_from_where_the_camera_is(eye: tuple[float, ...]) -> None:
    height, width = 4, 8
    columns = envmap_directions(height, width)[1:3, [1, 2]].reshape(-1, 3)
    behind = columns.mean(dim=0)  # around a quarter of the width, in the middle of the height
    toward = light_to_world(camera_at(*eye), "camera_opengl")[0] @ behind
    cosine = torch.nn.functional.cosine_similarity(toward, torch.tensor(eye), dim=0)
    assert float(cosine) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize(("axis", "is_lit"), [
    ((1.0, 0.0, 0.0), "right"), ((-1.0, 0.0, 0.0), "left"), ((0.0, 1.0, 0.0), "upper"),
])  # fmt: skip
def test_a_ball_is_lit_on_the_side_of_a_light_that_stands_with_the_camera(
    eye: tuple[float, ...], axis: tuple[float, ...], is_lit: str
) -> None:
    camera = camera_at(*eye)
    ball = FakeHead(rings=16, segments=24)
    renderer = StudioRenderer(ball.topology.faces, plain_appearance(ball, 0, 16), threads=1)
    toward = light_to_world(camera, "camera_opengl")[0] @ torch.tensor(axis)
    renderer.set_light(directional_lights(toward[None], torch.ones(1, 3)))
    renderer.pose(ball.neutral)
    grey = renderer.render(camera, samples=1, background=(0.0, 0.0, 0.0)).rgb.mean(dim=0)
    rows, columns = grey.sum(dim=1), grey.sum(dim=0)
    brighter = {
        "left": columns[:24].sum() > 3 * columns[24:].sum(),
        "right": columns[24:].sum() > 3 * columns[:24].sum(),
        "upper": rows[:24].sum() > 3 * rows[24:].sum(),
    }
    assert [name for name, value in brighter.items() if value] == [is_lit]


def test_light_of_the_world_stands_still_whatever_the_camera_does() -> None:
    cameras = Camera.stack([camera_at(*eye) for eye in EYES])
    assert torch.equal(light_to_world(cameras, "world"), torch.eye(3).expand(4, 3, 3))


def test_a_distant_light_gives_its_irradiance_from_its_direction() -> None:
    toward, irradiance = torch.tensor([0.3, -0.5, 2.0]), torch.tensor([3.0, 2.0, 1.0])
    light = distant_light(toward, irradiance)
    normal = torch.nn.functional.normalize(toward, dim=0)
    height, width = light.radiance.shape[1:]
    weights = envmap_solid_angles(height, width) * (envmap_directions(height, width) @ normal)
    received = (light.radiance * weights.clamp(min=0)).sum(dim=(1, 2))
    torch.testing.assert_close(received, irradiance, rtol=2e-3, atol=0)


def test_built_in_lights_shine_from_where_their_name_says(tmp_path: Path) -> None:
    assert BUILT_IN_LIGHTS == ("left", "right", "top", "sky")
    found = {}
    for text in BUILT_IN_LIGHTS:
        name, light = open_light(text, "vultus")
        assert name == text
        weights = light.radiance.mean(dim=0) * envmap_solid_angles(*light.radiance.shape[1:])
        directions = envmap_directions(*light.radiance.shape[1:])
        found[name] = (weights[..., None] * directions).sum(dim=(0, 1)) / weights.sum()
    assert found["left"][0] > 0.3
    assert found["right"][0] < -0.3
    assert found["top"][1] > 0.3
    with pytest.raises(FileNotFoundError, match="a light is a file or one of left, right"):
        open_light(str(tmp_path / "none.exr"), "vultus")


# ---- what the studio films -------------------------------------------------------------------


def test_test_frames_alone_are_filmed_again(sequence: HeadSequence) -> None:
    truth = read_relight_truth(sequence)
    assert truth is not None
    assert list(truth.test_lights) == ["left", "right"]
    for name in truth.test_lights:
        relit = truth.relit(sequence.frames, name)
        assert {(r.timestep, r.camera_index) for r in relit} == {
            (t, c) for t in (2, 3) for c in (0, 1)
        }
        assert relit == truth.relit(sequence.split("test"), name)
        assert truth.relit(sequence.split("train"), name) == ()
        originals = {(r.timestep, r.camera_index): r for r in sequence.frames}
        for record in relit:
            original = originals[record.timestep, record.camera_index]
            assert replace(record, image_path=original.image_path) == original
    with pytest.raises(ValueError, match="light must be one of 'left', 'right', got 'up'"):
        truth.relit(sequence.frames, "up")


def test_the_stored_maps_give_the_stored_pictures(sequence: HeadSequence) -> None:
    truth = read_relight_truth(sequence)
    assert truth is not None
    assert truth.train_light is not None
    scene = build_scene(CONFIG, subject())
    renderer = StudioRenderer(scene.subject.head.topology.faces, scene.subject.appearance, 1)
    record = sequence.split("test")[1]
    lights = {"train": truth.train_light, **truth.test_lights}
    for name, light in lights.items():
        seen = record if name == "train" else truth.relit([record], name)[0]
        renderer.set_light(light.load(), CONFIG.num_lights, max_radiance_ratio=None)
        renderer.pose(scene.subject.head.vertices(scene.pose[record.timestep])[0], head().neutral)
        expected = renderer.render(record.camera, samples=1).rgb
        found, _ = load_colors(sequence, seen)
        levels = to_bytes(found).int() - to_bytes(expected).int()
        assert int(levels.abs().max()) <= 1, name


def test_a_lamp_on_the_left_lights_the_left_of_the_subject(sequence: HeadSequence) -> None:
    """The camera looks from the front, so that the subject's left is on the right."""
    truth = read_relight_truth(sequence)
    assert truth is not None
    sums = {}
    for name in truth.test_lights:
        frame = load_frame(sequence, truth.relit(sequence.frames, name)[0])
        assert frame.mask is not None
        assert frame.normals is not None
        light = truth.radiance(frame.rgb) * (frame.mask > 0.99)
        is_left = frame.normals[:, :1] > 0.3
        is_right = frame.normals[:, :1] < -0.3
        sums[name] = (
            float((light * is_left).sum() / is_left.sum()),
            float((light * is_right).sum() / is_right.sum()),
        )
    assert sums["left"][0] > 2 * sums["left"][1]
    assert sums["right"][1] > 2 * sums["right"][0]


def test_materials_come_back(sequence: HeadSequence) -> None:
    scene = build_scene(CONFIG, subject())
    renderer = StudioRenderer(scene.subject.head.topology.faces, scene.subject.appearance, 1)
    renderer.set_light(scene.light, CONFIG.num_lights, scene.exposure, max_radiance_ratio=None)
    record = sequence.split("test")[0]
    renderer.pose(scene.subject.head.vertices(scene.pose[record.timestep])[0], head().neutral)
    expected = renderer.render(record.camera, samples=1)
    found = load_materials(record)
    assert found is not None
    assert found.roughness is not None
    assert found.specular is not None
    assert float(expected.albedo.max()) > 0.2
    torch.testing.assert_close(found.albedo[0], expected.albedo, atol=0.006, rtol=0)
    torch.testing.assert_close(found.roughness[0], expected.roughness, atol=0.003, rtol=0)
    torch.testing.assert_close(found.specular[0], expected.specular, atol=0.003, rtol=0)
    assert load_materials(replace(record, albedo_path=None)) is None


def test_radiance_undoes_the_film(sequence: HeadSequence) -> None:
    truth = read_relight_truth(sequence)
    assert truth is not None
    assert truth.film == "studio"
    light = torch.linspace(0, 1.5, 50, dtype=torch.float64)
    torch.testing.assert_close(truth.radiance(tone_map(light)), light)
    plain = replace(truth, film="srgb")
    torch.testing.assert_close(plain.radiance(linear_to_srgb(light[:30])), light[:30])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_display_white_is_the_least_light_that_eight_bits_round_to_it(dtype: torch.dtype) -> None:
    white = decode_film(torch.ones(1, 1, 1, dtype=dtype), "studio")
    assert to_bytes(encode_film(1.0001 * white, "studio").float()).item() == 255
    assert to_bytes(encode_film(0.9999 * white, "studio").float()).item() == 254
    assert decode_film(torch.ones(1, 1, 1, dtype=dtype), "srgb").item() == pytest.approx(1.0)


def test_plain_srgb_may_be_filmed(tmp_path: Path) -> None:
    config = replace(CONFIG, film="srgb", exposure=2.0)
    film(config, tmp_path / "capture", subject=subject())
    captured = read_sequence(tmp_path / "capture", head=head())
    truth = read_relight_truth(captured)
    assert truth is not None
    assert truth.film == "srgb"
    scene = build_scene(config, subject())
    renderer = StudioRenderer(scene.subject.head.topology.faces, scene.subject.appearance, 1)
    renderer.set_light(scene.light, config.num_lights, 2.0, max_radiance_ratio=None)
    record = captured.frames[0]
    renderer.pose(scene.subject.head.vertices(scene.pose[record.timestep])[0], head().neutral)
    radiance = inverse_tone_map(renderer.render(record.camera, samples=1).rgb)
    assert float(radiance.max()) > 0.7
    frame = load_frame(captured, record)
    assert frame.mask is not None
    inside = frame.mask[0, 0] > 0.99
    found = truth.radiance(frame.rgb[0])[:, inside]
    torch.testing.assert_close(found, radiance[:, inside].clamp(max=1), atol=0.006, rtol=0)


@pytest.mark.parametrize("name", ["left", "right", "top", "sky"])
def test_a_film_that_clips_is_exposed_for_the_brightest_side(name: str) -> None:
    _, light = open_light(name, "vultus")
    height, width = light.radiance.shape[1:]
    directions = envmap_directions(height, width).reshape(-1, 3)
    energy = light.radiance * envmap_solid_angles(height, width)
    # White boards that face every way, brightness by channel.
    boards = (directions @ directions.T).clamp(min=0) @ energy.flatten(1).T / torch.pi
    brightest = float(boards.mean(dim=1).max()) * auto_exposure(light, "srgb")
    assert brightest == pytest.approx(0.85, rel=0.02)
    assert auto_exposure(light, "srgb") <= auto_exposure(light)


def test_a_lost_relit_picture_is_filmed_again(capture: Path) -> None:
    path = capture / "relight/right/images/00003_01.png"
    before = path.read_bytes()
    path.unlink()
    assert plan_film(CONFIG, capture, subject()).num_missing == 1
    assert film(CONFIG, capture, subject=subject()) == 1
    assert path.read_bytes() == before
    assert plan_film(CONFIG, capture, subject()).facts()["pictures to take"] == "0 of 16"


def test_test_lights_need_test_moments_other_names_and_a_layout_that_has_them(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="test_lights need moments of the split test"):
        replace(CONFIG, test_share=0.0)
    with pytest.raises(ValueError, match="'left' comes twice"):
        build_scene(replace(CONFIG, test_lights=("left", "left")), subject())
    write_radiance(tmp_path / "train.exr", torch.ones(3, 4, 8))
    with pytest.raises(ValueError, match="test_lights must not be named 'train'"):
        build_scene(replace(CONFIG, test_lights=(str(tmp_path / "train.exr"),)), subject())
    one = replace(CONFIG, rig="monocular", cameras=1)
    with pytest.raises(ValueError, match="nerf_blendshape has no test_lights"):
        plan_film(one, tmp_path / "out", subject(), "nerf_blendshape")
    assert not (tmp_path / "out").exists()


# ---- captures that others made ----------------------------------------------------------------


def test_the_check_reads_and_draws_all_lights(capture: Path, tmp_path: Path) -> None:
    report = check_capture(capture, head=head())
    assert report.errors == ()
    assert report.facts["test lights"] == "left, right"
    assert "roughness, specular" in report.facts["beside every image"]
    draw_check_sheet(report, tmp_path / "sheet.png")
    # Nine frames, two plots, the table, four label maps, and one frame under three lights.
    assert read_image(tmp_path / "sheet.png").shape[2] == 1280
    (capture / "relight/left/images/00002_00.png").write_bytes(b"no picture")
    (error,) = check_capture(capture, head=head()).errors
    assert "relight/left/images/00002_00.png: not a readable PNG or JPEG" in error


def _edited(**values: Any) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "light.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return damage


def _no_map(root: Path) -> None:
    (root / "envs/left.exr").unlink()


def _no_pictures(root: Path) -> None:
    shutil.rmtree(root / "relight/left")


def _garbage(root: Path) -> None:
    (root / "light.json").write_bytes(b"\xff\x00{")


def _negative(root: Path) -> None:
    write_radiance(root / "envs/left.exr", torch.full((3, 4, 8), -1.0))


def _square(root: Path) -> None:
    write_radiance(root / "envs/left.exr", torch.ones(3, 8, 8))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_edited(train_env="none.exr"), r"train_env: .*none\.exr does not exist"),
        (_edited(train_env=3), "train_env must be a path or null, got 3"),
        (_edited(up="+z"), r"up must be one of \+y, got '\+z'"),
        (_edited(frame="room"), "frame must be one of world, camera, got 'room'"),
        (_edited(color_space="log"), "color_space must be one of srgb, studio, linear, got 'log'"),
        (_edited(exposure=0), "exposure must be a positive number, got 0"),
        (_edited(exposure=float("nan")), "exposure must be a positive number, got nan"),
        (_edited(tests="left"), "tests must be a list of names without slashes"),
        (_edited(tests=["../left"]), "tests must be a list of names without slashes"),
        (_edited(test_exposures={"left": True}), r"test_exposures\.left must be a positive number"),
        (_edited(test_exposures=[1]), "test_exposures must be an object"),
        (_edited(test_exposures={"lefd": 1.0}), "test_exposures has 'lefd', which tests has not"),
        (_edited(tests=["train"]), "tests must not have 'train', the light of training"),
        (_edited(up=["+y"]), r"up must be one of \+y, got \['\+y'\]"),
        (_edited(exposure=1e300), r"light\.exr: radiance of an environment map must be finite"),
        (_garbage, "not JSON"),
        (_no_map, r"envs/left\.exr does not exist, though light\.json names 'left'"),
        (_no_pictures, "relight/left/images: has no picture named as one of the capture"),
        (_negative, r"envs/left\.exr: radiance of an environment map must not be negative"),
        (_square, r"envs/left\.exr: must be twice as wide as high, got 8 x 8"),
    ],
)
def test_wrong_light_cards_are_one_line_of_the_check(
    capture: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(capture)
    errors = check_capture(capture, head=head()).errors
    assert len(errors) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(errors[0])
    assert "\n" not in errors[0]


def test_an_unknown_training_light_and_maps_as_hdr_are_fine(capture: Path) -> None:
    exposures = {"left": 0.7}
    _edited(train_env=None, tests=["left"], frame="camera", test_exposures=exposures)(capture)
    radiance = torch.rand(3, 4, 8)
    (capture / "envs/left.exr").unlink()
    write_radiance(capture / "envs/left.hdr", radiance)
    sequence = read_sequence(capture, head=head())
    truth = read_relight_truth(sequence)
    assert truth is not None
    assert truth.train_light is None
    assert truth.light_space == sequence.light_space == "camera_opengl"
    loaded = truth.test_lights["left"].load().radiance / 0.7
    torch.testing.assert_close(loaded, radiance, atol=0.005, rtol=0)


def test_test_lights_are_exposed_as_the_training_light_unless_told(capture: Path) -> None:
    _edited(exposure=0.25, test_exposures={"right": 2.0})(capture)
    card = LightCard.load(capture / "light.json")
    assert card.exposure == 0.25
    assert dict(card.test_exposures) == {"left": 0.25, "right": 2.0}


def test_a_capture_without_a_card_tells_no_lights(capture: Path) -> None:
    (capture / "light.json").unlink()
    assert read_relight_truth(read_sequence(capture, head=head())) is None


def test_linear_pictures_are_encoded_when_they_are_loaded(capture: Path) -> None:
    encoded = read_sequence(capture, head=head())
    before, _ = load_colors(encoded, encoded.frames[0])
    _edited(color_space="linear")(capture)
    linear = read_sequence(capture, head=head())
    after, _ = load_colors(linear, linear.frames[0])
    torch.testing.assert_close(after, linear_to_srgb(before), atol=2e-3, rtol=0)
    truth = read_relight_truth(linear)
    assert truth is not None
    torch.testing.assert_close(truth.radiance(after), before, atol=2e-3, rtol=0)


# ---- a scan under several lights ---------------------------------------------------------------


def _shading(light: EnvironmentMap, normals: Tensor) -> Tensor:
    """Brightness of white matte surfaces without shadows."""
    height, width = light.radiance.shape[1:]
    directions = envmap_directions(height, width).reshape(-1, 3)
    energy = light.radiance.mean(dim=0) * envmap_solid_angles(height, width)
    return ((normals @ directions.T).clamp(min=0) @ energy.flatten()) / torch.pi


def test_lights_of_a_real_scan_explain_its_pictures(data_dir: Path) -> None:
    """Where the map stands, and its exposure: most of the picture is matte and not in shadow."""
    root = data_dir / "lps_multiview"
    fake = FakeHead()
    sequence = read_sequence(root, head=fake, envmaps=data_dir / "envmaps", background="black")
    truth = read_relight_truth(sequence)
    assert truth is not None
    assert truth.train_light is not None
    assert truth.train_light.name == "kloppenheim_06"
    assert set(truth.test_lights) == {"studio_small_03", "dir0"}
    for name, light in truth.test_lights.items():
        for index in (0, 3, 30):
            (record,) = truth.relit([sequence.frames[index]], name)
            frame, materials = load_frame(sequence, record), load_materials(record)
            assert frame.mask is not None
            assert frame.normals is not None
            assert materials is not None
            known = (frame.mask[0, 0] > 0.99) & (frame.normals[0].norm(dim=0) > 0.9)
            known &= torch.rand(known.shape, generator=torch.Generator().manual_seed(0)) < 0.05
            lit = truth.radiance(frame.rgb)[0][:, known].mean(dim=0)
            white = _shading(light.load(), frame.normals[0][:, known].T)
            expected = white * materials.albedo[0][:, known].mean(dim=0)
            assert float(torch.corrcoef(torch.stack([lit, expected]))[0, 1]) > 0.8, (name, index)
            assert 0.75 < float(expected.mean() / lit.mean()) < 1.15, (name, index)


SCAN_LIGHTS: dict[str, dict[str, Any]] = {
    "room": {"exposure": 0.5, "light": {"type": "envmap", "name": "room"}},
    "sun": {
        "exposure": 2.0,
        "light": {
            "type": "directional",
            "direction": [0.0, -1.0, 0.0],
            "irradiance": {"value": [3.0, 2.0, 1.0]},
        },
    },
}


def _scan_light(folder: Path, name: str, **changes: Any) -> EnvironmentMap:
    """Read a light of a scan that has nothing but lights."""
    light = {**SCAN_LIGHTS[name]["light"], **changes.pop("light", {})}
    lights = {**SCAN_LIGHTS, name: {**SCAN_LIGHTS[name], **changes, "light": light}}
    (folder / "train").mkdir(exist_ok=True)
    manifest = {"frames": [], "lights": lights}
    (folder / "train/transforms.json").write_text(json.dumps(manifest))
    info = {"envmaps": str(folder), "light_name": name}
    pose = HeadPose(translation=torch.zeros(1, 3))
    truth = lps_multiview.relight_truth(HeadSequence(folder, (), {}, FakeHead(), pose, info=info))
    assert truth is not None
    assert truth.train_light is not None
    return truth.train_light.load()


def test_maps_of_a_scan_are_found_by_name_then_by_its_beginning(tmp_path: Path) -> None:
    for value, name in enumerate(["rooms.exr", "room_1k.hdr", "room_1k.exr", "room.hdr"], start=1):
        if name == "room_1k.hdr":
            with pytest.raises(FileNotFoundError, match=r"has no map room or room_\*"):
                _scan_light(tmp_path, "room")
        write_radiance(tmp_path / name, torch.full((3, 4, 8), float(value)))
        if name != "rooms.exr":
            found = float(_scan_light(tmp_path, "room").radiance.mean())
            assert found == pytest.approx(0.5 * value, rel=0.01), name
    (tmp_path / "room.hdr").unlink()
    write_radiance(tmp_path / "room_2k.exr", torch.ones(3, 4, 8))
    with pytest.raises(ValueError, match=r"one map of room, got room_1k\.exr, room_2k\.exr"):
        _scan_light(tmp_path, "room")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sun", {"exposure": float("nan")}, r"lights\.sun\.exposure must be a positive n"),
        ("sun", {"exposure": "1"}, r"lights\.sun\.exposure must be a positive n"),
        ("sun", {"light": {"direction": [1.0, 2.0]}}, "direction must be three numbers"),
        ("sun", {"light": {"direction": [[1.0, 2.0, 3.0]]}}, "direction must be three numbers"),
        ("sun", {"light": {"direction": [0.0, 0.0, 0.0]}}, "must have a direction"),
        ("sun", {"light": {"irradiance": {"value": 3.0}}}, "irradiance must be a list of numbers"),
        ("sun", {"light": {"irradiance": {"value": [1.0, -1.0, 1.0]}}}, "light that is not neg"),
        ("sun", {"light": {"irradiance": {}}}, "must have exposure and light"),
        ("sun", {"light": {"type": "spot"}}, "type must be envmap or directional, got 'spot'"),
        ("room", {}, r"room\.exr: must be twice as wide as high, got 8 x 8"),
    ],
)
def test_wrong_lights_of_a_scan_are_refused_by_their_name(
    tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    write_radiance(tmp_path / "room.exr", torch.ones(3, 8, 8))
    with pytest.raises(ValueError, match=message) as caught:
        _scan_light(tmp_path, name, **changes)
    assert "\n" not in str(caught.value)


def test_a_distant_light_of_a_scan_comes_against_its_direction(tmp_path: Path) -> None:
    write_radiance(tmp_path / "room.exr", torch.ones(3, 4, 8))
    radiance = _scan_light(tmp_path, "sun").radiance
    top = radiance[:, 0].sum(dim=1) / radiance.sum(dim=(1, 2))
    assert top.tolist() == [1.0, 1.0, 1.0]
    ratio = radiance.sum(dim=(1, 2))
    torch.testing.assert_close(ratio / ratio[2], torch.tensor([3.0, 2.0, 1.0]))


def test_without_maps_a_scan_tells_no_lights(data_dir: Path, tmp_path: Path) -> None:
    root = data_dir / "lps_multiview"
    assert read_relight_truth(read_sequence(root, head=FakeHead())) is None
    with pytest.raises(FileNotFoundError, match=r"has no map kloppenheim_06 or kloppen"):
        read_relight_truth(read_sequence(root, head=FakeHead(), envmaps=tmp_path))
