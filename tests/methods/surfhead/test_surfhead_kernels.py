"""A training step as a GPU takes it, in Triton's interpreter, against the PyTorch definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tiny_captures import film_fake_head, tiny_surfhead
from triton_support import is_interpreting
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence
from vultus.kernels import dispatch
from vultus.methods.surfhead.config import SurfHeadConfig
from vultus.methods.surfhead.model import SurfHead
from vultus.methods.surfhead.specular import LobeType, SpecularConfig
from vultus.methods.surfhead.transport import Rig

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_fake_head(tmp_path_factory.mktemp("kernels") / "capture")


def config(rig: Rig, lobes: LobeType, **losses: float | bool) -> SurfHeadConfig:
    """Every term has a weight with which its gradient shows."""
    tiny = tiny_surfhead(rig)
    weights = replace(
        tiny.losses, surfel_normal_weight=0.3, normal_norm_weight=0.2, blend_weight_weight=0.2,
        alpha_weight=0.3, eye_alpha_weight=0.3, xyz_threshold=1e-4, scale_threshold=1e-4,
        **losses,
    )  # fmt: skip
    specular = SpecularConfig(lobes=lobes, surfels="all", start_step=1)
    return replace(tiny, losses=weights, specular=specular)


def gradients(config: SurfHeadConfig, capture: HeadSequence) -> dict[str, Tensor]:
    """Loss terms and gradients of a step at which everything has begun."""
    avatar = SurfHead(config, capture, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in avatar.surfels.items():
            amount = 2.0 if name == "blend_weight_logits" else 0.1
            parameter += amount * torch.randn(parameter.shape, generator=generator)
    batch = FrameStore(capture, "train").batch([3])
    output, terms = avatar.training_step(batch, step=9)
    torch.stack(list(terms.values())).sum().backward()
    avatar.update(output, step=9)
    found = {f"term {name}": term.detach() for name, term in terms.items()}
    for group in avatar.optimizer.param_groups:
        found[group["name"]] = group["params"][0].grad
    return found


@pytest.mark.parametrize(
    ("rig", "lobes"),
    [("jbs", "lasg"), pytest.param("jbs", "asg", marks=pytest.mark.slow), ("jacobian", "sg")],
)
def test_a_step_with_kernels_has_the_terms_and_gradients_of_the_definitions(
    capture, rig, lobes, monkeypatch
):
    if not is_interpreting():
        pytest.skip("on a GPU, tests/engine/test_steps_gpu.py trains")
    settings = config(rig, lobes, metric_xyz=rig == "jacobian", metric_scale=rig == "jacobian")
    expected = gradients(replace(settings, backend="ref"), capture)
    monkeypatch.setattr(dispatch, "_serves_cpu", True)
    actual = gradients(replace(settings, backend="gpu"), capture)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.isfinite(actual[name]).all(), name
        scale = value.abs().max()
        assert scale > 0, name
        assert (actual[name] - value).abs().max() < 2e-3 * scale, name
