"""Pictures of generated heads: views as sheets, and one by one as a set of labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from vultus.core.files import atomic_path
from vultus.core.image_io import write_image
from vultus.data.camera_labels import labels_to_camera
from vultus.export.pictures import contact_sheet, depth_picture, depth_range, normal_picture
from vultus.geometry.cameras import ray_distance_to_depth
from vultus.geometry.depth import depth_to_normals
from vultus.methods.spherehead.images import HeadImages
from vultus.methods.spherehead.sampling import Head, HeadSampler
from vultus.nets.ranges import from_signed

__all__ = [
    "GeneratorOutput",
    "SeenHead",
    "look",
    "mixing_sheet",
    "picture_of_head",
    "save_outputs",
    "view_sheet",
]

GeneratorOutput = Literal["rgb", "raw", "depth", "mask", "normals"]
"""Image, image before super-resolution, distance in colours, how much is head, normals of the
depth."""

_NUMBERS: tuple[GeneratorOutput, ...] = ("depth", "normals")
_OPAQUE = 0.5


@dataclass(frozen=True)
class SeenHead:
    """A head from one camera."""

    images: HeadImages
    label: Float[Tensor, "1 25"]
    """The camera, offset included."""

    @property
    def alpha(self) -> Float[Tensor, "1 n n"]:
        """How much of a pixel is head."""
        assert self.images.mask is not None
        return self.images.mask[0].clamp(0, 1)

    def depth(self) -> Float[Tensor, "1 n n"]:
        """Camera z; what is not head has none that means anything."""
        assert self.images.depth is not None
        camera = labels_to_camera(self.label, self.images.depth.shape[-1])
        return ray_distance_to_depth(self.images.depth, camera)[0]

    def normals(self) -> Float[Tensor, "3 n n"]:
        """World normals of the depth."""
        depth = self.depth()
        return depth_to_normals(depth[None], labels_to_camera(self.label, depth.shape[-1]))[0]


def look(sampler: HeadSampler, head: Head, label: Float[Tensor, "1 25"]) -> SeenHead:
    """Render one view; the result is on the CPU."""
    images = sampler.view(head, label)
    on_cpu = {name: value.cpu() for name, value in vars(images).items() if value is not None}
    return SeenHead(replace(images, **on_cpu), sampler.seen_label(head, label).cpu())


def picture_of_head(
    seen: SeenHead, output: GeneratorOutput, bounds: tuple[float, float] | None = None
) -> Float[Tensor, "3 h w"]:
    """One output as a picture of the size of the final image.

    Args:
        seen: What was rendered.
        output: What is shown.
        bounds: Nearest and farthest depth of the colours; by default those of the view.
    """
    images = seen.images
    if output == "rgb":
        return from_signed(images.image)[0]
    if output == "raw":
        assert images.raw_image is not None
        picture = from_signed(images.raw_image)[0]
    elif output == "mask":
        picture = seen.alpha.expand(3, -1, -1)
    elif output == "depth":
        picture = depth_picture(seen.depth(), seen.alpha, bounds)
    else:
        normals = seen.normals()  # Zero where there are none, as at the border.
        is_seen = (seen.alpha > _OPAQUE) & (normals != 0).any(dim=0)
        picture = normal_picture(normals, is_seen.float())
    size = images.image.shape[-1]
    return interpolate(picture[None], size=(size, size), mode="nearest-exact")[0]


def view_sheet(
    views: Sequence[SeenHead], outputs: Sequence[GeneratorOutput]
) -> Float[Tensor, "3 h w"]:
    """A row for each output, a column for each view; all depths have the same colours."""
    bounds = _common_range(views) if "depth" in outputs else None
    return contact_sheet(
        [[picture_of_head(seen, output, bounds) for seen in views] for output in outputs]
    )


def save_outputs(
    seen: SeenHead, folder: Path, name: str, outputs: Sequence[GeneratorOutput]
) -> None:
    """Write each output as ``<output>/<name>.png``; depth and normals as ``.npy`` [c n n] too."""
    for output in outputs:
        path = folder / output / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, picture_of_head(seen, output))
        if output in _NUMBERS:
            numbers = seen.depth() if output == "depth" else seen.normals()
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


def _common_range(views: Sequence[SeenHead]) -> tuple[float, float] | None:
    ranges = [depth_range(seen.depth(), seen.alpha) for seen in views]
    known = [bounds for bounds in ranges if bounds is not None]
    if not known:
        return None
    return min(low for low, _ in known), max(high for _, high in known)
