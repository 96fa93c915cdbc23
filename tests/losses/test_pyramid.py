"""The distance of images at several sizes."""

from __future__ import annotations

import torch

from vultus.losses.pyramid import pyramid_distance


def test_equal_images_have_no_distance_and_a_constant_shift_has_no_edges():
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float(pyramid_distance(image, image)) == 0.0
    torch.testing.assert_close(pyramid_distance(image + 0.25, image), torch.tensor(0.25))


def test_a_large_stain_counts_more_than_noise_of_the_same_size():
    image = torch.zeros(1, 3, 64, 64)
    stain, speckle = image.clone(), image.clone()
    stain[:, :, 16:48, 16:48] = 1.0
    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(64 * 64, generator=generator)[: 32 * 32]
    signs = torch.arange(len(order)) % 2 * 2.0 - 1.0
    speckle.flatten(2)[:, :, order] = signs
    coarse = torch.nn.functional.avg_pool2d
    assert float(coarse(stain, 8).abs().mean()) > 5 * float(coarse(speckle, 8).abs().mean())
    stained, speckled = (
        pyramid_distance(each, image) - pyramid_distance(coarse(each, 16), coarse(image, 16))
        for each in (stain, speckle)
    )
    assert stained < speckled  # edges of noise are everywhere at full size...
    large = [pyramid_distance(coarse(each, 8), coarse(image, 8)) for each in (stain, speckle)]
    assert large[0] > 2 * large[1]  # ...and gone at an eighth


def test_tiny_images_are_compared_as_they_are():
    image = torch.rand(1, 1, 5, 7, generator=torch.Generator().manual_seed(2))
    expected = image.abs().mean() + image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean()
    torch.testing.assert_close(pyramid_distance(image, torch.zeros_like(image)), expected)
