"""A renderer that changes its subject or its light takes the pictures that a new one would."""

from __future__ import annotations

import numpy as np
import torch

from vultus.data.camera_labels import labels_to_camera, look_at_labels
from vultus.data.studio.collection.lights import draw_light
from vultus.data.studio.renderer import StudioRenderer
from vultus.heads.base import HeadPose
from vultus.heads.procedural import (
    DEFAULT_LOOK,
    ProceduralHead,
    paint_appearance,
    random_appearance,
)
from vultus.render.lighting.lights import LightList

LABEL = look_at_labels(
    torch.tensor([0.5]), torch.tensor([0.2]), target=torch.zeros(3), radius=1.4, focal=4.2647
)
CAMERA = labels_to_camera(LABEL, 48)


def test_reused_renderers_take_the_pictures_of_new_ones() -> None:
    head = ProceduralHead()
    looks = (DEFAULT_LOOK, random_appearance(5))
    appearances = [paint_appearance(head, look, 128) for look in looks]
    posed = head.vertices(HeadPose())[0]
    moved = posed + torch.tensor([0.01, 0.0, 0.0])
    lights = [draw_light(np.random.default_rng(seed), 32, 0.0) for seed in (0, 1)]
    turned = LightList(lights[0].positions.roll(1, dims=0), lights[0].intensity, lights[0].spread)
    reused = StudioRenderer(head.topology.faces, appearances[0], 1)
    reused.set_light(lights[0])
    reused.pose(posed)
    reused.render(CAMERA, 1)
    previous = None
    for appearance, vertices, light in (
        (appearances[0], posed, lights[1]),
        (appearances[1], posed, lights[1]),
        (appearances[1], moved, lights[1]),
        (appearances[1], moved, turned),
    ):
        reused.dress(appearance)
        if previous is not vertices:
            reused.pose(vertices)
            previous = vertices
        reused.set_light(light)
        new = StudioRenderer(head.topology.faces, appearance, 1)
        new.set_light(light)
        new.pose(vertices)
        assert torch.equal(reused.render(CAMERA, 1).rgb, new.render(CAMERA, 1).rgb)
