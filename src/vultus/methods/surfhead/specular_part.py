"""The specular part of an avatar: which surfels shine, with what colour, how fast that is learned.

``SurfHead`` renders these colours as more channels of the same pass and adds the two images:
blending is linear in colours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import Parameter

from vultus.geometry.cameras import Camera, camera_centers
from vultus.heads.base import Topology
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.specular_lobes import BlendedTurns, lobe_inputs
from vultus.methods.surfhead.shading import canonical_rotations, place_rows, rows_of, shading_of
from vultus.methods.surfhead.specular import SpecularConfig, SpecularNetwork, specular_rate
from vultus.methods.surfhead.transport import BoundSurfels, PosedFaces, PosedSurfels, RestMesh

__all__ = ["SpecularPart", "add_specular"]

_PREFIX = "specular."
_REGIONS = {"eyeballs": ("left_eyeball", "right_eyeball"), "teeth": ("teeth",)}


class SpecularPart:
    """Owns the network and the list of shiny surfels."""

    def __init__(
        self,
        config: SpecularConfig,
        topology: Topology,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        """Draw the network; ``index_surfels`` must be called before colours are asked for.

        Args:
            config: With another kind of lobes than ``none``.
            topology: Of the head; its regions say which faces shine.
            generator: Decides the weights, on the CPU.
            device: Where the network goes.

        Raises:
            ValueError: If the config asks for no lobes.
        """
        if config.lobes == "none":
            raise ValueError("specular.lobes must be sg, asg or lasg to make a network, got 'none'")
        self.config = config
        self.network = SpecularNetwork(config.lobes, config.num_features, generator).to(device)
        every = torch.ones(topology.faces.shape[0], dtype=torch.bool)
        regions = _REGIONS.get(config.surfels)
        shiny = every if regions is None else topology.face_region(*regions)
        self._shiny_faces: Bool[Tensor, " f"] = shiny.to(device)
        self.chosen: Int[Tensor, " m"] = torch.zeros(0, dtype=torch.int64, device=device)

    @property
    def num_channels(self) -> int:
        """Channels of ``colors``: one for white light, else three."""
        return 1 if self.config.lobes == "lasg" else 3

    def index_surfels(self, face_index: Int[Tensor, " n"]) -> None:
        """List the shiny surfels anew, after their number changed; waits for the device."""
        self.chosen = self._shiny_faces[face_index].nonzero()[:, 0]

    def is_active(self, step: int | None) -> bool:
        """Whether anything shines at a step; ``None`` means after training."""
        has_started = step is None or step >= self.config.start_step
        return has_started and self.chosen.shape[0] > 0

    def colors(
        self,
        features: Float[Tensor, "n d"],
        surfels: BoundSurfels,
        rest: RestMesh,
        posed: PosedFaces,
        placed: PosedSurfels,
        camera: Camera,
        rigid_surfels: Bool[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Specular colour of every surfel, zero where none shines; may be negative.

        Args:
            features: ``specular_features`` of the surfels.
            surfels: The same surfels, bound.
            rest: The canonical mesh.
            posed: Triangles of b frames.
            placed: ``transport`` of the surfels to them.
            camera: One per frame.
            rigid_surfels: As in ``transport``.
        """
        if are_for_kernels(placed.means) and not self.config.official_quirks:
            colors = self._colors_by_kernel(
                features, surfels, rest, posed, placed, camera, rigid_surfels
            )
            return place_rows(colors, self.chosen, features.shape[0])
        shading = shading_of(
            surfels,
            rest,
            posed,
            placed,
            camera_centers(camera),
            self.chosen,
            rigid_surfels,
            official_quirks=self.config.official_quirks,
        )
        chosen = features[self.chosen]
        colors = self.network(chosen, shading.view_directions, shading.normals)
        return place_rows(colors[..., : self.num_channels], self.chosen, features.shape[0])

    def _colors_by_kernel(
        self,
        features: Tensor,
        surfels: BoundSurfels,
        rest: RestMesh,
        posed: PosedFaces,
        placed: PosedSurfels,
        camera: Camera,
        rigid_surfels: Tensor | None,
    ) -> Float[Tensor, "b m c"]:
        """``colors`` of the shiny surfels; one launch makes what the network sees."""
        if posed.rotation_logs is not None and surfels.blend_weights is not None:
            turns = BlendedTurns(
                surfels.blend_weights,
                posed.rotation_logs,
                surfels.face_index,
                rest.adjacency,
                rigid_surfels,
            )
        else:
            turns = canonical_rotations(rows_of(surfels, self.chosen), rest, posed)
        inputs = lobe_inputs(
            self.network.lobe_layer(features.index_select(0, self.chosen)),
            placed.means,
            placed.normals(),
            camera_centers(camera),
            self.chosen,
            turns,
            self.network.lobe_axes,
            is_isotropic=self.network.lobe_type == "sg",
        )
        return self.network.mlp(inputs)

    # ---- training --------------------------------------------------------------------------

    def parameters(self) -> dict[str, Parameter]:
        """Weights by the names that they have in checkpoints and optimisers."""
        return {_PREFIX + name: value for name, value in self.network.named_parameters()}

    def rates(self, step: int) -> dict[str, float]:
        """Learning rates by the same names; zero before the first step with specular colour."""
        return dict.fromkeys(self.parameters(), specular_rate(step, self.config))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy weights out of a checkpoint's tensors into the network.

        Raises:
            ValueError: If one is missing or has another shape.
        """
        with torch.no_grad():
            for name, parameter in self.parameters().items():
                if name not in tensors or tensors[name].shape != parameter.shape:
                    raise ValueError(
                        f"checkpoint must have {name!r} of shape {tuple(parameter.shape)}: was it "
                        "trained with other lobes?"
                    )
                parameter.copy_(tensors[name])


def add_specular(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """Add the specular channels of a rendering, which follow the diffuse ones."""
    return image[:, :3] + image[:, 3:]
