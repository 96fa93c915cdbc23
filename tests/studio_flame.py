"""A head with FLAME's parameters for the studio to film: the real model cannot be shipped."""

from __future__ import annotations

from pathlib import Path

import torch

from fakes import FakeHead
from vultus.data.studio.capture import film
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.subject import Subject, plain_appearance
from vultus.heads.base import HeadPose, ParameterSpec

__all__ = ["StandInFlame", "film_stand_in"]

_SIZES = {"2020": (100, 50), "2023": (300, 100)}


class StandInFlame(FakeHead):
    """``FakeHead`` with the coefficients of a FLAME release; all but the first few do nothing."""

    name = "flame"

    def __init__(self, version: str = "2023", rings: int = 16, segments: int = 24) -> None:
        super().__init__(rings, segments)
        self.version = version
        self._sizes = _SIZES[version]

    @property
    def parameters_spec(self) -> tuple[ParameterSpec, ...]:
        identity, expression = self._sizes
        return (
            ParameterSpec("identity_coeffs", identity, is_static=True),
            ParameterSpec("expression_coeffs", expression),
            ParameterSpec("global_rotation", 3),
            ParameterSpec("neck_pose", 3),
            ParameterSpec("jaw_pose", 3),
            ParameterSpec("eye_pose", 6),
            ParameterSpec("translation", 3),
            ParameterSpec("static_offset", 3 * self.neutral.shape[0], is_static=True),
        )

    @property
    def expression_names(self) -> tuple[str, ...]:
        rest = range(2, self._sizes[1])
        return ("jawOpen", "mouthSmile_L", *(f"expression_{i}" for i in rest))

    def vertices(self, pose: HeadPose) -> torch.Tensor:
        identity, expression = pose.identity_coeffs, pose.expression_coeffs
        plain = HeadPose(
            identity_coeffs=None if identity is None else identity[:, :1],
            expression_coeffs=None if expression is None else expression[:, :2],
            global_rotation=_turn(pose),
            translation=pose.translation,
        )
        return super().vertices(plain)


def film_stand_in(config: StudioConfig, out: Path, version: str = "2023") -> StandInFlame:
    """Film the head; returns it for the readers."""
    head = StandInFlame(version)
    identity = torch.zeros(1, _SIZES[version][0])
    identity[0, 0] = 0.4
    film(config, out, subject=Subject(head, identity, plain_appearance(head, 0, 64)))
    return head


def _turn(pose: HeadPose) -> torch.Tensor | None:
    """The sphere has one joint: small rotations of neck and head add up."""
    turns = [turn for turn in (pose.neck_pose, pose.global_rotation) if turn is not None]
    return torch.stack(turns).sum(dim=0) if turns else None
