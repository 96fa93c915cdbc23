"""``vultus data lights``: light labels of image sets from pictures of normals and albedo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from vultus.cli.console import console
from vultus.data.light_estimation import NormalAxes
from vultus.data.light_labelling import plan_light_labels

__all__ = ["LightsOptions", "lights"]


@dataclass(frozen=True)
class LightsOptions:
    """Which set, and what is known of its surfaces."""

    source: Positional[Path]
    """Folder of the set, which gets the lights."""
    normals: Path
    """Folder or zip archive of pictures of normals (0.5 + 0.5 n), under the names of the images."""
    albedo: Path | None = None
    """The same of albedo, display-encoded. Without it all is taken for white, and the colour of
    people for that of their light."""
    masks: Path | None = None
    """Folder or zip archive of masks; default: alpha, or seg beside img, or none."""
    axes: NormalAxes = "camera"
    """Of the normals. camera: red to the right, green up, blue towards the camera; world: red to
    the subject's left, green up, blue out of a frontal face."""
    replace: bool = False
    """Replace lights that the set has."""
    dry_run: bool = False
    """Check names, write nothing."""


def lights(arguments: list[str]) -> None:
    """Estimate the light of every image."""
    options = tyro.cli(
        LightsOptions,
        args=arguments,
        prog="vultus data lights",
        description="Fit the light of every picture of an image set to its normals and albedo "
        "(spherical harmonics of degree 2 on matte surfaces), and write it into the set's label "
        "files: 9 numbers beside the cameras, 27 in dataset_rgb_sh_2.json.",
    )
    plan = plan_light_labels(
        options.source,
        options.normals,
        albedo=options.albedo,
        masks=options.masks,
        axes=options.axes,
        replace=options.replace,
    )
    if options.dry_run:
        console.print(f"would estimate the lights of {len(plan.images)} images")
        return
    written = plan.write()
    console.print(
        f"lights of {len(plan.images)} images, which explain {written.explained:.0%} of a picture "
        f"(median): {', '.join(map(str, written.files))}"
    )
