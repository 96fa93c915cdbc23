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

__all__ = ["Backend", "l1_ssim", "ssim", "ssim_map"]

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
    if _is_for_gpu(a, b, backend):
        # Triton must not be needed where there is no GPU.
        from vultus.kernels.ssim import gpu

        return gpu.ssim_map(a, b)
    is_native = _places(a, b) == {(torch.float32, "cpu")}
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


def l1_ssim(
    a: Float[Tensor, "*b c h w"], b: Float[Tensor, "*b c h w"], *, backend: Backend = "auto"
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Average the absolute difference, and SSIM: the two terms of 3DGS's loss.

    On a GPU both come from one pass over the images, and so do their gradients. The mean of an
    empty batch is NaN.

    Args:
        a: First image.
        b: Second image; exchanging the two changes nothing.
        backend: As for ``ssim_map``; errors are the same, too.

    Reference: Kerbl et al., 3D Gaussian Splatting, 2023, eq. 7.
    """
    if _is_for_gpu(a, b, backend) and a.numel():
        from vultus.kernels.ssim import gpu

        return gpu.l1_ssim(a, b)
    return (a - b).abs().mean(), ssim(a, b, backend=backend)


def _places(a: Tensor, b: Tensor) -> set[tuple[torch.dtype, str]]:
    return {(x.dtype, x.device.type) for x in (a, b)}


def _is_for_gpu(a: Tensor, b: Tensor, backend: Backend) -> bool:
    if backend == "auto":
        return _places(a, b) == {(torch.float32, "cuda")}
    return backend == "gpu"
