"""Pictures for people: sizes, gaps and colours."""

from __future__ import annotations

import pytest
import torch

from vultus.export.pictures import (
    contact_sheet,
    depth_picture,
    depth_range,
    error_picture,
    normal_picture,
    side_by_side,
    turbo,
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


def test_near_is_red_far_is_blue_and_the_background_is_white() -> None:
    depth = torch.tensor([[[1.0, 1.1, 1.4, 1.5, 0.0]]])
    shown = depth_picture(depth, torch.tensor([[[1.0, 1.0, 1.0, 1.0, 0.0]]]))
    _, near, far, _, nothing = shown[:, 0].unbind(dim=1)
    assert near[0] > near[2] + 0.3
    assert far[2] > far[0] + 0.3
    assert torch.equal(nothing, torch.ones(3))
    assert torch.equal(depth_picture(depth, torch.zeros(1, 1, 5)), torch.ones(3, 1, 5))


def test_depth_outside_given_bounds_has_their_colours() -> None:
    alpha = torch.ones(1, 1, 4)
    shown = depth_picture(torch.tensor([[[0.5, 1.0, 2.0, 3.0]]]), alpha, (1.0, 2.0))
    assert torch.equal(shown[..., 0], shown[..., 1])
    assert torch.equal(shown[..., 2], shown[..., 3])
    assert depth_range(torch.tensor([[[0.0, 1.0, 3.0, 9.0]]]), alpha * 0.4) is None


def test_turbo_has_its_published_colours() -> None:
    # Entries 0, 64, 128 and 255 of the published table; the polynomials are worst at the
    # ends.
    table = torch.tensor(
        [
            [0.18995, 0.07176, 0.23217],
            [0.15844, 0.73551, 0.92305],
            [0.64362, 0.98999, 0.23356],
            [0.47960, 0.01583, 0.01055],
        ]
    ).T
    at = torch.tensor([0.0, 64, 128, 255])[None, None] / 255
    torch.testing.assert_close(turbo(at)[:, 0], table, atol=0.13, rtol=0)
