"""Point and directional lights as one list."""

import pytest
import torch

from vultus.render.lighting.lights import LightList, directional_lights, point_lights


def test_near_and_far_lights_are_told_apart_by_the_last_coordinate() -> None:
    far = directional_lights(torch.tensor([[0.0, 0.0, 5.0]]), torch.ones(1, 3))
    near = point_lights(torch.tensor([[0.0, 2.0, 1.0]]), torch.full((1, 3), 3.0))
    lights = LightList.cat([far, near])
    assert lights.positions.tolist() == [[0, 0, 1, 0], [0, 2, 1, 1]]
    assert lights.scaled(2.0).intensity.tolist() == [[2, 2, 2], [6, 6, 6]]
    assert lights.spread.tolist() == [0, 0]
    assert len(lights) == 2


def test_what_is_not_light_is_refused() -> None:
    one = torch.ones(1, 3)
    with pytest.raises(ValueError, match="must not be zero"):
        directional_lights(torch.zeros(1, 3), one)
    with pytest.raises(ValueError, match="must not be negative"):
        point_lights(one, -one)
    with pytest.raises(ValueError, match="intensity of lights must be finite"):
        point_lights(one, one / 0)
    with pytest.raises(ValueError, match="at least one light"):
        point_lights(torch.zeros(0, 3), torch.zeros(0, 3))
    with pytest.raises(ValueError, match="must end in 0"):
        LightList(torch.full((1, 4), 0.5), one, torch.zeros(1))
