"""Features of images from a network that was never trained.

Its filters are random, and always the same. Distances between sets of images in these features tell
gross differences of colour, texture and layout; they are not comparable with any number that is
measured with a trained network.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, leaky_relu

from vultus.core.seeding import torch_generator
from vultus.nets.stylegan2.filters import resize_antialiased

__all__ = ["RandomFeatures"]

_SIZE = 64
_CHANNELS = (3, 16, 32, 32, 32)
_SLOPE = 0.2
_LAYOUT_CELLS = 2


class RandomFeatures(nn.Module):
    """Four layers at halving sizes; means and deviations of each, and the layout of the last."""

    num_features = 2 * sum(_CHANNELS[1:]) + _LAYOUT_CELLS**2 * _CHANNELS[-1]

    def __init__(self) -> None:
        """Draw the filters, from a seed of their own."""
        super().__init__()
        generator = torch_generator(0, "random_features/1")
        for level, (before, after) in enumerate(pairwise(_CHANNELS)):
            weight = torch.randn(after, before, 3, 3, generator=generator)
            # Every second filter is blind to constant colours, and so sees faint texture.
            weight[::2] -= weight[::2].mean(dim=(2, 3), keepdim=True)
            self.register_buffer(f"weight{level}", weight * (2.0 / (9 * before)) ** 0.5)

    def forward(self, images: Float[Tensor, "b 3 _h _w"]) -> Float[Tensor, "b d"]:
        """Describe square images in [0, 1]."""
        x = resize_antialiased(2.0 * images - 1.0, _SIZE)
        parts = []
        for weight in self.buffers():
            x = leaky_relu(conv2d(x, weight, padding=1), _SLOPE)
            parts += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
            x = avg_pool2d(x, 2)
        parts.append(avg_pool2d(x, x.shape[-1] // _LAYOUT_CELLS).flatten(1))
        return torch.cat(parts, dim=1)
