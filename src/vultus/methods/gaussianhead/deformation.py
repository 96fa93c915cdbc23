"""The motion deformation network: where Gaussians go when the face moves (spec section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from vultus.nets.encodings import frequency_encoding, num_encoded
from vultus.nets.linear import draw_linear_weights, tf32_linear

__all__ = ["Deformation", "DeformationNetwork"]


@dataclass(frozen=True)
class Deformation:
    """Raw outputs of the network for every Gaussian of b frames."""

    means: Float[Tensor, "b n 3"]
    quats: Float[Tensor, "b n 4"]
    scales: Float[Tensor, "b n 3"]


class DeformationNetwork(nn.Module):
    """A perceptron over encoded positions and the driving vector, with one skip connection."""

    def __init__(
        self,
        driving_size: int,
        generator: torch.Generator,
        *,
        width: int = 256,
        depth: int = 8,
        skip_after: int = 4,
        num_frequencies: int = 10,
        starts_at_rest: bool = False,
        has_tf32: bool = False,
    ) -> None:
        """Draw weights.

        Args:
            driving_size: Length of the driving vector.
            generator: Decides the weights.
            width: Of every hidden layer.
            depth: Number of hidden layers.
            skip_after: Index of the layer after which the input is joined again, in front.
            num_frequencies: Of the encoding of positions.
            starts_at_rest: Zero the last layers, so that nothing moves at first.
            has_tf32: Let a GPU round factors of products; see ``nets.linear.tf32_linear``.

        Raises:
            ValueError: If there is no layer after the skip connection.
        """
        super().__init__()
        if not 0 <= skip_after < depth - 1:
            raise ValueError(f"skip_after must be 0 to {depth - 2}, got {skip_after}")
        self.num_frequencies, self.skip_after = num_frequencies, skip_after
        self.driving_size, self.has_tf32 = driving_size, has_tf32
        inputs = num_encoded(3, num_frequencies) + driving_size
        widths = [inputs, *[width] * (depth - 1)]
        widths[skip_after + 1] += inputs
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in widths)
        self.mean_head = nn.Linear(width, 3)
        self.quat_head = nn.Linear(width, 4)
        self.scale_head = nn.Linear(width, 3)
        draw_linear_weights(self, generator)
        if starts_at_rest:
            for head in (self.mean_head, self.quat_head, self.scale_head):
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def forward(
        self, positions: Float[Tensor, "n 3"], driving: Float[Tensor, "b e"]
    ) -> Deformation:
        """Deform the same Gaussians for b driving vectors; differentiable in both arguments."""
        encoded = frequency_encoding(positions, self.num_frequencies)
        hidden: Tensor | None = None  # a row per frame and Gaussian
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            if index == 0 or index == self.skip_after + 1:
                value = self._join(encoded, driving, hidden, layer)
            else:
                assert hidden is not None
                value = self._linear(hidden, layer.weight, layer.bias)
            hidden = value.relu_()
        assert hidden is not None
        heads = (self.mean_head, self.quat_head, self.scale_head)
        offsets = self._linear(
            hidden,
            torch.cat([head.weight for head in heads]),
            torch.cat([head.bias for head in heads]),
        )
        shaped = offsets.unflatten(0, (driving.shape[0], positions.shape[0]))
        return Deformation(*shaped.split([head.out_features for head in heads], dim=-1))

    def _linear(self, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return (tf32_linear if self.has_tf32 else linear)(inputs, weight, bias)

    def _join(
        self, encoded: Tensor, driving: Tensor, hidden: Tensor | None, layer: nn.Linear
    ) -> Tensor:
        """Apply a layer to encoded points, driving vectors and the hidden layer, side by side.

        What belongs to a frame is the same for all Gaussians: it makes the layer's bias.
        """
        split = [encoded.shape[1], driving.shape[1], 0 if hidden is None else hidden.shape[1]]
        of_point, of_frame, of_hidden = layer.weight.split(split, dim=1)
        biases = linear(driving, of_frame, layer.bias)
        if driving.shape[0] == 1:
            value = self._linear(encoded, of_point, biases[0])
        else:
            value = (linear(encoded, of_point) + biases[:, None]).flatten(0, 1)
        if hidden is None:
            return value
        return self._add_linear(value, hidden, of_hidden)

    def _add_linear(self, value: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        if self.has_tf32:
            return tf32_linear(inputs, weight, value)
        return torch.addmm(value, inputs, weight.t())
