"""Structural similarity of images: 11 x 11 Gaussian window, sigma 1.5, zero padding.

Backends: ``"ref"`` is separable convolution in PyTorch in the dtype and on the device of its
inputs, ``"cpu"`` a fused float32 kernel on all threads, ``"gpu"`` fused float32 Triton kernels.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.kernels.ssim import cpu, ref

__all__ = ["Backend", "ssim", "ssim_map"]

Backend = Literal["auto", "ref", "cpu", "gpu"]


def ssim_map(
    a: Float[Tensor, "*b c h w"], b: Float[Tensor, "*b c h w"], *, backend: Backend = "auto"
) -> Float[Tensor, "*b c h w"]:
    """Compare two images around every pixel; differentiable in both.

    Values lie in [-1, 1] and are 1 where the windows agree. The constants assume images in [0, 1].

    Args:
        a: First image.
        b: Second image; exchanging the two changes nothing.
        backend: ``"auto"``: ``"cpu"`` or ``"gpu"`` for float32 images, ``"ref"`` for all others.

    Raises:
        TypeError: If a backend other than ``"ref"`` gets images that are not float32 on its device.

    Reference: Wang et al., Image quality assessment, 2004, eq. 13; zero padding as in 3DGS.
    """
    places = {(x.dtype, x.device.type) for x in (a, b)}
    if backend == "gpu" or (backend == "auto" and places == {(torch.float32, "cuda")}):
        # Triton must not be needed where there is no GPU.
        from vultus.kernels.ssim import gpu

        return gpu.ssim_map(a, b)
    is_native = places == {(torch.float32, "cpu")}
    if backend == "cpu" and not is_native:
        raise TypeError(
            'backend="cpu" needs float32 images on the CPU, got '
            f"{a.dtype} on {a.device} and {b.dtype} on {b.device}"
        )
    if backend == "ref" or not is_native:
        return ref.ssim_map(a, b)
    return cpu.ssim_map(a, b)


def ssim(
    a: Float[Tensor, "*b c h w"], b: Float[Tensor, "*b c h w"], *, backend: Backend = "auto"
) -> Float[Tensor, ""]:
    """Average ``ssim_map`` over everything; arguments and errors are the same."""
    # The gradient of a sum stays one number, which the GPU backend reads; that of a mean is a map.
    return ssim_map(a, b, backend=backend).sum() / a.numel()
