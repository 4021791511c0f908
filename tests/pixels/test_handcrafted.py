import numpy as np
import scipy.ndimage
import scipy.stats
import torch

from tests.conftest import random_images
from torchmetrics_rl2.pixels import handcrafted_statistics


def test_numbers_are_those_of_numpy():
    images = random_images(3, px=40).float() / 255
    images[0] *= 0.05
    images[1] = 0.92 + 0.08 * images[1]
    found = handcrafted_statistics(images).double().numpy()
    kernel = np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    for image, numbers in zip(images.double().numpy(), found, strict=True):
        gray, expected = image.mean(0), []
        for size in (1, 2, 4):
            small = gray.reshape(40 // size, size, 40 // size, size).mean((1, 3))
            edges = scipy.ndimage.convolve(small, kernel)[1:-1, 1:-1].ravel()
            expected += [np.log(edges.var() + 1e-6), np.log1p(scipy.stats.kurtosis(edges, fisher=False))]
        density = -np.log(np.maximum(image, 1 / 255))
        expected += [*density.mean((1, 2)), *density.std((1, 2), ddof=1)]
        expected.append((image.max(0) - image.min(0)).mean())
        expected += [np.log((gray > 0.9).mean() + 1e-3), np.log((gray < 0.1).mean() + 1e-3)]
        np.testing.assert_allclose(numbers, expected, rtol=2e-2, atol=2e-3)


def test_a_flat_image_has_finite_numbers():
    for level in (0.0, 1.0):
        assert handcrafted_statistics(torch.full((1, 3, 32, 32), level)).isfinite().all()
