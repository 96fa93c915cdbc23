"""What follows the convolution of a styled layer, and how its image doubles: one launch each.

A layer ends with demodulation, noise, bias, leaky ReLU and clamp; the next layer begins by scaling
channels with its styles. Written one by one these are eight passes over the features, here it is
one. Channels lie side by side in memory (``torch.channels_last``); features may have half
precision, sums are float32.

Reference: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, sec. 2.2.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.kernels.dispatch import are_for_kernels, are_where_kernels_run
from vultus.kernels.styled_layer import ref

__all__ = ["Backend", "add_doubled", "finish_layer"]

Backend = Literal["auto", "ref", "gpu"]


def finish_layer(
    x: Float[Tensor, "b k _h _w"],
    scale: Float[Tensor, "b c"],
    bias: Float[Tensor, " c"],
    noise: Float[Tensor, "*n h w"] | None = None,
    noise_strength: Float[Tensor, ""] | None = None,
    next_styles: Float[Tensor, "b c"] | None = None,
    *,
    is_doubling: bool = False,
    keeps: bool = True,
    clamp: float | None = None,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "b c h w"] | None, Float[Tensor, "b c h w"] | None]:
    """Turn the result of a convolution into the layer's output; differentiable once.

    With a leaky ReLU l of slope 0.2, y = clamp(sqrt(2) l(scale x + strength noise + bias)).

    Args:
        x: Convolved features. When doubling, 4 c channels: c for each pixel of two by two, those
            of the upper row first.
        scale: Factors of each image's channels (demodulation).
        bias: Of the channels.
        noise: An image, or one for each image (b 1 h w), of the size of the output.
        noise_strength: Its factor; comes with ``noise``.
        next_styles: Factors of the second result.
        is_doubling: Lay groups of channels out as pixels.
        keeps: Return y itself.
        clamp: Largest absolute value of y.
        backend: ``auto`` takes gpu for float32 factors on a GPU, else ref.

    Returns:
        y, or None without ``keeps``; y times ``next_styles``, or None without them. Both have the
        dtype of ``x``.

    Raises:
        ValueError: If the channels do not match, or nothing is asked for.
        TypeError: If the backend does not support device or dtype.
    """
    channels = x.shape[1] // 4 if is_doubling else x.shape[1]
    if channels * (4 if is_doubling else 1) != x.shape[1] or scale.shape[1] != channels:
        raise ValueError(
            f"x must have {'4 channels' if is_doubling else 'a channel'} for each of the "
            f"{scale.shape[1]} in scale, got {x.shape[1]}"
        )
    if not keeps and next_styles is None:
        raise ValueError("keeps must be True without next_styles")
    if (noise is None) != (noise_strength is None):
        raise ValueError("noise and noise_strength must come together")
    arguments = x, scale, bias, noise, noise_strength, next_styles
    options = {"is_doubling": is_doubling, "keeps": keeps, "clamp": clamp}
    if _choose(backend, is_served=are_for_kernels(scale, bias)) == "ref":
        return ref.finish_layer(*arguments, **options)
    from vultus.kernels.styled_layer import gpu  # Triton exists on Linux only.

    return gpu.finish_layer(*arguments, **options)


def add_doubled(
    image: Float[Tensor, "b c h w"], added: Float[Tensor, "b c h2 w2"], *, backend: Backend = "auto"
) -> Float[Tensor, "b c h2 w2"]:
    """Double an image by the filter (1, 3, 3, 1) and add another; differentiable once.

    Beyond its border the image is zero, as in ``nets.stylegan2.filters.upsample2d``.

    Args:
        image: The small one.
        added: The one of twice the size.
        backend: ``auto`` takes gpu on a GPU, unless the image is float64, else ref.

    Raises:
        ValueError: If the sizes do not match.
        TypeError: If the backend does not support device or dtype.
    """
    doubled = (*image.shape[:2], 2 * image.shape[2], 2 * image.shape[3])
    if added.shape != doubled:
        raise ValueError(f"added must have shape {doubled}, got {tuple(added.shape)}")
    is_served = are_where_kernels_run(image, added) and image.dtype != torch.float64
    if _choose(backend, is_served=is_served) == "ref":
        return ref.add_doubled(image, added)
    from vultus.kernels.styled_layer import gpu

    return gpu.add_doubled(image, added)


def _choose(backend: str, *, is_served: bool) -> str:
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be of {', '.join(get_args(Backend))}, got {backend!r}")
    if backend != "auto":
        return backend
    return "gpu" if is_served else "ref"
