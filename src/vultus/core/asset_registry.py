"""Files that cannot be shipped: what they are, where to get them, and where they are kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vultus.core.asset_checks import (
    check_arrays,
    check_flame_masks,
    check_flame_model,
    check_onnx_model,
    check_template_mesh,
    check_weights,
)
from vultus.core.files import atomic_path, file_digest

__all__ = [
    "ASSETS",
    "AssetSpec",
    "AssetStatus",
    "asset_spec",
    "assets_path",
    "find_asset",
    "has_asset",
    "import_asset",
    "import_command",
    "list_assets",
]

_VARIABLE = "VULTUS_ASSETS"
_CHUNK = 1 << 20
_FLAME_SITE = "https://flame.is.tue.mpg.de (account needed)"
_FLAME_LICENCE = "set by its authors, see the download page"
_LPIPS_SITE = "https://github.com/richzhang/PerceptualSimilarity, lpips/weights/v0.1"


@dataclass(frozen=True)
class AssetSpec:
    """One file that the user imports."""

    name: str
    description: str
    enables: str
    published: str
    """Where its authors publish it."""
    licence: str
    file_name: str
    """Name of the published file, kept in the store."""
    check: Callable[[Path], None]
    """Raises ValueError, naming the file, unless it can be read as what it should be."""
    sha256: str | None = None
    """The published digest, or the leading digits that are published; None if none are."""


@dataclass(frozen=True)
class AssetStatus:
    """An asset, and where it is if it was imported."""

    spec: AssetSpec
    path: Path | None


ASSETS: dict[str, AssetSpec] = {
    spec.name: spec
    for spec in (
        AssetSpec(
            name="flame2020",
            description="FLAME 2020 head model",
            enables="the flame head of captures tracked with FLAME 2020",
            published=_FLAME_SITE,
            licence=_FLAME_LICENCE,
            file_name="generic_model.pkl",
            check=check_flame_model,
        ),
        AssetSpec(
            name="flame2023",
            description="FLAME 2023 head model",
            enables="the flame head of captures tracked with FLAME 2023",
            published=_FLAME_SITE,
            licence=_FLAME_LICENCE,
            file_name="flame2023.pkl",
            check=check_flame_model,
        ),
        AssetSpec(
            name="flame_masks",
            description="vertex regions of FLAME",
            enables="regions of the flame head (teeth, eyes, neck, boundary)",
            published=_FLAME_SITE,
            licence=_FLAME_LICENCE,
            file_name="FLAME_masks.pkl",
            check=check_flame_masks,
        ),
        AssetSpec(
            name="flame_uv",
            description="texture coordinates of FLAME",
            enables="textures, shading and exports of the flame head",
            published=_FLAME_SITE,
            licence=_FLAME_LICENCE,
            file_name="head_template_mesh.obj",
            check=check_template_mesh,
        ),
        AssetSpec(
            name="ict_full",
            description="ICT-FaceKit head, packed, all parts and 100 identity modes",
            enables="the ict head in its full version",
            published="https://github.com/ICT-VGL/ICT-FaceKit (OBJ files, packed as .npz)",
            licence="MIT",
            file_name="ict_face_model.npz",
            check=check_arrays("neutral", "faces", "uv", "expression_q", "identity_q"),
        ),
        AssetSpec(
            name="ict_light",
            description="ICT-FaceKit head, packed, skin, eyes and teeth, 20 identity modes",
            enables="the ict head in its light version",
            published="https://github.com/ICT-VGL/ICT-FaceKit (OBJ files, packed as .npz)",
            licence="MIT",
            file_name="ict_face_light.npz",
            check=check_arrays("neutral", "faces", "uv", "expression", "identity"),
        ),
        AssetSpec(
            name="lpips_alex",
            description="linear heads of LPIPS on AlexNet",
            enables="the metric lpips_alex, together with alexnet",
            published=_LPIPS_SITE,
            licence="BSD-2-Clause",
            file_name="alex.pth",
            check=check_weights("lin0.model.1.weight", "lin4.model.1.weight"),
        ),
        AssetSpec(
            name="lpips_vgg",
            description="linear heads of LPIPS on VGG16",
            enables="the metric lpips_vgg, together with vgg16",
            published=_LPIPS_SITE,
            licence="BSD-2-Clause",
            file_name="vgg.pth",
            check=check_weights("lin0.model.1.weight", "lin4.model.1.weight"),
        ),
        AssetSpec(
            name="alexnet",
            description="AlexNet of torchvision, trained on ImageNet",
            enables="the metric lpips_alex, together with lpips_alex",
            published="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            licence="BSD-3-Clause (torchvision)",
            file_name="alexnet-owt-7be5be79.pth",
            check=check_weights("features.0.weight", "features.10.weight"),
            sha256="7be5be79",
        ),
        AssetSpec(
            name="vgg16",
            description="VGG16 of torchvision, trained on ImageNet",
            enables="the metric lpips_vgg, together with lpips_vgg, and perceptual losses",
            published="https://download.pytorch.org/models/vgg16-397923af.pth",
            licence="BSD-3-Clause (torchvision)",
            file_name="vgg16-397923af.pth",
            check=check_weights("features.0.weight", "features.28.weight"),
            sha256="397923af",
        ),
        AssetSpec(
            name="inception",
            description="Inception v3 of the FID, converted to PyTorch",
            enables="the metrics FID and KID",
            published="https://github.com/mseitzer/pytorch-fid/releases (tag fid_weights)",
            licence="Apache-2.0",
            file_name="pt_inception-2015-12-05-6726825d.pth",
            check=check_weights("Conv2d_1a_3x3.conv.weight", "fc.weight"),
        ),
        AssetSpec(
            name="face_recognition",
            description="a network of face recognition, an ONNX model of ArcFace's form: 112 x 112",
            enables="the similarity of identity over lights, of evaluate-generator gsheadrelight",
            published="https://github.com/deepinsight/insightface, or by others: any such network",
            licence="set by its authors (InsightFace: not for commercial use)",
            file_name="face_recognition.onnx",
            check=check_onnx_model,
        ),
    )
}
"""Every asset by name. The digits of digests are those in torchvision's file names."""


def assets_path() -> Path:
    """Return the folder of the store: ``VULTUS_ASSETS``, or the platform's place for user data."""
    chosen = os.environ.get(_VARIABLE, "")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "vultus" / "assets"


def asset_spec(name: str) -> AssetSpec:
    """Look an asset up.

    Raises:
        ValueError: If there is none of that name; the message lists the names.
    """
    if name not in ASSETS:
        raise ValueError(f"unknown asset {name!r}; known: {', '.join(ASSETS)}")
    return ASSETS[name]


def has_asset(name: str) -> bool:
    """Say whether an asset was imported."""
    return _stored_path(asset_spec(name)).is_file()


def find_asset(name: str) -> Path:
    """Return the path of an imported asset.

    Raises:
        FileNotFoundError: If it was not imported; says what it enables, where it is published and
            how to import it.
    """
    spec = asset_spec(name)
    path = _stored_path(spec)
    if not path.is_file():
        raise FileNotFoundError(
            f"asset {name} ({spec.description}) is missing; it enables {spec.enables}; get "
            f"{spec.file_name} from {spec.published}, then: {import_command(name)}"
        )
    return path


def import_command(name: str) -> str:
    """Return the command that imports an asset, for messages.

    Raises:
        ValueError: If the name is unknown.
    """
    return f"vultus assets import {asset_spec(name).name} FILE"


def list_assets() -> tuple[AssetStatus, ...]:
    """Return all assets and where they are."""
    stored = ((spec, _stored_path(spec)) for spec in ASSETS.values())
    return tuple(AssetStatus(spec, path if path.is_file() else None) for spec, path in stored)


def import_asset(name: str, source: Path) -> Path:
    """Check a file and copy it into the store, atomically, in place of an older one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the name is unknown, the digest is not the published one, or the file cannot
            be read as what it should be.
    """
    spec = asset_spec(name)
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist")
    digest = file_digest(source)
    if spec.sha256 is not None and not digest.startswith(spec.sha256):
        raise ValueError(
            f"{source}: SHA-256 must start with {spec.sha256}, got {digest[:16]}; get "
            f"{spec.file_name} from {spec.published}"
        )
    spec.check(source)
    target = _stored_path(spec)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        _copy(source, temporary)
        if file_digest(temporary) != digest:
            raise ValueError(f"{source} changed while it was copied")
    return target


def _stored_path(spec: AssetSpec) -> Path:
    return assets_path() / spec.name / spec.file_name


def _copy(source: Path, target: Path) -> None:
    # Not shutil.copy: the copy must not inherit a read-only mode.
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
