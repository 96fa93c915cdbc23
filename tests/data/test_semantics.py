"""Label maps: classes of face parsers, their groups, and where frames get them from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fakes import FakeHead
from vultus.core.image_io import write_image
from vultus.data.check import check_capture
from vultus.data.frames import load_frame, load_parsing
from vultus.data.readers import read_sequence
from vultus.data.semantics import (
    PARSING_CLASSES,
    SEMANTIC_GROUPS,
    class_shares,
    is_group,
    mirrored_classes,
    parsing_colors,
    read_parsing,
    resize_label_map,
    semantic_groups,
)
from vultus.data.studio.capture import film
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.parsing import parsing_classes
from vultus.data.studio.subject import Subject, plain_appearance

CONFIG = StudioConfig(frames=2, cameras=1, rig="monocular", size=48, samples=1, num_lights=16)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    head = FakeHead(rings=16, segments=24)
    out = tmp_path_factory.mktemp("semantics") / "capture"
    film(CONFIG, out, subject=Subject(head, None, plain_appearance(head, 0, 32)))
    return out


@pytest.fixture
def capture(filmed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(filmed, tmp_path / "capture")


def fake_head() -> FakeHead:
    return FakeHead(rings=16, segments=24)


def test_groups_are_those_of_flare_with_lips_and_background() -> None:
    flare = {
        "skin": {1, 6, 7, 8, 10, 12, 13, 14},
        "eyes": {4, 5},
        "brows": {2, 3},
        "mouth": {11},
        "cloth": {15, 16},
        "hair": {9, 17},
    }
    groups = semantic_groups(torch.arange(19, dtype=torch.uint8))
    assert SEMANTIC_GROUPS[:6] == tuple(flare)
    for name, classes in flare.items():
        found = {i for i in range(19) if SEMANTIC_GROUPS[groups[i]] == name}
        if name == "skin":
            found |= {i for i in range(19) if SEMANTIC_GROUPS[groups[i]] == "lips"}
        # Hats are hair here, background there.
        assert found - {18} == classes
    assert SEMANTIC_GROUPS[groups[0]] == "background"
    assert SEMANTIC_GROUPS[groups[PARSING_CLASSES.index("hat")]] == "hair"
    assert is_group(groups, "lips").nonzero().flatten().tolist() == [12, 13]


def test_resizing_never_invents_a_label() -> None:
    labels = torch.zeros(12, 12, dtype=torch.uint8)
    labels[:, 6:] = 18
    for size in ((6, 6), (24, 24), (5, 7)):
        small = resize_label_map(labels, *size)
        assert small.shape == size
        assert set(small.unique().tolist()) == {0, 18}
    assert torch.equal(resize_label_map(resize_label_map(labels, 24, 24), 12, 12), labels)


def test_a_pixel_of_a_larger_map_keeps_its_place() -> None:
    labels = torch.zeros(8, 8, dtype=torch.uint8)
    labels[4:, 2:4] = 10
    half = resize_label_map(labels, 4, 4)
    assert half[2:, 1].tolist() == [10, 10]
    assert int((half > 0).sum()) == 2


def test_maps_of_one_grey_channel_in_any_form_are_read(tmp_path: Path) -> None:
    pixels = np.array([[0, 5], [17, 18]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    Image.fromarray(np.stack(3 * [pixels], axis=2)).save(tmp_path / "rgb.png")
    for name in ("grey.png", "rgb.png"):
        assert read_parsing(tmp_path / name).tolist() == pixels.tolist()


def test_what_is_no_label_map_is_refused_in_one_line(tmp_path: Path) -> None:
    write_image(tmp_path / "range.png", torch.full((1, 2, 2), 19, dtype=torch.uint8))
    write_image(tmp_path / "color.png", torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2))
    (tmp_path / "garbage.png").write_bytes(b"\x89PNG\r\n")
    Image.fromarray(np.full((2, 2), 3, dtype=np.uint16)).save(tmp_path / "deep.png")
    for name, message in (
        ("range.png", "labels must be 0 to 18, got 19"),
        ("color.png", "a label map must be grey, got 3 channels"),
        ("garbage.png", "not a readable PNG or JPEG"),
        ("deep.png", "8 bits"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            read_parsing(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"none\.png does not exist"):
        read_parsing(tmp_path / "none.png")


def test_the_studio_writes_what_its_faces_are(filmed: Path) -> None:
    sequence = read_sequence(filmed, head=fake_head())
    frame = load_frame(sequence, sequence.frames[0])
    assert frame.semantics is not None
    assert frame.mask is not None
    is_skin = is_group(frame.semantics, "skin")
    assert torch.equal(is_skin, ~is_group(frame.semantics, "background"))
    assert bool((frame.mask[is_skin] > 0.5).all())
    assert float(is_skin.sum()) == pytest.approx(float(frame.mask.sum()), rel=0.02)


def test_the_procedural_head_shows_every_part_that_it_has(tmp_path: Path) -> None:
    film(replace(CONFIG, size=96, frames=1, test_share=0.0), tmp_path / "capture")
    sequence = read_sequence(tmp_path / "capture")
    parsing = load_parsing(sequence.frames[0])
    assert parsing is not None
    seen = {PARSING_CLASSES[i] for i in parsing.unique().tolist()}
    assert {"skin", "nose", "l_eye", "r_eye", "u_lip", "l_lip", "hair", "neck", "cloth"} <= seen
    # The subject's left eye is on the right of a picture from the front.
    columns = {name: (parsing == PARSING_CLASSES.index(name)).nonzero()[:, 1].float().mean()
               for name in ("l_eye", "r_eye")}  # fmt: skip
    assert columns["l_eye"] > columns["r_eye"]


def test_overlapping_regions_of_a_head_do_not_hide_its_eyes_and_lips() -> None:
    """FLAME also names the surroundings of an eye, with the eye in them."""
    head = fake_head()
    x, y, z = head.neutral.unbind(dim=1)
    eye = (x > 0.02) & (y > 0.02) & (z > 0.05)
    lips = (y < -0.03) & (z > 0.03)
    regions = {**head.topology.regions, "lips": lips, "left_eyeball": eye}
    regions |= {"eyeballs": eye, "left_eye": (x > 0) & (y > 0), "face": z > 0}
    head.topology = replace(head.topology, regions=regions)
    classes = parsing_classes(head, plain_appearance(head, 0, 32))
    found = {
        name: classes["face_labels"] == PARSING_CLASSES.index(name) - 1
        for name in ("l_eye", "u_lip", "l_lip", "skin")
    }
    assert torch.equal(found["l_eye"], head.topology.face_region("left_eyeball"))
    assert torch.equal(found["u_lip"] | found["l_lip"], head.topology.face_region("lips"))
    height = head.neutral[head.topology.faces].mean(dim=1)[:, 1]
    assert float(height[found["u_lip"]].min()) > float(height[found["l_lip"]].max())
    assert bool(torch.stack(list(found.values())).any(dim=0).all())


def test_parts_of_a_scanned_face_lie_where_they_belong(data_dir: Path, tmp_path: Path) -> None:
    head_file = data_dir / "ict_face/ict_face_model.npz"
    config = replace(
        CONFIG, head="ict", head_file=head_file, track="neutral", size=128, frames=1, test_share=0.0
    )
    film(config, tmp_path / "capture")
    parsing = load_parsing(read_sequence(tmp_path / "capture", head_file=head_file).frames[0])
    assert parsing is not None
    where = {}
    for index, name in enumerate(PARSING_CLASSES):
        places = (parsing == index).nonzero().float()
        if len(places) > 0:
            where[name] = places.mean(dim=0).tolist()
    down = ["hair", "l_brow", "l_eye", "nose", "u_lip", "l_lip", "neck"]
    rows = [where[name][0] for name in down]
    assert rows == sorted(rows)
    across = ["r_ear", "r_eye", "nose", "l_eye", "l_ear"]
    columns = [where[name][1] for name in across]
    assert columns == sorted(columns)
    assert abs(where["nose"][1] - 64) < 1.5
    lips = is_group(semantic_groups(parsing), "lips")
    assert 0.005 < float(lips.sum() / (parsing > 0).sum()) < 0.03


def test_maps_follow_the_resolution_of_the_reader(capture: Path) -> None:
    for path in (capture / "semantic").iterdir():
        big = resize_label_map(read_parsing(path), 96, 96)
        write_image(path, big[None])
    sequence = read_sequence(capture, head=fake_head(), resolution=2)
    frame = load_frame(sequence, sequence.frames[0])
    assert frame.semantics is not None
    assert frame.semantics.shape == (1, 1, 24, 24)
    assert set(frame.semantics.unique().tolist()) == {0, SEMANTIC_GROUPS.index("background")}


def test_a_map_of_another_shape_is_an_error_of_the_check(capture: Path) -> None:
    path = capture / "semantic/00001_00.png"
    write_image(path, torch.ones(1, 48, 40, dtype=torch.uint8))
    (error,) = check_capture(capture, head=fake_head()).errors
    assert error == f"{path}: must have the aspect ratio of 48 x 48, got 40 x 48"


def test_maps_that_lie_beside_their_pictures_are_found_and_counted(capture: Path) -> None:
    for path in capture.glob("transforms*.json"):
        path.write_text(path.read_text().replace('"parsing_path"', '"ignored_path"'))
    report = check_capture(capture, head=fake_head())
    assert report.errors == ()
    assert report.facts["semantics"] == "skin 100.0%"
    assert "semantics" in report.facts["beside every image"]


def test_the_check_notices_maps_of_another_capture(capture: Path) -> None:
    path = capture / "semantic/00000_00.png"
    write_image(path, read_parsing(path).roll(20, dims=1)[None])
    warnings = check_capture(capture, head=fake_head()).warnings
    assert any("of the labelled face falls onto the mask" in warning for warning in warnings)


def test_below_a_cut_nothing_is_labelled(capture: Path) -> None:
    sequence = read_sequence(capture, head=fake_head(), cut_height=0.0)
    frame = load_frame(sequence, sequence.frames[0])
    whole = read_sequence(capture, head=fake_head())
    uncut = load_frame(whole, whole.frames[0])
    assert frame.semantics is not None
    assert frame.mask is not None
    assert uncut.semantics is not None
    assert bool(is_group(frame.semantics, "background")[frame.mask == 0].all())
    share = is_group(frame.semantics, "skin").sum() / is_group(uncut.semantics, "skin").sum()
    assert 0.35 < float(share) < 0.65


def test_sides_change_places_in_flipped_pictures() -> None:
    mirrored = mirrored_classes()
    assert torch.equal(mirrored[mirrored.long()], torch.arange(len(PARSING_CLASSES)).byte())
    changed = {
        (name, PARSING_CLASSES[int(other)])
        for name, other in zip(PARSING_CLASSES, mirrored, strict=True)
        if PARSING_CLASSES[int(other)] != name
    }
    pairs = [("l_brow", "r_brow"), ("l_eye", "r_eye"), ("l_ear", "r_ear")]
    assert changed == {*pairs, *((b, a) for a, b in pairs)}


def test_classes_have_shares_and_colors_of_their_own() -> None:
    parsing = torch.arange(len(PARSING_CLASSES), dtype=torch.uint8)[None, None]
    shares = class_shares(parsing, 20)
    assert shares.shape == (1, 20, 1, len(PARSING_CLASSES))
    assert torch.equal(shares.argmax(dim=1), parsing.long())
    assert torch.equal(shares.sum(dim=1), torch.ones(1, 1, len(PARSING_CLASSES)))
    colors = parsing_colors(shares)[0, :, 0].T
    assert torch.equal(colors[0], torch.zeros(3))
    gaps = torch.cdist(colors, colors) + torch.eye(len(colors))
    assert float(gaps.min()) > 0.1
    half = parsing_colors(0.5 * shares)[0, :, 0].T
    assert torch.allclose(half, 0.5 * colors)
