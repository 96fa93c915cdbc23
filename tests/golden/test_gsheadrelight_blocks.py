"""Golden values and gradients of the layers that GSHeadRelight's generator is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vultus.nets.modulated_linear import ModulatedLinear
from vultus.nets.point_blocks import (
    AdaptiveNorm,
    NeighborEdges,
    PointAttention,
    PointMlp,
    PointRefinement,
    ScaledResidual,
    SiblingEdges,
    StyledResidual,
)
from vultus.nets.point_encoding import LearnedWaves, PositionTables

TOLERANCE = 1e-4
WIDTH, W_DIM = 32, 16

EDGES = {
    "conv_x.0": "branch.layers.message_in",
    "conv_x.1": "branch.layers.message_out",
    "conv_w.0": "branch.layers.weight_in",
    "conv_w.1": "branch.layers.weight_out",
}
MLP = {"mlp.c_fc": "branch.widen", "mlp.c_proj": "branch.narrow"}
SUBPIXEL = {"subpixel": "own", "res_fc": "skip"}


def _transformer_names(layers: int) -> dict[str, str]:
    names = {}
    for layer in range(layers):
        block, attention, mlp = f"resblocks.{layer}", f"{2 * layer}", f"{2 * layer + 1}"
        names |= {
            f"{block}.ln_1": f"{attention}.norm",
            f"{block}.attn.c_qkv": f"{attention}.branch.qkv",
            f"{block}.attn.c_proj": f"{attention}.branch.out",
            f"{block}.ls_1": f"{attention}.scale",
            f"{block}.ln_2": f"{mlp}.norm",
            f"{block}.mlp.c_fc": f"{mlp}.branch.widen",
            f"{block}.mlp.c_proj": f"{mlp}.branch.narrow",
            f"{block}.ls_2": f"{mlp}.scale",
        }
    return names


class _Transformer(nn.ModuleList):
    """Two blocks, each of attention and a perceptron."""

    def forward(self, x: Tensor, ws: Tensor) -> Tensor:
        for residual, w in zip(self, ws.unbind(1), strict=True):
            x = residual(x, w)
        return x


def _transformer() -> nn.Module:
    branches = [make() for _ in range(2) for make in (lambda: PointAttention(WIDTH, 8), _mlp)]
    return _Transformer([StyledResidual(WIDTH, W_DIM, branch) for branch in branches])


def _mlp() -> nn.Module:
    return PointMlp(WIDTH)


def _modulated(out: int, **options: bool | str) -> Callable[[], nn.Module]:
    return lambda: ModulatedLinear(WIDTH, out, W_DIM, **options)  # pyright: ignore[reportArgumentType]


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    "adaptive_norm": (lambda: AdaptiveNorm(WIDTH, W_DIM), {}),
    "ada_mlp": (lambda: StyledResidual(WIDTH, W_DIM, PointMlp(WIDTH)), {"ls": "scale", **MLP}),
    "plain_mlp": (lambda: ScaledResidual(WIDTH, PointMlp(WIDTH)), {"ls": "scale", **MLP}),
    "ada_edge": (
        lambda: StyledResidual(WIDTH, W_DIM, NeighborEdges(WIDTH, 16)),
        {"ls": "scale", **EDGES},
    ),
    "local_edge": (
        lambda: ScaledResidual(WIDTH, SiblingEdges(WIDTH, 4)),
        {"ls": "scale", **EDGES},
    ),
    "transformer2": (_transformer, _transformer_names(2)),
    "modfc_demod": (_modulated(WIDTH, is_residual=True), {"layerscale": "layer_scale"}),
    "modfc_nodemod": (_modulated(3, activation="linear", is_demodulated=False), {}),
    "upsample": (lambda: PointRefinement(WIDTH, 16, 4), SUBPIXEL),
}
"""Builds a block, and the published names of its parts with ours."""


def renamed(name: str, names: Mapping[str, str]) -> str:
    """Translate the longest known part at the start of a name."""
    for old in sorted(names, key=len, reverse=True):
        if name == old or name.startswith(f"{old}."):
            return names[old] + name.removeprefix(old)
    return name


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Compare with the largest value as the scale."""
    assert actual.shape == expected.shape
    scale = max(float(expected.abs().max()), 0.1)
    assert float((actual - expected).detach().abs().max()) <= tolerance * scale


@pytest.fixture(scope="module")
def fixtures(golden_dir: Path) -> dict[str, Tensor]:
    return load_file(golden_dir / "gsheadrelight" / "blocks.safetensors")


def _part(fixtures: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in fixtures.items() if n.startswith(prefix)}


@pytest.mark.parametrize("case", CASES)
def test_a_block_has_the_published_values_and_gradients(
    fixtures: dict[str, Tensor], case: str
) -> None:
    build, names = CASES[case]
    block = build()
    golden = _part(fixtures, f"{case}/")
    shapes = {name: tensor.shape for name, tensor in block.state_dict().items()}
    weights = {
        ours: tensor.reshape(shapes[ours])
        for name, tensor in _part(golden, "p.").items()
        if (ours := renamed(name, names)) in shapes
    }
    block.load_state_dict(weights)
    inputs = {n: t.requires_grad_() for n, t in _part(golden, "in.").items() if n != "pc"}
    out = "out.x" if case == "upsample" else "out.y"
    made = block(*(inputs[name] for name in ("x", "w", "ws") if name in inputs))
    assert_near(made, golden[out])
    made.backward(golden[out.replace("out", "cot")])
    parameters = dict(block.named_parameters())
    for name, expected in _part(golden, "grad.").items():
        if name.startswith("p."):
            gradient = parameters[renamed(name[2:], names)].grad
            assert gradient is not None
            assert_near(gradient.reshape(expected.shape), expected)
        elif name in inputs:
            gradient = inputs[name].grad
            assert gradient is not None
            assert_near(gradient, expected)


def test_positions_are_encoded_as_published(fixtures: dict[str, Tensor]) -> None:
    golden = _part(fixtures, "coord_injection/")
    table = golden["p.const_pe.const_pe"][:, :, 0]
    waves = LearnedWaves(8)
    tables = PositionTables(table.shape[1], table.shape[2], "official")
    waves.frequencies.data = golden["p.learnable_pe.ffm.linear.weight"]
    waves.phases.data = golden["p.learnable_pe.ffm.linear.bias"]
    tables.tables.data = table
    points = golden["in.pos"].requires_grad_()
    made = torch.cat([waves(points), tables(points)], dim=-1)
    assert_near(made, golden["out.y"])
    made.backward(golden["cot.y"])
    assert points.grad is not None
    assert_near(points.grad, golden["grad.pos"])
    assert tables.tables.grad is not None
    assert_near(tables.tables.grad[:, :, None], golden["grad.p.const_pe.const_pe"])
