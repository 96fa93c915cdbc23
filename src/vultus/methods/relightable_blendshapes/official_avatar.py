"""Published models as avatars of ours, which every command understands, and back."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vultus.data.sequence import HeadSequence
from vultus.methods.relightable_blendshapes.config import PRESETS, RelightableBlendshapesConfig
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.official import (
    FACE_ENTRIES,
    TEETH_ENTRIES,
    OfficialModel,
)
from vultus.methods.relightable_blendshapes.posing import Anchors
from vultus.methods.relightable_blendshapes.start import (
    FACE,
    LOWER_TEETH,
    UPPER_TEETH,
    with_teeth,
)

__all__ = ["avatar_from_official", "config_from_official", "official_from_avatar"]

_DEGREE = 3
_NUM_JOINTS = 5
_DELTAS = "_deltas"


def config_from_official(official: OfficialModel) -> RelightableBlendshapesConfig:
    """Settings under which a published model renders as it does in its own program."""
    preset = PRESETS["insta512"]
    model = replace(
        preset.model,
        num_expressions=official.num_expressions,
        # The avatar is built before its Gaussians are replaced: few of them are enough.
        num_points=100,
        num_teeth_points=10,
        teeth="always",
        official_quirks=True,
    )
    return replace(preset, model=model, steps=max(official.iteration, 1))


def avatar_from_official(
    official: OfficialModel, sequence: HeadSequence, device: torch.device | str = "cpu"
) -> RelightableBlendshapes:
    """Put a published model on a capture of its subject, tracked with FLAME.

    Raises:
        ValueError: If the head is not FLAME, or has fewer expressions than the model blendshapes.
    """
    available = len(sequence.head.expression_names)
    if sequence.head.name != "flame" or available < official.num_expressions:
        raise ValueError(
            f"{sequence.root}: head must be flame with at least {official.num_expressions} "
            f"expressions, got {sequence.head.name} with {available}"
        )
    avatar = RelightableBlendshapes(config_from_official(official), sequence, 0, device)
    parts = [official.face, *official.teeth]
    counts = [values["means"].shape[0] for values in parts]
    part = torch.tensor([FACE, UPPER_TEETH, LOWER_TEETH]).repeat_interleave(torch.tensor(counts))
    tensors: dict[str, Tensor] = dict(avatar.tensors())
    for name in avatar.gaussians:
        if name.endswith(_DELTAS):
            value = official.face[name]
            rows = value.new_zeros(sum(counts[1:]), *value.shape[1:])
            tensors[name] = torch.cat([value, rows])
        else:
            tensors[name] = torch.cat([values[name] for values in parts])
    anchors = with_teeth(official.anchors, part, is_skull_fitted=True)
    constants = {**anchors.tensors(), "part": part}
    tensors |= {f"anchor.{name}": value for name, value in constants.items()}
    num = part.shape[0]
    tensors |= {
        name: value.new_zeros(num) for name, value in tensors.items() if name.startswith("density.")
    }
    avatar.load_tensors(tensors)
    return avatar


def official_from_avatar(avatar: RelightableBlendshapes, step: int) -> OfficialModel:
    """What ``write_official`` needs of an avatar of appearance sh on FLAME.

    The published program carries the upper teeth with the back of the head, whatever the avatar's
    own rule; all else is part of the files.

    Args:
        avatar: With strips of teeth and colours of degree 3.
        step: Becomes the iteration.

    Raises:
        ValueError: If the avatar has something else, which the files cannot express.
    """
    model = avatar.config.model
    if avatar.head.name != "flame":
        raise ValueError(f"the published program needs FLAME, the run has {avatar.head.name}")
    if model.appearance != "sh" or model.sh_degree != _DEGREE:
        raise ValueError(
            f"the published program needs model.appearance sh and model.sh_degree {_DEGREE}, the "
            f"run has {model.appearance} and {model.sh_degree}"
        )
    values = {name: value.detach().cpu() for name, value in avatar.gaussians.items()}
    part = avatar.part.cpu()
    strips = [part == label for label in (UPPER_TEETH, LOWER_TEETH)]
    if not all(bool(rows.any()) for rows in strips):
        raise ValueError("the published program needs strips of teeth, the run has none")
    on_face = part == FACE
    neutral = set(FACE_ENTRIES) & set(TEETH_ENTRIES)
    anchors = {name: value.cpu()[on_face] for name, value in avatar.anchors.tensors().items()}
    anchors["skinning_weights"] = anchors["skinning_weights"][:, :_NUM_JOINTS]
    return OfficialModel(
        face={name: value[on_face] for name, value in values.items()},
        teeth=(
            {name: values[name][strips[0]] for name in neutral},
            {name: values[name][strips[1]] for name in neutral},
        ),
        anchors=Anchors(**anchors),
        iteration=step,
    )
