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
from vultus.methods.surfhead.official.runs import (
    avatar_from_official,
    config_from_official,
    official_from_avatar,
)

__all__ = [
    "OfficialAvatar",
    "avatar_from_official",
    "config_from_official",
    "flatten_gaussians",
    "official_from_avatar",
    "official_splats",
    "place_official",
    "read_gaussian_avatars",
    "read_official",
    "write_official",
]
