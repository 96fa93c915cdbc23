"""Golden images of GaussianHead: from parameters to pixels and back; a published model folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vultus.geometry.cameras import Camera, camera_centers
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.kernels.ssim import ssim
from vultus.methods.gaussianhead.official import (
    OfficialModel,
    appearance_from_official,
    bake_derivation,
    motion_from_official,
    official_name,
    pose_official,
    read_official,
    write_official,
)
from vultus.methods.gaussianhead.posing import PosedGaussians
from vultus.methods.gaussianhead.start import neighbor_distances

FORWARD, GRADIENT = 1e-5, 1e-4
STORED = {"means": "xyz", "log_scales": "scaling", "quats": "rotation", "derivation": "tau"}


def error(actual: Tensor | None, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert actual is not None
    return float((actual - expected).detach().abs().max()) / float(expected.abs().max())


def camera_of(golden: dict[str, Tensor], tangents: list[float], size: tuple[int, int]) -> Camera:
    width, height = size
    focal = [0.5 * width / tangents[0], 0.5 * height / tangents[1]]
    intrinsics = torch.tensor([[focal[0], 0, width / 2], [0, focal[1], height / 2], [0, 0, 1.0]])
    return Camera(golden["world_view_transform"].T[None], intrinsics[None], width, height)


def draw(posed: PosedGaussians, camera: Camera):
    return rasterize_gaussians(
        posed.means,
        posed.quats,
        posed.scales,
        posed.opacities,
        camera,
        sh_coeffs=posed.sh_coeffs,
        sh_degree=3,
        background=torch.ones(3),
        normalize_quats=False,
        cull="3sigma",
        gradients="published",
        outputs=("depth",),
        backend="cpu",
    )


@pytest.mark.golden("gaussianhead/end_to_end.safetensors")
def test_image_loss_and_all_gradients_agree(golden: dict[str, Tensor]) -> None:
    def weights(prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): t for n, t in golden.items() if n.startswith(prefix)}

    gaussians = {n: golden[f"gauss.{t}"].clone().requires_grad_() for n, t in STORED.items()}
    motion = motion_from_official(weights("deform."))
    appearance = appearance_from_official(weights("trip."))
    model = OfficialModel(gaussians, motion, appearance, 0)
    height, width = golden["HW"].tolist()
    camera = camera_of(golden, golden["tanfov"].tolist(), (width, height))
    posed = pose_official(model, golden["exp"][None], camera_centers(camera))
    for name, theirs in (("means", "means3D"), ("scales", "scales"), ("quats", "rotations")):
        assert error(getattr(posed, name)[0], golden[theirs]) < FORWARD, name
    assert error(posed.opacities[0], golden["opacity"][:, 0]) < FORWARD
    assert error(posed.sh_coeffs[0], golden["shs"]) < FORWARD

    images = draw(posed, camera)
    assert torch.equal(images.radii[0], golden["radii"])
    safe = golden["safe_pixels"] > 0
    assert images.depth_sum is not None
    for name, found in (("image", images.image), ("depth", images.depth_sum)):
        difference = (found[0] - golden[name])[..., safe].abs().max()
        assert difference < 2e-5 * golden[name].abs().max(), name
    similarity = ssim(images.image[0], golden["gt"])
    loss = 0.8 * (images.image[0] - golden["gt"]).abs().mean() + 0.2 * (1 - similarity)
    assert error(similarity, golden["ssim"]) < FORWARD
    assert error(loss, golden["loss"]) < FORWARD

    loss.backward()
    assert images.screen_gradient.grad is not None
    found = {"means2D": images.screen_gradient.grad[0]}
    found |= {f"gauss.{STORED[n]}": g.grad for n, g in gaussians.items()}
    for prefix, network in (("deform.", motion), ("trip.", appearance)):
        found |= {prefix + official_name(n): p.grad for n, p in network.named_parameters()}
    expected = weights("grad.")
    assert found.keys() == expected.keys()
    expected["means2D"] = expected["means2D"][:, :2]
    for name, value in expected.items():
        assert error(found[name], value) < GRADIENT, name


@pytest.mark.golden("gaussianhead/end_to_end.safetensors")
def test_scales_start_as_the_distance_to_the_neighbours(golden: dict[str, Tensor]) -> None:
    squared = neighbor_distances(golden["init_points"]).square().mean(dim=1).clamp(min=1e-7)
    assert error(squared.sqrt().log()[:, None].repeat(1, 3), golden["init_log_scale"]) < FORWARD


@pytest.fixture
def folder(golden_dir: Path) -> Path:
    path = golden_dir / "gaussianhead" / "official_ckpt"
    if not path.is_dir():
        pytest.skip(f"no golden fixture {path}")
    return path


@pytest.fixture
def expected(golden_dir: Path, folder: Path) -> dict[str, Tensor]:
    return load_file(golden_dir / "gaussianhead" / "official_ckpt_expected.safetensors")


def expected_camera(expected: dict[str, Tensor]) -> Camera:
    fx, fy, width, height = expected["fx_fy_w_h"].tolist()
    tangents = [0.5 * width / fx, 0.5 * height / fy]
    return camera_of(expected, tangents, (round(width), round(height)))


def check_image(posed: PosedGaussians, camera: Camera, expected: dict[str, Tensor]) -> None:
    safe = expected["safe_pixels"] > 0
    images = draw(posed, camera)
    assert images.depth_sum is not None
    maps = {"image": images.image, "alpha": images.alpha, "depth": images.depth_sum}
    for name, found in maps.items():
        difference = (found[0] - expected[name])[..., safe].abs().max()
        assert difference < 2e-5 * expected[name].abs().max(), name


def test_a_published_folder_renders_as_it_should(folder: Path, expected: dict[str, Tensor]) -> None:
    model = read_official(folder)
    assert model.iteration == 80_000
    camera = expected_camera(expected)
    posed = pose_official(model, expected["exp"][None], camera_centers(camera))
    for name, theirs in (("means", "means3D"), ("scales", "scales"), ("quats", "rotations")):
        assert error(getattr(posed, name)[0], expected[theirs]) < FORWARD, name
    assert error(posed.opacities[0], expected["opacity"][:, 0]) < FORWARD
    assert error(posed.sh_coeffs[0], expected["shs"]) < FORWARD
    check_image(posed, camera, expected)


def test_baked_gaussians_may_change_places(folder: Path, expected: dict[str, Tensor]) -> None:
    model = bake_derivation(read_official(folder))
    assert error(model.gaussians["derivation"], expected["baked_scale"]) < FORWARD
    order = torch.randperm(130, generator=torch.Generator().manual_seed(3))
    shuffled = {name: value[order] for name, value in model.gaussians.items()}
    model = OfficialModel(shuffled, model.motion, model.appearance, model.iteration, is_baked=True)
    camera = expected_camera(expected)
    posed = pose_official(model, expected["exp"][None], camera_centers(camera))
    assert error(posed.sh_coeffs[0], expected["shs"][order]) < FORWARD
    check_image(posed, camera, expected)


def test_a_folder_that_we_write_is_read_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    model = read_official(folder)
    write_official(tmp_path, model)
    again = read_official(tmp_path)
    for name, value in model.gaussians.items():
        assert torch.equal(value, again.gaussians[name]), name
    for part in ("motion", "appearance"):
        left, right = (getattr(m, part).state_dict() for m in (model, again))
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)
