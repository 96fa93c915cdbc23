"""The layout of NeRFBlendShape: a synthetic subject of twelve frames, and real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vultus.core.image_io import write_image
from vultus.data.check import check_capture
from vultus.data.check_sheet import draw_check_sheet
from vultus.data.frame_store import FrameStore
from vultus.data.frames import composite_truncated
from vultus.data.head_video import PARSING_COLORS, HeadVideoFolder, VideoTrack, color_parts
from vultus.data.readers import detect_format, load_frame, read_sequence
from vultus.data.readers.numbered_files import numbered_files
from vultus.geometry.camera_paths import orbit
from vultus.geometry.cameras import Camera, camera_centers, project_points
from vultus.heads.expression_track import ExpressionTrack

WIDTH, HEIGHT = 20, 16
NUM_FRAMES, NUM_EXPRESSIONS = 12, 7
IMAGE_IDS = (5, 6, 7, 9, 8, 10, 11, 12, 13, 14, 15, 16)
"""File order is not the order of numbers, and is what counts."""
INTRINSICS = torch.tensor([[30.0, 0.0, 9.0], [0.0, 31.0, 8.5], [0.0, 0.0, 1.0]])
SHORT = {"held_out": 3}


def cameras(count: int = NUM_FRAMES) -> Camera:
    return orbit(torch.zeros(3), 0.35, count, 0.8, INTRINSICS, WIDTH, HEIGHT)


def expressions(count: int = NUM_FRAMES) -> torch.Tensor:
    return torch.randn(count, NUM_EXPRESSIONS, generator=torch.Generator().manual_seed(3))


def soft_mask() -> torch.Tensor:
    """Zero in the left quarter, one in the right half, soft between."""
    ramp = ((torch.arange(WIDTH) - 5) / 5).clamp(0, 1)
    return ramp.expand(1, HEIGHT, WIDTH).clone()


def parsing() -> torch.Tensor:
    """Background, head in the upper right, neck and torso below."""
    labels = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    labels[:8, 10:], labels[8:12, 10:], labels[12:, 10:] = 1, 2, 3
    return color_parts(labels, ["background", "head", "neck", "torso"])


@pytest.fixture
def video(tmp_path: Path) -> Path:
    folder = HeadVideoFolder(tmp_path / "subject")
    folder.make()
    for place, image_id in enumerate(IMAGE_IDS):
        grey = torch.full((3, HEIGHT, WIDTH), 0.02 * place + 0.1)
        folder.write_frame(image_id, grey, soft_mask(), parsing())
    folder.write_track(VideoTrack(IMAGE_IDS, cameras(), expressions()))
    return folder.root


def edit(root: Path, change: Callable[[Any], None]) -> None:
    path = root / "transforms.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_frames_come_in_the_order_of_the_file(video: Path) -> None:
    assert detect_format(video) == "nerf_blendshape"
    sequence = read_sequence(video, **SHORT)
    assert [r.image_path.stem for r in sequence.frames] == [str(i) for i in IMAGE_IDS]
    assert [r.mask_path.stem for r in sequence.frames] == [str(i + 1) for i in IMAGE_IDS]
    assert [r.timestep for r in sequence.frames] == list(range(NUM_FRAMES))
    assert isinstance(sequence.head, ExpressionTrack)
    torch.testing.assert_close(sequence.pose.expression_coeffs, expressions())
    for record, camera in zip(sequence.frames, range(NUM_FRAMES), strict=True):
        expected = cameras()[camera]
        torch.testing.assert_close(
            record.camera.world_to_camera, expected.world_to_camera, atol=1e-6, rtol=0
        )
        assert torch.equal(record.camera.intrinsics, expected.intrinsics)


def test_cameras_look_at_the_head_through_their_principal_point(video: Path) -> None:
    record = read_sequence(video, **SHORT).frames[3]
    pixel, depth = project_points(torch.zeros(1, 1, 3), record.camera)
    torch.testing.assert_close(pixel[0, 0], torch.tensor([9.0, 8.5]), atol=1e-4, rtol=0)
    torch.testing.assert_close(depth, torch.tensor([[0.35]]))
    record = read_sequence(video, official_intrinsics="true", **SHORT).frames[3]
    assert record.camera.intrinsics[0, :2, 2].tolist() == [10.0, 8.0]
    assert record.camera.intrinsics[0, 1, 1] == 31.0


def test_a_mask_offset_of_zero_is_found_and_can_be_forced(video: Path) -> None:
    masks = video / "mask"
    for image_id in sorted(IMAGE_IDS):
        (masks / f"{image_id + 1}.png").rename(masks / f"{image_id}.png")
    records = read_sequence(video, **SHORT).frames
    assert [r.mask_path.stem for r in records] == [str(i) for i in IMAGE_IDS]
    with pytest.raises(FileNotFoundError, match=r"img_id: .*mask has no file of the number 17"):
        read_sequence(video, mask_id_offset="1", **SHORT)


def test_a_mask_before_the_first_does_not_hide_the_offset(video: Path) -> None:
    """Numbers of images may have masks of their own and still be one off: the last one tells."""
    write_image(video / "mask" / "5.png", soft_mask())
    records = read_sequence(video, **SHORT).frames
    assert records[0].mask_path.stem == "6"


def test_names_with_leading_zeros_are_numbers(video: Path) -> None:
    for path in (video / "ori_imgs").iterdir():
        path.rename(path.with_name(f"{int(path.stem):04d}.jpg"))
    assert read_sequence(video, **SHORT).frames[0].image_path.name == "0005.jpg"
    (video / "ori_imgs" / "5.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"0005.jpg and 5.png have one number"):
        numbered_files(video / "ori_imgs")


def test_pictures_are_cut_out_over_white(video: Path) -> None:
    frame = load_frame(*_first(video))
    matte = soft_mask()
    assert frame.mask is not None
    torch.testing.assert_close(frame.mask[0], matte, atol=0.5 / 255, rtol=0)
    expected = 0.1 * matte + (1 - matte)
    torch.testing.assert_close(frame.rgb[0, :1], expected, atol=2 / 255, rtol=0)


def _first(root: Path, **options: str) -> Any:
    sequence = read_sequence(root, **SHORT, **options)
    return sequence, sequence.frames[0]


def test_head_only_leaves_out_neck_and_torso(video: Path) -> None:
    frame = load_frame(*_first(video, head_only="yes"))
    expected = torch.zeros(1, 1, HEIGHT, WIDTH)
    expected[..., :8, 10:] = 1
    assert torch.equal(frame.mask, expected)
    assert bool((frame.rgb[0][:, 8:] == 1).all())
    assert float(frame.rgb[0][:, :8, 10:].max()) < 0.2


def test_a_known_background_is_not_composited_twice(video: Path) -> None:
    edit(video, lambda data: data.update(background=[1.0, 1.0, 1.0]))
    frame = load_frame(*_first(video))
    assert float(frame.rgb.max()) < 0.2


def test_bytes_are_composited_as_published(golden_dir: Path) -> None:
    golden = load_file(golden_dir / "gaussianhead/lr_camera_loss.safetensors")
    rgb, mask = golden["rgb_u8"].permute(2, 0, 1), golden["mask_u8"][None]
    composited = composite_truncated(rgb, mask, (1.0, 1.0, 1.0))
    assert torch.equal(composited, golden["composited_u8"].permute(2, 0, 1))


def test_official_compositing_truncates(video: Path) -> None:
    ours = (255 * load_frame(*_first(video)).rgb).double()
    theirs = (255 * load_frame(*_first(video, official_compositing="true")).rgb).double()
    assert torch.equal(theirs, theirs.round())
    assert bool(((ours - theirs) > -1e-3).all())
    assert float((ours - theirs).max()) > 0.5


def test_images_of_another_size_keep_the_field_of_view(video: Path) -> None:
    edit(video, lambda data: data.update(w=2 * WIDTH, h=3 * HEIGHT, fx=60.0, fy=93.0))
    camera = read_sequence(video, **SHORT).frames[0].camera
    assert (camera.width, camera.height) == (WIDTH, HEIGHT)
    torch.testing.assert_close(camera.intrinsics[0].diagonal(), torch.tensor([30.0, 31.0, 1.0]))


def test_resolution_divides(video: Path) -> None:
    sequence, record = _first(video, resolution="2")
    assert (record.camera.width, record.camera.height) == (10, 8)
    assert load_frame(sequence, record).rgb.shape == (1, 3, 8, 10)


def test_the_training_store_takes_every_frame(video: Path) -> None:
    store = FrameStore(read_sequence(video, **SHORT), "train")
    assert len(store) == NUM_FRAMES - 3
    assert store.pixels.shape[1] == 4


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1060 frames whose files are empty: splits look at names alone."""
    folder = HeadVideoFolder(tmp_path_factory.mktemp("long") / "subject")
    folder.make()
    count = 1060
    write_image(folder.image_path(0), torch.zeros(3, HEIGHT, WIDTH))
    (folder.mask_path(0)).touch()
    for image_id in range(1, count):
        folder.image_path(image_id).touch()
        folder.mask_path(image_id).touch()
    folder.write_track(VideoTrack(tuple(range(count)), cameras(count), expressions(count)))
    return folder.root


@pytest.mark.parametrize(
    ("options", "num_train", "test"),
    [
        ({}, 60, range(1010, 1060)),
        ({"evaluated": "1000"}, 60, range(60, 1060)),
        ({"held_out": "100"}, 960, range(960, 1060)),
        ({"held_out": "100", "evaluated": "20"}, 960, range(1040, 1060)),
        ({"held_out": "0"}, 1060, range(0)),
        ({"hold_out_share": "0.25"}, 795, range(795, 1060)),
        ({"debug_subset": "true"}, 50, range(1010, 1060)),
        ({"debug_subset": "true", "held_out": "10"}, 50, range(1050, 1060)),
    ],
)
def test_splits_are_the_published_ones_unless_chosen(
    long_video: Path, options: dict[str, str], num_train: int, test: range
) -> None:
    splits = read_sequence(long_video, **options).splits
    assert splits["train"].tolist() == list(range(num_train))
    assert splits["test"].tolist() == list(test)
    assert len(splits["val"]) == 0


def test_the_file_may_say_what_is_held_out(video: Path) -> None:
    edit(video, lambda data: data.update(held_out_frames=4))
    splits = read_sequence(video).splits
    assert len(splits["train"]) == 8
    assert splits["test"].tolist() == [8, 9, 10, 11]
    assert len(read_sequence(video, held_out="2").splits["train"]) == 10


def test_a_short_video_is_told_how_to_split(video: Path) -> None:
    with pytest.raises(ValueError, match=r"12 frames leave none .* option held_out or hold_out"):
        read_sequence(video)


def _drop(key: str) -> Callable[[Any], None]:
    return lambda data: data.pop(key)


def _frame(index: int, **values: Any) -> Callable[[Any], None]:
    return lambda data: data["frames"][index].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("fx"), r"transforms.json: fx is missing"),
        (_drop("cx"), r"transforms.json: cx is missing"),
        (lambda data: data.update(fy=-3.0), r"fy must be positive, got -3.0"),
        (lambda data: data.update(h="tall"), r"h must be a finite number, got 'tall'"),
        (lambda data: data.update(frames=[]), r"frames must not be empty"),
        (_frame(2, img_id=99), r"frames\[2\].img_id: .*ori_imgs has no file of the number 99"),
        (_frame(2, img_id="a"), r"frames\[2\].img_id must be a whole number"),
        (_frame(4, exp_ori=[1.0]), r"frames\[4\].exp_ori must have 7 numbers .* got 1"),
        (_frame(4, exp_ori=[None] * 7), r"frames\[4\].exp_ori must be a list of finite numbers"),
        (_frame(4, exp_ori=None), r"frames\[4\].exp_ori is missing; see vultus data convert"),
        (_frame(1, transform_matrix=[[1.0]]), r"frames\[1\].transform_matrix must be a 4x4"),
        (lambda data: data.update(held_out_frames=-1), r"held_out_frames must be a whole number"),
        (lambda data: data.update(background="sky"), r"background must be three numbers"),
        (lambda data: data.update(expression_names=["a"]), r"expression_names must be 7 texts"),
    ],
)
def test_wrong_fields_are_named(video: Path, change: Callable[[Any], None], message: str) -> None:
    edit(video, change)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_sequence(video, "nerf_blendshape", **SHORT)


def test_missing_folders_are_named(video: Path) -> None:
    (video / "mask").rename(video / "mattes")
    with pytest.raises(FileNotFoundError, match=r"mask: no such folder"):
        read_sequence(video, **SHORT)
    (video / "parsing").rename(video / "parts")
    with pytest.raises(FileNotFoundError, match=r"parsing: no such folder"):
        read_sequence(video, head_only="true", **SHORT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": "2", "hold_out_share": "0.1"}, "exclude each other"),
        ({"held_out": "-2"}, "held_out must not be negative"),
        ({"hold_out_share": "1"}, r"hold_out_share must be in \[0, 1\)"),
        ({"evaluated": "0"}, "evaluated must be positive"),
        ({"cut_height": "0.1"}, "option cut_height must be left out"),
        ({"head_file": "ict.npz"}, "option head_file must be left out"),
    ],
)
def test_options_that_contradict_are_refused(
    video: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_sequence(video, **options)


def test_the_check_accepts_a_video_and_draws_it(video: Path, tmp_path: Path) -> None:
    report = check_capture(video, **SHORT)
    assert report.errors == ()
    assert report.warnings == ()
    assert report.facts["head"] == "expression 7, 0 vertices"
    draw_check_sheet(report, tmp_path / "sheet.png")
    write_image(video / "mask" / "6.png", torch.zeros(1, HEIGHT, WIDTH))
    assert "6.png: mask is empty" in check_capture(video, **SHORT).errors[0]


def test_cameras_of_other_axes_are_noticed(video: Path) -> None:
    def to_opencv(data: Any) -> None:
        for frame in data["frames"]:
            for row in frame["transform_matrix"]:
                row[1], row[2] = -row[1], -row[2]

    edit(video, to_opencv)
    (warning,) = check_capture(video, **SHORT).warnings
    assert "on the mask in only 0 of 11 frames; transform_matrix must be camera to" in warning


def test_ad_nerf_manifests_are_told_to_be_converted(video: Path) -> None:
    edit(video, lambda data: [frame.pop("exp_ori") for frame in data["frames"]])
    with pytest.raises(ValueError, match=r"no exp_ori; vultus data convert .* --from adnerf"):
        read_sequence(video)


def test_real_poses_look_at_the_head(data_dir: Path, tmp_path: Path) -> None:
    """AD-NeRF's poses of a real video: every camera sees the head's middle inside the face box."""
    source = json.loads((data_dir / "adnerf_poses/transforms.json").read_text())
    root = tmp_path / "obama"
    (root / "ori_imgs").mkdir(parents=True)
    (root / "mask").mkdir()
    for frame in source["frames"]:
        frame["exp_ori"] = [0.0] * 79
        write_image(root / "ori_imgs" / f"{frame['img_id']}.jpg", torch.zeros(3, 450, 450))
        (root / "mask" / f"{frame['img_id'] + 1}.png").touch()
    focal = source.pop("focal_len")
    (root / "transforms.json").write_text(
        json.dumps({**source, "w": 450, "h": 450, "fx": focal, "fy": focal})
    )
    sequence = read_sequence(root, held_out="20")
    for record, frame in zip(sequence.frames, source["frames"], strict=True):
        left, top, width, height = frame["face_rect"]
        pixel, depth = project_points(torch.zeros(1, 1, 3), record.camera)
        assert left < float(pixel[0, 0, 0]) < left + width
        assert top < float(pixel[0, 0, 1]) < top + height
        assert float(depth) > 0
    distances = torch.cat([camera_centers(r.camera) for r in sequence.frames]).norm(dim=1)
    assert 0.6 < float(distances.min()) < float(distances.max()) < 1.0


def test_the_colours_of_the_parts_are_those_of_ad_nerf() -> None:
    assert PARSING_COLORS["head"] == (0, 0, 255)
    assert parsing()[:, 0, 15].tolist() == [0, 0, 255]
    assert parsing()[:, 15, 15].tolist() == [255, 0, 0]
