"""Model folders of the published program, as its writer lays them out."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from vultus.gaussians.surfels import Surfels
from vultus.heads.base import HeadPose
from vultus.methods.surfhead.official import OfficialAvatar, read_official, write_official
from vultus.methods.surfhead.official.arguments import (
    format_arguments,
    parse_arguments,
    read_arguments,
)
from vultus.methods.surfhead.official.specular_weights import (
    read_specular,
    specular_to_official,
    write_specular,
)
from vultus.methods.surfhead.specular import LobeType, SpecularNetwork

NUM, FRAMES, VERTICES = 9, 3, 5143


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def track(version: Literal["2020", "2023"] = "2023") -> HeadPose:
    identity, expression = {"2020": (100, 50), "2023": (300, 100)}[version]
    return HeadPose(
        identity_coeffs=random(1, identity),
        expression_coeffs=random(FRAMES, expression, seed=1),
        global_rotation=random(FRAMES, 3, seed=2),
        neck_pose=random(FRAMES, 3, seed=3),
        jaw_pose=random(FRAMES, 3, seed=4),
        eye_pose=random(FRAMES, 6, seed=5),
        translation=random(FRAMES, 3, seed=6),
        static_offset=random(1, VERTICES, 3, seed=7),
    )


def surfels(rig: str) -> Surfels:
    return Surfels(
        local_means=random(NUM, 3),
        log_scales=random(NUM, 2, seed=1),
        quats=random(NUM, 4, seed=2),
        opacity_logits=random(NUM, seed=3),
        sh_dc=random(NUM, 1, 3, seed=4),
        sh_rest=random(NUM, 15, 3, seed=5),
        face_index=torch.tensor([0, 10143, 5, 5, 7, 9975, 1, 2, 3]),
        blend_weight_logits=random(NUM, 4, seed=6) if rig == "jbs" else None,
        specular_features=random(NUM, 24, seed=7),
    )


def avatar(rig: Literal["similarity", "jacobian", "jbs"] = "jbs", **changes: Any) -> OfficialAvatar:
    network = SpecularNetwork("lasg", 24, torch.Generator().manual_seed(0))
    base = OfficialAvatar(surfels(rig), track(), rig, "sqrt_area", 300_000, network)
    return replace(base, **changes)


def assert_same(found: OfficialAvatar, given: OfficialAvatar) -> None:
    for name, mine in found.surfels.tensors().items():
        assert torch.equal(mine, given.surfels.tensors()[name]), name
    for name, mine in found.track.tensors().items():
        assert torch.equal(mine, given.track.tensors()[name]), name
    assert found.surfels.tensors().keys() == given.surfels.tensors().keys()
    assert found.track.tensors().keys() == given.track.tensors().keys()
    names = ("rig", "third_edge", "iteration", "shiny_surfels", "rigid_eyeballs")
    for name in (*names, "white_background"):
        assert getattr(found, name) == getattr(given, name), name
    assert (found.specular is None) == (given.specular is None)
    if found.specular is not None and given.specular is not None:
        assert found.specular.lobe_type == given.specular.lobe_type
        state = given.specular.state_dict()
        assert all(torch.equal(v, state[n]) for n, v in found.specular.state_dict().items())


@pytest.mark.parametrize("rig", ["similarity", "jacobian", "jbs"])
@pytest.mark.parametrize("lobes", [None, "sg", "asg", "lasg"])
def test_a_written_model_comes_back_bit_for_bit(
    tmp_path: Path, rig: Literal["similarity", "jacobian", "jbs"], lobes: LobeType | None
) -> None:
    network = None if lobes is None else SpecularNetwork(lobes)
    given = avatar(
        rig,
        specular=network,
        third_edge="unit",
        rigid_eyeballs=rig == "jbs",
        shiny_surfels="all" if lobes == "asg" else "eyeballs",
        white_background=rig != "jacobian",
    )
    write_official(tmp_path / "model", given)
    assert_same(read_official(tmp_path / "model"), given)


def test_what_was_read_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    write_official(tmp_path / "model", avatar())
    first = {p: p.read_bytes() for p in sorted((tmp_path / "model").rglob("point_cloud.ply"))}
    write_official(tmp_path / "model", read_official(tmp_path / "model"))
    assert all(path.read_bytes() == data for path, data in first.items())


def test_flame_2020_tracks_are_recognised(tmp_path: Path) -> None:
    write_official(tmp_path / "model", avatar(track=track("2020")))
    assert read_official(tmp_path / "model").flame_version == "2020"


def test_the_last_iteration_is_read_unless_another_is_asked_for(tmp_path: Path) -> None:
    write_official(tmp_path, avatar(iteration=60_000))
    write_official(
        tmp_path, avatar(iteration=300_000, surfels=replace(surfels("jbs"), quats=random(NUM, 4)))
    )
    assert read_official(tmp_path).iteration == 300_000
    assert torch.equal(read_official(tmp_path, 60_000).surfels.quats, surfels("jbs").quats)
    with pytest.raises(FileNotFoundError, match=r"no iteration 7 \(there is 60000, 300000\)"):
        read_official(tmp_path, 7)


# ---- folders as the published program writes them ---------------------------------------------

_PROPERTIES = (
    "x y z nx ny nz blend_weight_0 blend_weight_1 blend_weight_2 blend_weight_3 "
    + " ".join(f"f_dc_{i}" for i in range(3)) + " "
    + " ".join(f"f_rest_{i}" for i in range(45)) + " opacity scale_0 scale_1 "
    + " ".join(f"rot_{i}" for i in range(4)) + " "
    + " ".join(f"f_sg_{i}" for i in range(24)) + " binding_0"
).split()  # fmt: skip


def write_published(folder: Path, names: list[str], arguments: str | None) -> dict[str, np.ndarray]:
    """Write a model by hand; returns the columns of the point cloud."""
    rng = np.random.default_rng(0)
    columns = {name: rng.standard_normal(NUM).astype("<f4") for name in _PROPERTIES}
    columns["binding_0"] = np.arange(NUM, dtype="<f4") * 1000
    points = folder / "point_cloud" / "iteration_300000"
    points.mkdir(parents=True)
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {NUM}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    body = np.stack([columns[name] for name in names], axis=1).tobytes()
    (points / "point_cloud.ply").write_bytes("\n".join(header).encode() + body)
    np.savez(
        points / "flame_param.npz",
        shape=np.ones(300, np.float32),
        expr=np.ones((FRAMES, 100), np.float32),
        **{k: np.ones((FRAMES, 3), np.float32) for k in ("rotation", "neck_pose", "jaw_pose")},
        eyes_pose=np.ones((FRAMES, 6), np.float32),
        translation=np.ones((FRAMES, 3), np.float32),
        static_offset=np.ones((1, 5023, 3), np.float32),
        dynamic_offset=np.zeros((FRAMES, VERTICES, 3), np.float32),
    )
    if arguments is not None:
        (folder / "cfg_args").write_text(arguments)
    return columns


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    names = list(_PROPERTIES)
    np.random.default_rng(1).shuffle(names)
    columns = write_published(tmp_path, names, None)
    found = read_official(tmp_path)
    assert found.rig == "jbs"
    assert np.array_equal(found.surfels.local_means[:, 1].numpy(), columns["y"])
    assert np.array_equal(
        found.surfels.blend_weight_logits[:, 2].numpy(), columns["blend_weight_2"]
    )
    assert np.array_equal(found.surfels.sh_rest[:, 3, 2].numpy(), columns["f_rest_33"])
    assert np.array_equal(found.surfels.specular_features[:, 23].numpy(), columns["f_sg_23"])
    assert found.surfels.face_index.tolist() == [1000 * i for i in range(NUM)]


def test_offsets_tracked_without_teeth_are_padded(tmp_path: Path) -> None:
    write_published(tmp_path, _PROPERTIES, None)
    offset = read_official(tmp_path).track.static_offset
    assert offset.shape == (1, VERTICES, 3)
    assert float(offset[:, :5023].min()) == 1.0
    assert float(offset[:, 5023:].abs().max()) == 0.0


ARGUMENTS = (
    "Namespace(sh_degree=3, sg_degree=24, source_path='/data/306', model_path='out', "
    "white_background={white}, DTF={dtf}, SGs={shiny}, sg_type='lasg', resolution=-1, "
    "test_iterations=[60000, 120000], spec_only_eyeball=True, lambda_dist=100.0, extra=None)"
)


def test_the_command_line_tells_what_the_files_do_not(tmp_path: Path) -> None:
    names = [name for name in _PROPERTIES if not name.startswith(("blend", "f_sg"))]
    for dtf, rig in ((True, "jacobian"), (False, "similarity")):
        folder = tmp_path / rig
        write_published(folder, names, ARGUMENTS.format(white=not dtf, dtf=dtf, shiny=False))
        found = read_official(folder)
        assert found.rig == rig
        assert found.white_background == (not dtf)
        assert found.arguments["test_iterations"] == [60_000, 120_000]
        assert found.specular is None
        assert found.surfels.specular_features is None


def test_features_that_a_shiny_model_lacks_are_zero(tmp_path: Path) -> None:
    names = [name for name in _PROPERTIES if not name.startswith("f_sg")]
    write_published(tmp_path, names, ARGUMENTS.format(white=True, dtf=True, shiny=True))
    with pytest.raises(FileNotFoundError, match=r"specular\.pth does not exist, though cfg_args"):
        read_official(tmp_path)
    weights = tmp_path / "specular" / "iteration_300000"
    weights.mkdir(parents=True)
    write_specular(weights / "specular.pth", SpecularNetwork("lasg"))
    features = read_official(tmp_path).surfels.specular_features
    assert features.shape == (NUM, 24)
    assert float(features.abs().max()) == 0.0


def test_the_rig_must_be_known_and_fit_the_file(tmp_path: Path) -> None:
    names = [name for name in _PROPERTIES if not name.startswith("blend")]
    write_published(tmp_path / "plain", names, None)
    with pytest.raises(ValueError, match="neither blend weights nor cfg_args tell the rig"):
        read_official(tmp_path / "plain")
    assert read_official(tmp_path / "plain", rig="jacobian").rig == "jacobian"
    with pytest.raises(ValueError, match="has no blend weights, which rig 'jbs' contradicts"):
        read_official(tmp_path / "plain", rig="jbs")
    write_published(tmp_path / "jbs", _PROPERTIES, None)
    with pytest.raises(ValueError, match="has blend weights, which rig 'jacobian' contradicts"):
        read_official(tmp_path / "jbs", rig="jacobian")


# ---- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("point_cloud.ply", b"plx", r"point_cloud\.ply"),
        ("point_cloud.ply", b"ply\nformat binary_little_endian 1.0\nend_header\n", r"point_cloud"),
        ("flame_param.npz", b"PK\x03\x04 cut", r"flame_param\.npz: not a readable"),
        ("specular.pth", pickle.dumps(Path), r"specular\.pth"),
        ("specular.pth", b"", r"specular\.pth"),
        ("cfg_args", b"Namespace(a=__import__('os').getcwd())", r"cfg_args: a must be a literal"),
        ("cfg_args", b"\xff\xfe", r"cfg_args: not UTF-8 text"),
        ("cfg_args", b"(" * 5000, r"cfg_args: must be one line Namespace"),
        ("cfg_args", b"open('x')", r"cfg_args: must be one line Namespace"),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    write_official(tmp_path, avatar())
    (path,) = tmp_path.rglob(name)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_official(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_state_dict_that_calls_a_function_is_refused_unread(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return Path.touch, (tmp_path / "called",)

    write_official(tmp_path, avatar())
    (path,) = tmp_path.rglob("specular.pth")
    path.write_bytes(pickle.dumps({"gaussian_feature.weight": Hostile()}))
    with pytest.raises(ValueError, match=r"specular\.pth"):
        read_official(tmp_path)
    assert not (tmp_path / "called").exists()


def _renamed(state: dict[str, Tensor]) -> None:
    state["render_module.mlp.6.weight"] = state.pop("render_module.mlp.2.weight")


def _cut(state: dict[str, Tensor]) -> None:
    state["render_module.mlp.0.weight"] = state["render_module.mlp.0.weight"][:, :-1]


def _nan(state: dict[str, Tensor]) -> None:
    state["gaussian_feature.bias"] = torch.full((64,), float("nan"))


def _two_channels(state: dict[str, Tensor]) -> None:
    state["render_module.mlp.4.bias"] = torch.zeros(2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_renamed, "mlp"),
        (_cut, r"mlp\.0\.weight must have shape \(128, 48\) for lasg, got \(128, 47\)"),
        (_nan, "gaussian_feature.bias must be finite"),
        (_two_channels, r"must have 3 \(asg\) or 1 \(lasg\) numbers, got 2"),
        (dict.clear, "'gaussian_feature.weight' is missing"),
    ],
)
def test_other_networks_are_refused(
    tmp_path: Path, damage: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    state = specular_to_official(SpecularNetwork("lasg").state_dict())
    damage(state)
    torch.save(state, tmp_path / "specular.pth")
    with pytest.raises(ValueError, match=message) as caught:
        read_specular(tmp_path / "specular.pth")
    assert "specular.pth" in str(caught.value)


def test_missing_parts_and_wrong_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is .* a model folder"):
        read_official(tmp_path)
    (tmp_path / "point_cloud").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no iteration \(there is none\)"):
        read_official(tmp_path)


def test_faces_that_flame_does_not_have_are_refused(tmp_path: Path) -> None:
    far = replace(surfels("jbs"), face_index=torch.full((NUM,), 10_144))
    write_official(tmp_path, avatar(surfels=far))
    with pytest.raises(ValueError, match=r"binding_0 must be below 10144 .* got 10144"):
        read_official(tmp_path)


def test_other_rigs_than_flame_cannot_be_written(tmp_path: Path) -> None:
    other = track().replace(identity_coeffs=torch.zeros(1, 7))
    with pytest.raises(ValueError, match="identity and expression must have"):
        write_official(tmp_path, avatar(track=other))
    with pytest.raises(ValueError, match="rig must be jbs with blend weights and only then"):
        write_official(tmp_path, replace(avatar("jbs"), rig="jacobian"))
    assert not any(tmp_path.iterdir())


def test_arguments_come_back_and_must_be_literals(tmp_path: Path) -> None:
    given = {"a": 1, "b": "x'y\n", "c": [1, (2.5, None)], "d": False, "e": -1e-05}
    assert parse_arguments(format_arguments(given)) == given
    with pytest.raises(ValueError, match=r"must be one line|must be a literal"):
        format_arguments({"a": Path("x")})
    with pytest.raises(ValueError, match="must be one line"):
        format_arguments({"not a name": 1})
    with pytest.raises(ValueError, match="must name every argument"):
        parse_arguments("Namespace(**{'a': 1})")
    (tmp_path / "cfg_args").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(ValueError, match="must have at most 1048576 bytes"):
        read_arguments(tmp_path / "cfg_args")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_arguments(tmp_path / "none")
