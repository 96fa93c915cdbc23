"""Checkpoints of other settings are refused before anything of an avatar changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vultus.methods.saved_tensors import check_saved_indices, check_saved_tensors

PRIMITIVES = {"means": torch.zeros(5, 3), "face_index": torch.zeros(5, dtype=torch.int64)}
SHARED = {"layer.weight": torch.zeros(4, 2)}


def saved(**changes: Tensor) -> dict[str, Tensor]:
    """Of seven primitives."""
    rows = {name: value.new_zeros(7, *value.shape[1:]) for name, value in PRIMITIVES.items()}
    return {**rows, **SHARED, **changes}


def test_any_number_of_primitives_fits_and_more_may_be_saved() -> None:
    check_saved_tensors(saved(other=torch.zeros(1)), PRIMITIVES, SHARED)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("face_index"), r"lacks 'face_index': it was trained with"),
        (lambda s: s.pop("layer.weight"), r"lacks 'layer\.weight': it was"),
        (lambda s: s.update(means=torch.zeros(6, 3)), r"'face_index' of shape \(6,\) .* \(7,\)"),
        (lambda s: s.update(face_index=torch.zeros(8).long()), r"'face_index' of shape \(7,\)"),
        (lambda s: s.update(means=torch.zeros(7, 4)), r"'means' of shape \(7, 3\) .* \(7, 4\)"),
        (lambda s: s.update(means=torch.zeros(7)), r"'means' of shape \(7, 3\) .* \(7,\)"),
        (lambda s: s.update(means=torch.zeros(())), r"'means' of shape \(3,\) .* \(\)"),
        (lambda s: s.update(means=torch.zeros(7, 3).double()), "type torch.float32, got .*float64"),
        (lambda s: s.update(face_index=torch.zeros(7)), "type torch.int64, got .*float32"),
        (lambda s: s.update({"layer.weight": torch.zeros(7, 2)}), r"'layer\.weight' of .*\(4, 2\)"),
    ],
)
def test_tensors_of_other_settings_are_named(
    damage: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    tensors = saved()
    damage(tensors)
    with pytest.raises(ValueError, match=rf"^checkpoint .*{message}") as caught:
        check_saved_tensors(tensors, PRIMITIVES, SHARED)
    assert "\n" not in str(caught.value)


def test_indices_point_to_what_there_is() -> None:
    check_saved_indices("faces", torch.tensor([0, 4, 2]), 5)
    check_saved_indices("pairs", torch.zeros(0, 2, dtype=torch.int64), 5)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match=rf"^checkpoint .*'faces' of 0 to 4, got {wrong}: it"):
            check_saved_indices("faces", torch.tensor([[0, 1], [wrong, 2]]), 5)
