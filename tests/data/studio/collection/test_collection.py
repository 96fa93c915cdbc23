"""Collections: every picture is determined by its number, and its labels are true."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vultus.core.image_io import image_size, read_image_bytes, read_mask, read_rgba
from vultus.data.camera_labels import label_angles, labels_to_camera
from vultus.data.semantics import PARSING_CLASSES
from vultus.data.studio.collection import collect as collecting
from vultus.data.studio.collection.collect import collect, plan_collection
from vultus.data.studio.collection.config import CollectionConfig
from vultus.data.studio.collection.folder import CollectionFolder, PersonPictures
from vultus.data.studio.collection.people import draw_person
from vultus.data.studio.collection.shots import draw_shots, place_heads
from vultus.geometry.cameras import project_points

SMALL = CollectionConfig(size=32, views=2, samples=1, num_lights=16)


def files_of(root: Path) -> dict[str, bytes]:
    kinds = ("img", "seg", "parts", "people")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for kind in kinds
        for path in sorted((root / kind).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("five") / "set"
    assert collect(SMALL, root, 5, threads=1) == 5
    return root


def test_pictures_depend_on_their_number_alone(five: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    # Three pictures first, then the rest by two parts in the wrong order, one in another process.
    assert collect(SMALL, root, 3, threads=2) == 3
    assert len(json.loads((root / "img/dataset.json").read_text())["labels"]) == 3
    assert collect(SMALL, root, 5, part=(1, 2), processes=1) == 2
    # A set with label files is complete.
    assert not (root / "img/dataset.json").exists()
    assert collect(SMALL, root, 5, part=(0, 2), threads=2) == 1
    assert files_of(root) == files_of(five)
    assert collect(SMALL, root, 5) == 0


def test_a_stopped_collection_continues(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    write = CollectionFolder.write_person

    def write_until_the_second(self: CollectionFolder, person: PersonPictures) -> int:
        if person.number == 1:
            raise KeyboardInterrupt
        return write(self, person)

    monkeypatch.setattr(CollectionFolder, "write_person", write_until_the_second)
    with pytest.raises(KeyboardInterrupt):
        collect(SMALL, root, 5, threads=1)
    assert not (root / "img/dataset.json").exists()
    monkeypatch.undo()
    # A picture without its record is taken again, as is a record without its picture.
    (root / "seg/00000/img00000000.png").unlink()
    assert plan_collection(SMALL, root, 5).missing[:2] == (0, 1)
    collect(SMALL, root, 5, threads=1)
    assert files_of(root) == files_of(five)


def test_people_and_seeds_differ(five: Path) -> None:
    pictures = [read_rgba(path) for path in sorted((five / "img").rglob("*.png"))]
    assert len({picture.numpy().tobytes() for picture in pictures}) == 5
    facts = [json.loads(path.read_text()) for path in sorted((five / "people").rglob("*.json"))]
    assert len({json.dumps(record["look"]) for record in facts}) == len(facts) == 3
    other = draw_person(replace(SMALL, seed=1), 0)
    assert other.facts["identity"] != facts[0]["identity"]


def labels_of(root: Path, file: str = "img/dataset.json", key: str = "labels") -> Tensor:
    table = json.loads((root / file).read_text())[key]
    assert [name for name, _ in table] == sorted(
        path.relative_to(root / "img").as_posix() for path in (root / "img").rglob("*.png")
    )
    return torch.tensor([row for _, row in table])


def test_labels_put_the_head_where_the_mask_is(five: Path) -> None:
    config = replace(SMALL, views=2)
    labels = labels_of(five)
    assert labels.shape == (5, 25)
    for number in range(2):
        subject = draw_person(config, number).subject
        pose, _ = draw_shots(config, number, subject.head)
        world = place_heads(subject, pose) / config.meters_per_unit
        rows = slice(2 * number, 2 * number + 2)
        pixels, depth = project_points(world, labels_to_camera(labels[rows], config.size))
        assert bool((depth > 0).all())
        for view in range(2):
            mask = read_mask(five / f"seg/00000/img{2 * number + view:08d}.png")[0] > 0
            inside = ((pixels[view] > 0) & (pixels[view] < config.size)).all(dim=1)
            columns, rows_ = pixels[view, inside].floor().long().unbind(dim=1)
            grown = torch.nn.functional.max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0
            assert float(grown[rows_, columns].float().mean()) > 0.999
            seen = mask.nonzero()
            assert abs(int(seen[:, 0].min()) - float(pixels[view, inside, 1].min())) < 1.5


def test_cameras_stand_all_around() -> None:
    config = replace(SMALL, views=400, num_lights=16)
    head = draw_person(config, 0).subject.head
    _, shots = draw_shots(config, 0, head)
    labels = torch.stack([shot.label for shot in shots])
    centers = labels[:, :16].unflatten(1, (4, 4))[:, :3, 3]
    assert torch.allclose(centers.norm(dim=1), torch.full((400,), 2.7), atol=1e-5)
    counts, _ = np.histogram(label_angles(labels)[:, 0].numpy(), 8, (-math.pi, math.pi))
    assert counts.min() > 25
    height = centers[:, 1] / 2.7
    assert abs(float(height.mean()) - 0.05) < 0.04
    assert 0.15 < float(height.std()) < 0.25


def test_the_face_looks_along_z_whatever_the_neck_does() -> None:
    config = replace(SMALL, views=6, num_lights=16)
    subject = draw_person(config, 0).subject
    pose, _ = draw_shots(config, 0, subject.head)
    placed = place_heads(subject, pose.replace(expression_coeffs=None, eye_pose=None))
    regions = subject.head.topology.regions
    eyes = torch.stack([placed[:, regions[f"{s}_eyeball"]].mean(dim=1) for s in ("left", "right")])
    assert float((eyes - eyes[:, :1]).abs().max()) < 1e-5
    assert float(eyes[0, 0, 0]) > 0.02
    middle = eyes.mean(dim=0)[0]
    assert abs(float(middle[1]) - 0.007) < 1e-3
    neck = placed[:, regions["garment"]].mean(dim=1)
    assert float((neck - neck[:1]).norm(dim=1).max()) > 1e-3


def test_semantic_maps_know_left_from_right() -> None:
    config = replace(SMALL, size=64, views=1, yaw_range=0.0, height_std=0.0)
    sitting = collecting._prepare(config, (3, 1))
    (_, frame), *_ = collecting._shoot(config, iter([sitting]), 1, torch.device("cpu"))
    column = torch.arange(64.0).expand(64, 64)

    def middle(name: str) -> float:
        here = frame.labels == PARSING_CLASSES.index(name)
        assert bool(here.any()), name
        return float(column[here].mean())

    assert middle("l_brow") > middle("nose") > middle("r_brow")
    assert middle("l_eye") > middle("r_eye")
    assert {"hair", "skin", "cloth", "neck", "u_lip", "l_lip"} <= {
        PARSING_CLASSES[i] for i in frame.labels.unique().tolist()
    }
    # A pixel can be covered without its centre.
    assert bool((frame.alpha[0][frame.labels > 0] > 0).all())


def test_backdrops_fill_what_the_mask_leaves_open(tmp_path: Path) -> None:
    config = replace(SMALL, views=1)
    pictures = {}
    for backdrop in ("painted", "transparent", "white", "black"):
        root = tmp_path / backdrop
        collect(replace(config, backdrop=backdrop), root, 1, threads=1)
        pictures[backdrop] = read_rgba(root / "img/00000/img00000000.png")
        alpha = read_mask(root / "seg/00000/img00000000.png")
        is_empty, is_full = alpha[0] == 0, alpha[0] == 1
        assert bool(is_empty.any())
        assert bool(is_full.any())
    clear = pictures["transparent"]
    assert bool((clear[3][is_empty] == 0).all())
    assert bool((clear[3][is_full] == 1).all())
    assert bool((pictures["white"][:3, is_empty] == 1).all())
    assert bool((pictures["black"][:3, is_empty] == 0).all())
    assert float(pictures["painted"][:3, is_empty].std()) > 0
    for picture in pictures.values():
        assert torch.equal(picture[:3, is_full], clear[:3, is_full])


def test_files_have_the_formats_that_readers_expect(five: Path) -> None:
    name = "00000/img00000004.png"
    assert image_size(five / "img" / name) == (32, 32)
    rgb = read_image_bytes(five / "img" / name)
    assert rgb.float().std() > 1
    assert labels_of(five, key="sh").shape == (5, 9)
    assert labels_of(five, "img/dataset_rgb_sh_2.json", "sh").shape == (5, 27)
    assert torch.equal(labels_of(five, "seg/dataset.json"), labels_of(five))
    card = json.loads((five / "collection.json").read_text())
    assert card["config"]["size"] == 32
    assert card["versions"]["vultus"]
    assert image_size(five / "sheet.png") == (160, 32)


def test_ict_heads_are_collected_too(data_dir: Path, tmp_path: Path) -> None:
    file = data_dir / "ict_face/ict_face_light.npz"
    config = replace(SMALL, head="mixed", head_file=file, ict_share=0.5, views=1)
    collect(config, tmp_path / "set", 4, threads=1)
    records = sorted((tmp_path / "set/people").rglob("*.json"))
    heads = [json.loads(path.read_text())["head"] for path in records]
    assert set(heads) == {"ict", "procedural"}
    for number in range(4):
        mask = read_mask(tmp_path / f"set/seg/00000/img{number:08d}.png")
        assert 0.2 < float(mask.mean()) < 0.8


def test_wrong_settings_are_refused(five: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size must be a power of two from 16 to 1024, got 48"):
        CollectionConfig(size=48)
    with pytest.raises(ValueError, match="views must be positive, got 0"):
        CollectionConfig(views=0)
    with pytest.raises(ValueError, match="head_file is for ICT heads"):
        CollectionConfig(head_file=tmp_path / "x.npz")
    with pytest.raises(ValueError, match="count must be positive, got 0"):
        plan_collection(SMALL, tmp_path / "new", 0)
    with pytest.raises(ValueError, match="part must be I and N with 0 <= I < N, got 2 and 2"):
        plan_collection(SMALL, tmp_path / "new", 4, (2, 2))
    with pytest.raises(ValueError, match=r"another collection: config\.seed is 0 there, 7"):
        plan_collection(replace(SMALL, seed=7), five, 5)
    with pytest.raises(ValueError, match="holds more than 4 pictures"):
        plan_collection(SMALL, five, 4)
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be an empty or new folder"):
        plan_collection(SMALL, tmp_path, 5)


@pytest.mark.gpu
def test_a_gpu_collects_the_same_people(tmp_path: Path) -> None:
    roots = {}
    for device in ("cpu", "cuda"):
        roots[device] = tmp_path / device
        collect(replace(SMALL, size=64), roots[device], 4, processes=1, device=device)
    for number in range(4):
        name = f"00000/img{number:08d}.png"
        on_cpu, on_gpu = (read_image_bytes(roots[d] / "img" / name).int() for d in ("cpu", "cuda"))
        assert int((on_cpu - on_gpu).abs().max()) <= 2
        assert ((on_cpu - on_gpu) != 0).float().mean() < 1e-3
    assert torch.equal(labels_of(roots["cpu"]), labels_of(roots["cuda"]))
