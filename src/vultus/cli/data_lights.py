"""``vultus data lights``: light labels of image sets, fitted or as estimators wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments
from vultus.data.light_estimation import NormalAxes
from vultus.data.light_labelling import plan_light_labels
from vultus.data.light_labels import LightFrame
from vultus.data.light_texts import plan_light_texts

__all__ = ["LightsOptions", "lights"]


@dataclass(frozen=True)
class LightsOptions:
    """Which set, and what is known of its surfaces."""

    source: Positional[Path]
    """Folder of the set, which gets the lights."""
    normals: Path | None = None
    """Folder or zip archive of pictures of normals (0.5 + 0.5 n), under the names of the images;
    lights are fitted to them."""
    labels: Path | None = None
    """Folder or zip archive of lights under the names of the images, as DPR writes them: .txt of 9
    numbers, or of 27, coefficient by coefficient; or a label file (.json) whose sh has them. They
    are taken as they are."""
    frame: LightFrame | None = None
    """Whose axes --labels have: those of each picture's camera, or of the head. Default: what a
    label file states, else camera."""
    albedo: Path | None = None
    """The same of albedo, display-encoded. Without it all is taken for white, and the colour of
    people for that of their light."""
    masks: Path | None = None
    """Folder or zip archive of masks; default: alpha, or seg beside img, or none."""
    axes: NormalAxes | None = None
    """Of the normals. camera (default): red to the right, green up, blue towards the camera; world:
    red to the subject's left, green up, blue out of a frontal face."""
    replace: bool = False
    """Replace lights that the set has."""
    dry_run: bool = False
    """Check names, write nothing."""


def lights(arguments: list[str]) -> None:
    """Label the light of every image."""
    options = parse_arguments(
        LightsOptions,
        arguments,
        prog="vultus data lights",
        description="Write the light of every picture of an image set into the set's label files "
        "(spherical harmonics of degree 2): fitted to normals and albedo of matte surfaces, or "
        "read from the files of an estimator. 9 numbers stand beside the cameras, 27 in "
        "dataset_rgb_sh_2.json.",
    )
    if (options.normals is None) == (options.labels is None):
        raise ValueError("--normals or --labels must say where lights come from, and not both")
    if options.labels is not None:
        _take_over(options, options.labels)
    elif options.normals is not None:
        _fit(options, options.normals)


def _take_over(options: LightsOptions, labels: Path) -> None:
    """Write lights as they are in files of others."""
    for name in ("albedo", "masks", "axes"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} needs --normals, got --labels {labels}")
    plan = plan_light_texts(options.source, labels, frame=options.frame, replace=options.replace)
    count = f"{len(plan.images)} images, {plan.lights.shape[1]} numbers each"
    if options.dry_run:
        console.print(f"would take over the lights of {count}")
        return
    console.print(f"lights of {count}: {', '.join(map(str, plan.write()))}")


def _fit(options: LightsOptions, normals: Path) -> None:
    """Estimate lights of surfaces that are known."""
    if options.frame is not None:
        raise ValueError(f"--frame needs --labels, got --normals {normals}")
    plan = plan_light_labels(
        options.source,
        normals,
        albedo=options.albedo,
        masks=options.masks,
        axes=options.axes or "camera",
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
