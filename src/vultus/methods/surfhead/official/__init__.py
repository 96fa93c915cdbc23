"""Checkpoints of the published SurFhead and GaussianAvatars programs, read and written."""

from vultus.methods.surfhead.official.checkpoint import (
    OfficialAvatar,
    read_official,
    write_official,
)
from vultus.methods.surfhead.official.gaussian_avatars import (
    flatten_gaussians,
    read_gaussian_avatars,
)
from vultus.methods.surfhead.official.placing import official_splats, place_official

__all__ = [
    "OfficialAvatar",
    "flatten_gaussians",
    "official_splats",
    "place_official",
    "read_gaussian_avatars",
    "read_official",
    "write_official",
]
