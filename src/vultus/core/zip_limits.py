"""How far members of zip archives may unfold: a small file must not fill the memory."""

from __future__ import annotations

import zipfile

__all__ = ["check_expansion"]

_ALWAYS = 1 << 28
"""Bytes that any member may have."""
_RATIO = 200
"""Larger ones may have as many times what they take in the archive; zeros reach a thousand."""


def check_expansion(member: zipfile.ZipInfo) -> None:
    """Refuse a member that says it unfolds to what no file of ours does.

    Raises:
        ValueError: Naming both sizes.
    """
    if member.file_size > max(_ALWAYS, _RATIO * member.compress_size):
        raise ValueError(
            f"{member.filename[:80]!r} would unfold from {member.compress_size} to "
            f"{member.file_size} bytes"
        )
