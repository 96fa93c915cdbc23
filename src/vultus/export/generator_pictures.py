"""Pictures of generated heads: views as sheets, and one by one as a set of labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from vultus.core.files import atomic_path
from vultus.core.image_io import write_image
from vultus.export.pictures import contact_sheet, depth_picture, depth_range, normal_picture
from vultus.methods.generated_heads import GeneratorOutput, HeadView

__all__ = ["mixing_sheet", "picture_of_head", "save_outputs", "view_column", "view_sheet"]

_NUMBERS: tuple[GeneratorOutput, ...] = ("depth", "normals")
_OPAQUE = 0.5


def picture_of_head(
    seen: HeadView, output: GeneratorOutput, bounds: tuple[float, float] | None = None
) -> Float[Tensor, "3 h w"]:
    """One output as a picture of the size of the final image.

    Args:
        seen: What was rendered.
        output: What is shown.
        bounds: Nearest and farthest depth of the colours; by default those of the view.

    Raises:
        ValueError: If the generator makes no such output.
    """
    if output == "mask":
        picture = seen.alpha.expand(3, -1, -1)
    elif output == "depth":
        picture = depth_picture(seen.depth, seen.alpha, bounds)
    elif output == "normals":
        normals = seen.normals()
        is_seen = (seen.alpha > _OPAQUE) & (normals != 0).any(dim=0)
        picture = normal_picture(normals, is_seen.float())
    else:
        picture = getattr(seen, output)
        if picture is None:
            raise ValueError(f"outputs must be made by the generator, which makes no {output}")
    size = seen.rgb.shape[-1]
    return interpolate(picture[None], size=(size, size), mode="nearest-exact")[0]


def view_sheet(
    views: Sequence[HeadView], outputs: Sequence[GeneratorOutput]
) -> Float[Tensor, "3 h w"]:
    """A row for each output, a column for each view; all depths have the same colours."""
    return contact_sheet(_pictures(views, outputs))


def view_column(
    views: Sequence[HeadView], outputs: Sequence[GeneratorOutput]
) -> Float[Tensor, "3 h w"]:
    """All views of the first output under each other, then those of the next."""
    return contact_sheet([[picture] for row in _pictures(views, outputs) for picture in row])


def save_outputs(
    seen: HeadView, folder: Path, name: str, outputs: Sequence[GeneratorOutput]
) -> None:
    """Write each output as ``<output>/<name>.png``; depth and normals as ``.npy`` [c n n] too."""
    for output in outputs:
        path = folder / output / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, picture_of_head(seen, output))
        if output in _NUMBERS:
            numbers = seen.depth if output == "depth" else seen.normals()
            with atomic_path(path.with_suffix(".npy")) as temporary:
                np.save(temporary, numbers.numpy())


def mixing_sheet(
    coarse: Sequence[Float[Tensor, "3 h w"]],
    fine: Sequence[Float[Tensor, "3 h w"]],
    mixed: Sequence[Sequence[Float[Tensor, "3 h w"]]],
) -> Float[Tensor, "3 sheet_h sheet_w"]:
    """Mixed people under those who gave fine styles, beside those who gave coarse ones."""
    corner = torch.ones_like(coarse[0])
    rows = [[own, *row] for own, row in zip(coarse, mixed, strict=True)]
    return contact_sheet([[corner, *fine], *rows])


def _pictures(
    views: Sequence[HeadView], outputs: Sequence[GeneratorOutput]
) -> list[list[Float[Tensor, "3 h w"]]]:
    """A row for each output."""
    bounds = _common_range(views) if "depth" in outputs else None
    return [[picture_of_head(seen, output, bounds) for seen in views] for output in outputs]


def _common_range(views: Sequence[HeadView]) -> tuple[float, float] | None:
    ranges = [depth_range(seen.depth, seen.alpha) for seen in views]
    known = [bounds for bounds in ranges if bounds is not None]
    if not known:
        return None
    return min(low for low, _ in known), max(high for _, high in known)
