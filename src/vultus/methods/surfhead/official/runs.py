"""Official models as avatars of ours, which every command understands, and back."""

from __future__ import annotations

from dataclasses import replace

import torch

from vultus.data.sequence import HeadSequence
from vultus.methods.surfhead.config import SurfHeadConfig
from vultus.methods.surfhead.model import SurfHead
from vultus.methods.surfhead.official.checkpoint import OfficialAvatar
from vultus.methods.surfhead.specular import SpecularConfig

__all__ = ["avatar_from_official", "config_from_official", "official_from_avatar"]

_SAME_SUBJECT = 1e-4
"""Identity coefficients of a model and of its capture may differ by this."""


def config_from_official(official: OfficialAvatar) -> SurfHeadConfig:
    """Settings under which an official model renders as it does in its own program."""
    config = SurfHeadConfig(steps=max(official.iteration, 1))
    specular = SpecularConfig(lobes="none")
    if official.specular is not None:
        specular = SpecularConfig(
            lobes=official.specular.lobe_type,
            surfels=official.shiny_surfels,
            num_features=official.specular.num_features,
            official_quirks=True,
        )
    model = replace(
        config.model,
        rig=official.rig,
        third_edge=official.third_edge,
        sh_degree=official.surfels.sh_degree,
        detach_eyeball_geometry=official.rigid_eyeballs,
    )
    return replace(config, model=model, specular=specular)


def avatar_from_official(
    official: OfficialAvatar,
    sequence: HeadSequence,
    device: torch.device | str = "cpu",
) -> SurfHead:
    """Put an official model on the capture that it was trained on.

    The track is the model's, as fine-tuned in its training; subject and timesteps are checked.

    Args:
        official: What ``read_official`` returned.
        sequence: The same capture, with FLAME and its teeth (``published`` as in the model).
        device: Where the avatar goes.

    Raises:
        ValueError: If the capture has another head, subject or number of timesteps.
    """
    _check_capture(official, sequence)
    avatar = SurfHead(config_from_official(official), sequence, seed=0, device=device)
    surfels = official.surfels.tensors()
    num = len(official.surfels)
    fresh = avatar.tensors()
    tensors = {
        name: tensor.new_zeros(num, *tensor.shape[1:])
        for name, tensor in fresh.items()
        if name.startswith("density.")
    }
    wanted = set(fresh) - set(tensors)
    track = {f"rig.{name}": tensor for name, tensor in official.track.tensors().items()}
    network = {}
    if official.specular is not None:
        network = {f"specular.{n}": t.detach() for n, t in official.specular.named_parameters()}
    known = {**surfels, **track, **network}
    avatar.load_tensors({**tensors, **{n: t for n, t in known.items() if n in wanted}})
    return avatar


def official_from_avatar(avatar: SurfHead, step: int, *, white: bool = True) -> OfficialAvatar:
    """What ``write_official`` needs of an avatar.

    Args:
        avatar: On FLAME: official programs know no other head.
        step: Becomes the iteration.
        white: Whether the background of the capture is white.

    Raises:
        ValueError: If the head is another one.
    """
    if avatar.head.name != "flame":
        raise ValueError(f"official programs need FLAME, this avatar has head {avatar.head.name!r}")
    config = avatar.config
    return OfficialAvatar(
        surfels=avatar.bound_surfels(),
        track=avatar.track,
        rig=config.model.rig,
        third_edge=config.model.third_edge,
        iteration=step,
        specular=avatar.specular_network,
        shiny_surfels=config.specular.surfels,
        rigid_eyeballs=config.model.detach_eyeball_geometry,
        white_background=white,
    )


def _check_capture(official: OfficialAvatar, sequence: HeadSequence) -> None:
    if sequence.head.name != "flame":
        raise ValueError(f"{sequence.root}: head must be FLAME, got {sequence.head.name!r}")
    faces = sequence.head.topology.faces.shape[0]
    last = int(official.surfels.face_index.max())
    if last >= faces:
        raise ValueError(
            f"{sequence.root}: head has {faces} faces, the model uses face {last}: read the "
            "capture with the teeth that the model has"
        )
    if len(sequence.pose) != len(official.track):
        raise ValueError(
            f"{sequence.root}: has {len(sequence.pose)} timesteps, the model {len(official.track)}"
        )
    mine, theirs = sequence.pose.identity_coeffs, official.track.identity_coeffs
    if mine is None or theirs is None:
        return
    is_same = mine[0].shape == theirs[0].shape
    if not is_same or float((mine[0] - theirs[0]).abs().max()) > _SAME_SUBJECT:
        raise ValueError(f"{sequence.root}: identity coefficients differ: another subject?")
