"""Pictures for people: sizes, gaps and colours."""

from __future__ import annotations

import pytest
import torch

from vultus.export.pictures import (
    contact_sheet,
    depth_picture,
    error_picture,
    normal_picture,
    side_by_side,
)


def test_pictures_stand_in_rows_with_gaps_between_them() -> None:
    left, right = torch.zeros(3, 2, 3), torch.ones(3, 2, 5)
    row = side_by_side([left, right])
    assert row.shape == (3, 2, 3 + 4 + 5)
    assert torch.equal(row[:, :, :3], left)
    assert torch.equal(row[:, :, 7:], right)
    sheet = contact_sheet([[left, right], [left, right]])
    assert sheet.shape == (3, 2 + 4 + 2, 12)
    assert torch.equal(sheet[:, :2], row)
    assert torch.equal(sheet[:, 6:], row)
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet([])


def test_normals_are_shown_as_colours_on_white() -> None:
    normals = torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]])[:, None]
    shown = normal_picture(normals, torch.tensor([[[1.0, 1.0]]]))
    torch.testing.assert_close(shown[:, 0], torch.tensor([[0.5, 1.0], [0.5, 0.5], [1.0, 0.5]]))
    assert torch.equal(normal_picture(normals, torch.zeros(1, 1, 2)), torch.ones(3, 1, 2))


def test_errors_rise_from_black_to_the_brightest_colour_at_full_scale() -> None:
    reference = torch.zeros(3, 1, 4)
    image = torch.tensor([0.0, 0.1, 0.25, 0.9]).expand(3, 1, 4)
    brightness = error_picture(image, reference).mean(dim=0)[0]
    assert brightness[0] < 0.01
    assert brightness[0] < brightness[1] < brightness[2]
    assert brightness[2] == brightness[3]


def test_near_is_brighter_than_far_and_the_background_is_white() -> None:
    depth = torch.tensor([[[1.0, 1.2, 0.0]]])
    shown = depth_picture(depth, torch.tensor([[[1.0, 1.0, 0.0]]]))
    assert shown[:, 0, 0].mean() > shown[:, 0, 1].mean()
    assert torch.equal(shown[:, 0, 2], torch.ones(3))
    assert torch.equal(depth_picture(depth, torch.zeros(1, 1, 3)), torch.ones(3, 1, 3))
