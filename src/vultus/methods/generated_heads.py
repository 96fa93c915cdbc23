"""What commands know about a generator: it draws people, makes their heads, and looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera
from vultus.geometry.depth import depth_to_normals
from vultus.geometry.meshes import TriangleMesh
from vultus.methods.head_views import ViewRig
from vultus.methods.people import Between, People

__all__ = ["CarvedHead", "GeneratorOutput", "HeadCarver", "HeadT", "HeadView", "PeopleSampler"]

GeneratorOutput = Literal["rgb", "raw", "depth", "mask", "normals", "parts", "albedo", "shading"]
"""Image, image before super-resolution, depth in colours, how much is head, normals of the depth,
semantic classes in colours; colour in even light, and light on a white head."""

HeadT = TypeVar("HeadT")
"""A head of one generator."""


@dataclass(frozen=True)
class HeadView:
    """A head from one camera, on the CPU; pictures lie in [0, 1]."""

    rgb: Float[Tensor, "3 h w"]
    alpha: Float[Tensor, "1 n n"]
    """How much of a pixel is head."""
    depth: Float[Tensor, "1 n n"]
    """Camera z; what is not head has none that means anything."""
    camera: Camera
    """Of the depth, offset included."""
    raw: Float[Tensor, "3 n n"] | None = None
    parts: Float[Tensor, "3 n n"] | None = None
    """Colours of semantic classes."""
    albedo: Float[Tensor, "3 h w"] | None = None
    shading: Float[Tensor, "3 h w"] | None = None

    def normals(self) -> Float[Tensor, "3 n n"]:
        """World normals of the depth; zero where there are none, as at the border."""
        return depth_to_normals(self.depth[None], self.camera)[0]


@dataclass(frozen=True)
class CarvedHead:
    """A head on a grid, on the CPU."""

    density: Float[Tensor, "x y z"]
    """At ``geometry.isosurface.grid_points``, in the measure of the method."""
    mesh: TriangleMesh | None
    """The surface with normals and colours, in world units, if it was asked for."""


@runtime_checkable
class PeopleSampler(Protocol[HeadT]):
    """A generator with all that decides on its images.

    Images of a person depend neither on who else is generated nor on the number of views.
    """

    @property
    def rig(self) -> ViewRig:
        """Where cameras stand."""
        ...

    @property
    def device(self) -> torch.device:
        """Where heads are made."""
        ...

    @property
    def style_shape(self) -> tuple[int, int]:
        """Styles of a person, and numbers of a style."""
        ...

    @property
    def outputs(self) -> tuple[GeneratorOutput, ...]:
        """What its views show."""
        ...

    @property
    def shows_all_sides(self) -> bool:
        """Whether heads have a back that is meant to be seen."""
        ...

    @property
    def depth_bounds(self) -> tuple[float, float]:
        """Least and largest depth that heads have in frontal views."""
        ...

    @property
    def description(self) -> str:
        """What it is, in a few words."""
        ...

    def people(self, seeds: Sequence[int]) -> People:
        """People of seeds."""
        ...

    def people_of_styles(self, ws: Float[Tensor, "b n w"]) -> People:
        """People of styles as they are, without truncation."""
        ...

    def way(self, keys: People, times: Float[Tensor, " t"], between: Between = "w") -> People:
        """Go around the closed path through people; see ``people.way_through``."""
        ...

    def head(self, person: People) -> HeadT:
        """Make the head of one person."""
        ...

    def look(self, head: HeadT, label: Float[Tensor, "1 25"]) -> HeadView:
        """Render one view."""
        ...


@runtime_checkable
class HeadCarver(Protocol):
    """A generator whose heads become surfaces."""

    @property
    def length(self) -> float:
        """Side of the cube around the origin that is sampled."""
        ...

    def carve(self, person: People, *, has_mesh: bool) -> CarvedHead:
        """Sample the head of one person.

        Raises:
            ValueError: If a mesh is asked for and no part of the cube is dense enough.
        """
        ...
