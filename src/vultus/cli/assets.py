"""``vultus assets``: import files that cannot be shipped, and list what is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, subcommand

from vultus.cli.console import console, print_table
from vultus.cli.option_parser import parse_arguments
from vultus.core.asset_registry import assets_path, find_asset, import_asset, list_assets

__all__ = ["ImportAsset", "ListAssets", "WhereAsset", "main"]


@dataclass(frozen=True)
class ListAssets:
    """List all assets, what they enable and where they are published."""


@dataclass(frozen=True)
class ImportAsset:
    """Check a downloaded file and copy it into the store."""

    name: Positional[str]
    """Asset, as 'vultus assets list' names it."""
    file: Positional[Path]
    """The file as its authors publish it."""


@dataclass(frozen=True)
class WhereAsset:
    """Print the path of an imported asset."""

    name: Positional[str]
    """Asset, as 'vultus assets list' names it."""


_Command = (
    Annotated[ListAssets, subcommand("list")]
    | Annotated[ImportAsset, subcommand("import")]
    | Annotated[WhereAsset, subcommand("where")]
)


def main(arguments: list[str]) -> None:
    """Parse the arguments and run the subcommand."""
    command = parse_arguments(
        _Command,  # pyright: ignore[reportArgumentType] - tyro takes unions of annotated types
        arguments,
        prog="vultus assets",
        description="Files that cannot be shipped. They are imported from where you saved them.",
    )
    if isinstance(command, ListAssets):
        _list()
    elif isinstance(command, ImportAsset):
        console.print(f"imported: {import_asset(command.name, command.file)}")
    else:
        console.print(str(find_asset(command.name)))


def _list() -> None:
    rows = [
        [s.spec.name, "yes" if s.path else "no", s.spec.enables, s.spec.published, s.spec.licence]
        for s in list_assets()
    ]
    columns = ["asset", "here", "enables", "published at", "licence"]
    print_table("", columns, rows, note=f"store: {assets_path()}")
