"""Detectors made of ONNX models that the user has: heads (YOLOv4), poses (WHENet), mattes.

The models themselves are not part of this toolkit. What each must take and give is said at its
function; the numbers are those of the models that SphereHead's toolbox uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from vultus.data.cropping.detectors import (
    Angles,
    BoxDetector,
    MatteDetector,
    Photograph,
    PoseDetector,
)

__all__ = ["Network", "head_boxes", "head_poses", "open_network", "person_mattes"]

_BOX_HEIGHT, _BOX_WIDTH = 480, 640
_MAX_OVERLAP = 0.5
_POSE_SIZE, _MATTE_SIZE = 224, 512
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's."""


Network = Callable[[np.ndarray], Sequence[np.ndarray]]
"""Outputs for one picture [1 3 h w] of float32."""


def open_network(path: Path) -> Network:
    """Open an ONNX model on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If onnxruntime is not installed.
        ValueError: If it cannot be read, or has several inputs.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no ONNX model here")
    try:
        runtime = import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path}: running it needs onnxruntime: pip install 'vultus[onnx]'"
        ) from error
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no other base
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ValueError(f"{path}: must have one input, got {[i.name for i in inputs]}")
    name = inputs[0].name
    return lambda pixels: session.run(None, {name: pixels})


def head_boxes(network: Network, least_confidence: float = 0.6) -> BoxDetector:
    """Find the most prominent head, by confidence times area.

    The network takes RGB in [0, 1], 480 x 640, letterboxed with zeros at the right and below, and
    gives n boxes (left, top, right, bottom in shares of that picture) and n confidences.
    """

    def detect(photo: Photograph) -> Float[Tensor, 4] | None:
        height, width = photo.rgb.shape[1:]
        scale = min(_BOX_HEIGHT / height, _BOX_WIDTH / width)
        rows, columns = max(round(scale * height), 1), max(round(scale * width), 1)
        picture = torch.zeros(1, 3, _BOX_HEIGHT, _BOX_WIDTH)
        picture[:, :, :rows, :columns] = _resized(photo.rgb, rows, columns)
        boxes, confidences = _boxes_and_confidences(network(picture.numpy()))
        is_sure = confidences >= least_confidence
        boxes, confidences = boxes[is_sure], confidences[is_sure]
        if len(boxes) == 0:
            return None
        boxes = boxes * boxes.new_tensor(2 * [_BOX_WIDTH, _BOX_HEIGHT])
        kept, sure = _without_overlaps(boxes, confidences)
        areas = (kept[:, 2:] - kept[:, :2]).clamp(min=0).prod(dim=1)
        best = kept[(areas * sure).argmax()]
        share = best.new_tensor(2 * [width / columns, height / rows])
        return (best * share).double()

    return detect


def head_poses(network: Network) -> PoseDetector:
    """Find the angles of the head that fills a picture.

    The network takes RGB normalised as ImageNet's, 224 x 224, and gives yaw, roll and pitch in
    degrees as the first three numbers of its outputs.
    """

    def detect(photo: Photograph) -> Angles | None:
        picture = _normalised(_resized(photo.rgb, _POSE_SIZE, _POSE_SIZE))
        numbers = np.concatenate([np.ravel(output) for output in network(picture.numpy())])
        if len(numbers) < 3:
            raise ValueError(f"a pose network must give three angles, got {numbers.tolist()}")
        yaw, roll, pitch = (math.radians(float(angle)) for angle in numbers[:3])
        return roll, yaw, pitch

    return detect


def person_mattes(network: Network, person: int = 15) -> MatteDetector:
    """Find where the person is.

    The network takes RGB normalised as ImageNet's, 512 x 512, and gives either one channel of
    coverage in [0, 1], or scores of several classes.

    Args:
        network: For example DeepLabv3 trained on Pascal VOC.
        person: Index of the class where there are several.
    """

    def detect(photo: Photograph) -> Float[Tensor, "1 h w"] | None:
        picture = _normalised(_resized(photo.rgb, _MATTE_SIZE, _MATTE_SIZE))
        scores = torch.from_numpy(np.asarray(network(picture.numpy())[0]))
        if scores.ndim != 4 or scores.shape[0] != 1:
            raise ValueError(f"a matte network must give [1 c h w], got {tuple(scores.shape)}")
        if scores.shape[1] > 1:
            scores = (scores.argmax(dim=1, keepdim=True) == person).float()
        height, width = photo.rgb.shape[1:]
        matte = interpolate(scores.float(), size=(height, width), mode="bilinear")
        return matte[0].clamp(0.0, 1.0)

    return detect


def _boxes_and_confidences(
    outputs: Sequence[np.ndarray],
) -> tuple[Float[Tensor, "n 4"], Float[Tensor, " n"]]:
    """Tell the two outputs apart; scores of several classes count with the largest."""
    found: Mapping[bool, Tensor] = {
        np.shape(output)[-1] == 4: torch.from_numpy(np.asarray(output, np.float32))
        for output in outputs
    }
    if len(found) != 2:
        shapes = [np.shape(output) for output in outputs]
        raise ValueError(f"a head detector must give boxes and confidences, got {shapes}")
    boxes = found[True].reshape(-1, 4)
    confidences = found[False]
    return boxes, confidences.reshape(len(boxes), -1).amax(dim=1)


def _without_overlaps(
    boxes: Float[Tensor, "n 4"], confidences: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "m 4"], Float[Tensor, " m"]]:
    """Keep the surest of boxes that overlap by more than half."""
    kept: list[int] = []
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    for index in confidences.argsort(descending=True).tolist():
        others = boxes[kept]
        low = torch.maximum(others[:, :2], boxes[index, :2])
        high = torch.minimum(others[:, 2:], boxes[index, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        if bool((shared <= _MAX_OVERLAP * (areas[kept] + areas[index] - shared)).all()):
            kept.append(index)
    return boxes[kept], confidences[kept]


def _resized(rgb: Float[Tensor, "3 h w"], height: int, width: int) -> Float[Tensor, "1 3 a b"]:
    size = (height, width)
    return interpolate(rgb[None].float(), size=size, mode="bilinear", antialias=True)


def _normalised(picture: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
    mean, std = (picture.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return (picture - mean) / std
