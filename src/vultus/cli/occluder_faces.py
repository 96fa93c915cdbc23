"""``--occluder-faces``: checked against the avatar before the work, and compared with what came."""

from __future__ import annotations

from vultus.cli.console import console
from vultus.methods.relightable_blendshapes.material_appearance import MaterialAppearance

__all__ = ["check_occluder_faces", "print_occluder_faces"]


def check_occluder_faces(appearance: MaterialAppearance, wanted: int | None) -> None:
    """Refuse numbers that no mesh has, and avatars that cast no shadows.

    Raises:
        ValueError: In these cases.
    """
    if wanted is None:
        return
    if wanted < 1:
        raise ValueError(f"--occluder-faces must be positive, got {wanted}")
    if appearance.config.visibility == "none":
        raise ValueError(
            f"--occluder-faces is of avatars that cast shadows, this one has none, got {wanted}"
        )


def print_occluder_faces(wanted: int | None, reached: int) -> None:
    """Say where borders and topology left more faces than were asked for."""
    if wanted is not None and reached > wanted:
        console.print(f"{reached} faces hide light, not {wanted}: no more of them can go")
