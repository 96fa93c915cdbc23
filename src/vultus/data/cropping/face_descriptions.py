"""Descriptions of faces by a network of face recognition that the user has.

None is part of this toolkit: those that are published may not be passed on, or not be used for
everything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from vultus.data.cropping.onnx_detectors import Network

__all__ = ["FaceDescriber", "face_descriptions"]

FaceDescriber = Callable[[Float[Tensor, "b 3 s s"]], Float[Tensor, "b d"]]
"""Describes faces that fill pictures in [0, 1], with cosines that are large for one person."""

_SIZE = 112


def face_descriptions(network: Network) -> FaceDescriber:
    """Describe faces with a network of ArcFace's form.

    The network takes RGB in [-1, 1], 112 x 112, and gives the numbers of a face as its first
    output.

    Reference: Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019.
    """

    def describe(faces: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        resized = interpolate(
            faces.cpu().float(), size=(_SIZE, _SIZE), mode="bilinear", antialias=True
        )
        signed = (2.0 * resized - 1.0).numpy()
        return torch.stack([_numbers(network(face[None])[0]) for face in signed])

    return describe


def _numbers(output: np.ndarray) -> Float[Tensor, " d"]:
    numbers = torch.from_numpy(np.array(output, np.float32))
    if numbers.ndim != 2 or len(numbers) != 1:
        raise ValueError(f"a face network must give [1 d], got {tuple(numbers.shape)}")
    if not bool(numbers.isfinite().all()):
        raise ValueError("a face network must give finite numbers")
    return numbers[0]
