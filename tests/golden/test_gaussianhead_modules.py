"""Golden values of GaussianHead's modules: encoding, networks, derivation, optimiser, density."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from vultus.gaussians import densify
from vultus.gaussians.densify import AdaptiveDensity, DensifyConfig
from vultus.geometry.rotations import quaternion_to_matrix
from vultus.methods.gaussianhead.config import OptimConfig
from vultus.methods.gaussianhead.derivation import (
    DerivationMode,
    derive_positions,
    official_matrices,
)
from vultus.methods.gaussianhead.official import (
    appearance_from_official,
    motion_from_official,
    official_name,
)
from vultus.methods.gaussianhead.rates import learning_rates
from vultus.nets.encodings import frequency_encoding
from vultus.nets.triplane import sample_planes
from vultus.optim.adam import build_adam
from vultus.optim.riemannian_adam import build_riemannian_adam

FORWARD, GRADIENT = 1e-5, 1e-4
PLANES = ("plane_xy", "plane_xz", "plane_yz")
NUM_DERIVATIONS = 4
_MOMENTS = ("exp_avg", "exp_avg_sq")


def error(actual: Tensor | None, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert actual is not None
    scale = float(expected.abs().max())
    return float((actual - expected).detach().abs().max()) / (scale or 1.0)


def weights_of(golden: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in golden.items() if n.startswith(prefix)}


def leaves(golden: Mapping[str, Tensor], *names: str) -> list[Tensor]:
    return [golden[name].clone().requires_grad_() for name in names]


def grouped(planes: list[Tensor], groups: int) -> list[Tensor]:
    """Share the channels of planes among the copies of a position."""
    return [plane[0].unflatten(0, (groups, -1)) for plane in planes]


@pytest.mark.golden("gaussianhead/triplane_sampling.safetensors")
def test_three_planes_are_sampled_and_multiplied_as_published(golden: dict[str, Tensor]) -> None:
    points, *planes = leaves(golden, "points", *PLANES)
    everything = sample_planes(planes, points[None])[0]
    assert error(everything, golden["features_k1"]) < FORWARD
    features = sample_planes([plane[:, -8:] for plane in planes], points[None])[0]
    assert error(features, golden["features_k4"]) < FORWARD
    (features * golden["dL_dfeatures_k4"]).sum().backward()
    assert error(points.grad, golden["grad_points"]) < GRADIENT
    for plane, name in zip(planes, PLANES, strict=True):
        assert error(plane.grad, golden[f"grad_{name}"]) < GRADIENT


@pytest.mark.golden("gaussianhead/deform_mlp*.safetensors")
def test_the_motion_network_gives_the_published_values(golden: dict[str, Tensor]) -> None:
    encoded = frequency_encoding(golden["x"], 10)
    assert error(encoded, golden["embed_x"]) < FORWARD
    network = motion_from_official(weights_of(golden, "param."))
    (x,) = leaves(golden, "x")
    exp = golden["exp"][:1].clone().requires_grad_()
    moved = network(x, exp)
    pairs = {"xyz": moved.means, "rotation": moved.quats, "scaling": moved.scales}
    for name, value in pairs.items():
        assert error(value[0], golden[f"d_{name}"]) < FORWARD, name
    upstream = ("w_xyz", "w_rot", "w_scale")
    parts = [(v[0] * golden[w]).sum() for v, w in zip(pairs.values(), upstream, strict=True)]
    torch.stack(parts).sum().backward()
    assert error(x.grad, golden["grad_x"]) < GRADIENT
    # There, every point has a copy of the vector of its own.
    assert error(exp.grad, golden["grad_exp"].sum(dim=0, keepdim=True)) < GRADIENT
    gradients = {official_name(n): p.grad for n, p in network.named_parameters()}
    for name, expected in weights_of(golden, "grad.").items():
        assert error(gradients[name], expected) < GRADIENT, name


@pytest.mark.golden("gaussianhead/derivation.safetensors")
@pytest.mark.parametrize("mode", ["paper", "official"])
def test_derived_positions_and_features_have_the_golden_values(
    golden: dict[str, Tensor], mode: DerivationMode
) -> None:
    kind = "proper" if mode == "paper" else "official"
    tau, coords, *planes = leaves(golden, "tau", "coords", *PLANES)
    derived = derive_positions(coords[None], mode, tau)
    assert error(derived[:, 0], golden[f"{kind}_coords"]) < FORWARD
    if mode == "paper":
        matrices, own = quaternion_to_matrix(tau), grouped(planes, NUM_DERIVATIONS)
        fused = golden["proper_fused_slice"]
    else:
        matrices, fused = official_matrices(tau), golden["official_fused"]
        own = [plane[:, -8:].expand(NUM_DERIVATIONS, -1, -1, -1) for plane in planes]
    assert error(matrices, golden[f"{kind}_matrices"]) < FORWARD
    features = sample_planes(own, derived[:, 0]).transpose(0, 1).flatten(1)
    assert error(features, fused) < FORWARD
    (features * golden["dL_dfused"]).sum().backward()
    assert error(tau.grad, golden[f"{kind}_grad_tau"]) < GRADIENT
    assert error(coords.grad, golden[f"{kind}_grad_coords"]) < GRADIENT
    for plane, name in zip(planes, PLANES, strict=True):
        assert error(plane.grad, golden[f"{kind}_grad_{name}"]) < GRADIENT


@pytest.mark.golden("gaussianhead/derivation.safetensors")
def test_equal_quaternions_are_derived_as_published(golden: dict[str, Tensor]) -> None:
    derived = derive_positions(golden["coords"][None], "official", golden["tau_init"])
    assert error(derived[:, 0], golden["official_coords_init"]) < FORWARD


@pytest.mark.golden("gaussianhead/triplane_network.safetensors")
def test_the_appearance_network_gives_the_published_values_and_gradients(
    golden: dict[str, Tensor],
) -> None:
    network = appearance_from_official(weights_of(golden, "param."), NUM_DERIVATIONS)
    xyz, dirs, tau = leaves(golden, "xyz", "dirs", "tau")
    features = network.features(xyz[None], "official", tau)
    assert error(features[0], golden["canonical_features"]) < FORWARD
    found = network.decode(features, dirs[None])
    opacity, coefficients = found.opacity_logits[0].sigmoid()[:, None], found.sh_coeffs[0]
    assert error(found.opacity_logits[0][:, None], golden["opacity_logit"]) < FORWARD
    assert error(opacity, golden["opacity"]) < FORWARD
    assert error(coefficients, golden["shs"]) < FORWARD
    total = (opacity * golden["w_opacity"]).sum() + (coefficients[:, 0] * golden["w_dc"]).sum()
    (total + (coefficients[:, 1:].flatten(1) * golden["w_rest"]).sum()).backward()
    for value, name in ((xyz, "xyz"), (dirs, "dirs"), (tau, "tau")):
        assert error(value.grad, golden[f"grad_{name}"]) < GRADIENT, name
    gradients = {official_name(n): p.grad for n, p in network.named_parameters()}
    for name, expected in weights_of(golden, "grad.").items():
        assert error(gradients[name], expected) < GRADIENT, name
        if name.startswith("tri_plane"):
            gradient = gradients[name]
            assert gradient is not None
            assert not gradient[:, :24].any(), "dead channels"


@pytest.mark.golden("gaussianhead/triplane_multiscale.safetensors")
def test_several_tri_planes_are_added(golden: dict[str, Tensor]) -> None:
    network = appearance_from_official(weights_of(golden, "param."), NUM_DERIVATIONS)
    assert len(network.planes) == 3
    found = network(golden["xyz"][None], golden["dirs"][None], "official", golden["tau"])
    assert error(found.opacity_logits[0].sigmoid()[:, None], golden["opacity"]) < FORWARD
    assert error(found.sh_coeffs[0], golden["shs"]) < FORWARD


@pytest.mark.golden("gaussianhead/riemannian_adam.safetensors")
@pytest.mark.parametrize("variant", ["official", "adam", "sphere"])
def test_every_step_of_the_optimiser_is_the_golden_one(
    golden: dict[str, Tensor], variant: str
) -> None:
    on_sphere = variant == "sphere"
    start = golden["sphere_tau0" if on_sphere else "tau0"]
    parameters = {"tau": Parameter(start.clone())}
    rates = {"tau": 1e-2 if on_sphere else 1e-3}
    if on_sphere:
        optimizer = build_riemannian_adam(parameters, rates, {"tau"})
    else:
        optimizer = build_adam(parameters, rates, epsilon=1e-8)
    for step, gradient in enumerate(golden["grads"]):
        parameters["tau"].grad = gradient.clone()
        optimizer.step()
        state = optimizer.state[parameters["tau"]]
        found = {"tau": parameters["tau"].detach(), **{n: state[n] for n in _MOMENTS}}
        for name, value in found.items():
            assert error(value, golden[f"{variant}_{name}"][step]) < FORWARD, (step, name)


@pytest.mark.golden("gaussianhead/lr_camera_loss.safetensors")
def test_learning_rates_follow_the_published_schedules(golden: dict[str, Tensor]) -> None:
    names = {"lr_xyz": "means", "lr_deform": "motion.x", "lr_triplane": "appearance.planes.0"}
    for row, step in enumerate(golden["lr_steps"].tolist()):
        rates = learning_rates(OptimConfig(), step)
        for theirs, ours in names.items():
            expected = float(golden[theirs][row])
            assert rates.of(ours) == pytest.approx(expected, rel=1e-9), (theirs, step)


@pytest.mark.golden("gaussianhead/densify.safetensors")
def test_free_gaussians_are_cloned_split_and_pruned_as_published(
    golden: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {"means": "xyz", "log_scales": "scaling", "quats": "rotation", "derivation": "tau"}
    before, after = weights_of(golden, "before."), weights_of(golden, "after.")
    parameters = {name: Parameter(before[theirs].clone()) for name, theirs in ours.items()}
    optimizer = build_adam(parameters, dict.fromkeys(parameters, 1e-3))
    for name, parameter in parameters.items():
        if name != "derivation":
            optimizer.state[parameter] = {
                "step": torch.tensor(7.0),
                "exp_avg": before[f"adam_m_{ours[name]}"].clone(),
                "exp_avg_sq": before[f"adam_v_{ours[name]}"].clone(),
            }
    config = DensifyConfig(
        start_step=500,
        stop_step=15_000,
        interval=100,
        opacity_reset_interval=3_000,
        gradient_threshold=float(golden["max_grad"]),
        prune_opacity=float(golden["min_opacity"]),
    )
    num = before["xyz"].shape[0]
    density = AdaptiveDensity(config, num)
    density.load_tensors(
        {
            "gradient": before["accum"][:, 0],
            "count": before["denom"][:, 0].long(),
            "radius": before["max_radii2D"],
        }
    )

    def recorded(shape: torch.Size, **_: object) -> Tensor:
        """The fixture's samples have the deviations in them already."""
        samples = golden["split_samples"]
        assert shape == samples.shape
        return samples / split_deviations

    mean = before["accum"][:, 0] / before["denom"][:, 0].clamp(min=1)
    scales = before["scaling"].exp()
    large = scales.amax(dim=1) > config.dense_fraction * float(golden["extent"])
    split_deviations = scales[(mean >= config.gradient_threshold) & large].repeat(2, 1)
    monkeypatch.setattr(densify.torch, "randn", recorded)
    edited = density.edit(
        3_100,
        parameters,
        {"opacities": before["opacity"][:, 0]},
        optimizer,
        world_scales=scales,
        extent=float(golden["extent"]),
        generator=torch.Generator(),
    )
    assert edited is not None
    assert (edited.num_cloned, edited.num_split) > (0, 0)
    assert error(edited.extras["opacities"], after["opacity"][:, 0]) == 0
    for name, theirs in ours.items():
        assert error(edited.parameters[name], after[theirs]) < FORWARD, name
        if name != "derivation":
            state = optimizer.state[edited.parameters[name]]
            assert torch.equal(state["exp_avg"], after[f"adam_m_{theirs}"]), name
            assert torch.equal(state["exp_avg_sq"], after[f"adam_v_{theirs}"]), name
