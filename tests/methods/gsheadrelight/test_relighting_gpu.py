"""Relighting on a GPU: the same pictures as on the CPU, all at once, inside a CUDA graph."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from relight_heads import TINY, visible
from vultus.bench.gpu_timing import captured
from vultus.methods.gsheadrelight.config import Parity
from vultus.methods.gsheadrelight.gaussians import HeadGaussians, activate_heads
from vultus.methods.head_views import ViewRig

pytestmark = pytest.mark.gpu


def on_gpu(gaussians: HeadGaussians) -> HeadGaussians:
    parts = {each.name: getattr(gaussians, each.name).cuda() for each in fields(gaussians)}
    return HeadGaussians(**parts)


@pytest.mark.parametrize("parity", ["fixed", "official"])
@torch.no_grad()
def test_heads_and_lights_in_one_pass_are_those_of_the_cpu(parity: Parity) -> None:
    generator = visible(replace(TINY, parity=parity, background_points=0))
    random = torch.Generator().manual_seed(0)
    labels = ViewRig().labels(torch.tensor([-0.3, 0.0, 0.4]), torch.zeros(3))
    ws = generator.map(torch.randn(3, TINY.z_dim, generator=random), labels)
    lights = torch.randn(3, 7, 9, 3, generator=random)
    gaussians = generator.gaussians(ws)
    wanted = generator.render(gaussians, lights, labels).image
    one_by_one: list[Tensor] = [
        generator.render(gaussians.select(row), lights[row : row + 1], labels[row : row + 1]).image
        for row in range(3)
    ]
    torch.testing.assert_close(torch.cat(one_by_one), wanted)
    generator = generator.cuda()
    moved, device_lights, device_labels = on_gpu(gaussians), lights.cuda(), labels.cuda()
    shown = generator.render(moved, device_lights, device_labels).image
    torch.testing.assert_close(shown.cpu(), wanted, atol=2e-3, rtol=0.0)
    activated = activate_heads(moved)
    torch.testing.assert_close(
        generator.render(activated, device_lights, device_labels).image, shown
    )
    held = torch.empty_like(shown)
    replay = captured(
        lambda: held.copy_(generator.render(activated, device_lights, device_labels).image)
    )
    held.zero_()
    replay()
    torch.testing.assert_close(held, shown)
