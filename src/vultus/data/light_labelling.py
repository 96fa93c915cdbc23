"""Give an image set labels of light, estimated from pictures of normals and albedo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.image_io import decode_image
from vultus.core.progress import track
from vultus.core.srgb import LUMINANCE, srgb_to_linear
from vultus.core.threads import map_in_threads
from vultus.data.image_archive import ImageArchive, open_archive
from vultus.data.image_set import LABEL_FILE, ImageSet, matching_names, open_image_set
from vultus.data.light_estimation import (
    EstimatedLight,
    NormalAxes,
    decode_normals,
    estimate_light,
)
from vultus.data.light_labels import RGB_LIGHT_FILE, unlit_label_content, write_light_labels

__all__ = ["LabelledLights", "LightLabelling", "plan_light_labels"]


@dataclass(frozen=True)
class LabelledLights:
    """What was written."""

    files: tuple[Path, ...]
    explained: float
    """Median share of the variance of a picture that its light explains."""


@dataclass(frozen=True)
class LightLabelling:
    """A set, and pictures of its surfaces, whose names were checked."""

    images: ImageSet
    normals: ImageArchive
    normal_names: tuple[str, ...]
    axes: NormalAxes
    albedo: ImageArchive | None
    albedo_names: tuple[str, ...]
    """In the order of the images; empty without albedo."""
    content: Mapping[str, Any]
    """Of the set's label file."""

    def write(self) -> LabelledLights:
        """Estimate all lights, then write both label files.

        Raises:
            ValueError: If a picture is damaged, of another size, or says too little; names it.
        """
        found = list(track(self._estimates(), len(self.images), "estimating lights", "images"))
        colored = torch.stack([each.light for each in found])
        mono = colored @ torch.tensor(LUMINANCE)
        tables = {RGB_LIGHT_FILE: colored.flatten(1), LABEL_FILE: mono}
        files = write_light_labels(self.images, self.content, tables, "camera")
        shares = torch.tensor([each.explained for each in found])
        return LabelledLights(files, float(shares.median()))

    def _estimates(self) -> Iterator[EstimatedLight]:
        return map_in_threads(self._estimate, range(len(self.images)))

    def _estimate(self, index: int) -> EstimatedLight:
        pixels = self.images.pixels(index).float() / 255.0
        mask = pixels[3:] if self.images.has_masks else torch.ones_like(pixels[:1])
        picture = self._decode(self.normals, self.normal_names[index])
        normals = decode_normals(picture, self.axes, self.images.labels[index])
        albedo = None
        if self.albedo is not None:
            albedo = srgb_to_linear(self._decode(self.albedo, self.albedo_names[index]))
        try:
            return estimate_light(pixels[:3], normals, mask, albedo)
        except ValueError as error:
            raise ValueError(f"{self.images.path}: {self.images.names[index]}: {error}") from error

    def _decode(self, archive: ImageArchive, name: str) -> Float[Tensor, "3 s s"]:
        where, size = f"{archive.path}: {name}", self.images.size
        pixels = decode_image(archive.read(name), where)
        if pixels.shape != (3, size, size):
            raise ValueError(
                f"{where} must have 3 channels of {size} x {size}, got {tuple(pixels.shape)}"
            )
        return pixels.float() / 255.0


def plan_light_labels(
    source: Path,
    normals: Path,
    *,
    albedo: Path | None = None,
    masks: Path | None = None,
    axes: NormalAxes = "camera",
    replace: bool = False,
) -> LightLabelling:
    """Check the names of a labelling without writing anything.

    Args:
        source: Folder of an image set.
        normals: Folder or archive of pictures of normals, under the names of the images.
        albedo: The same of albedo, display-encoded.
        masks: Of images without alpha channel; by default those beside them, if there are any.
        axes: Of the normals.
        replace: Replace lights that the set has.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If the set is no folder, has lights already, or an image lacks its normals or
            albedo.
    """
    images = open_image_set(source, masks, alpha="mask")
    content = unlit_label_content(images, replace=replace)
    of_normals, of_albedo = open_archive(normals), None if albedo is None else open_archive(albedo)
    names, albedo_names = images.names, ()
    if of_albedo is not None:
        albedo_names = matching_names(names, of_albedo, "albedo")
    return LightLabelling(
        images,
        of_normals,
        matching_names(names, of_normals, "picture of normals"),
        axes,
        of_albedo,
        albedo_names,
        content,
    )
