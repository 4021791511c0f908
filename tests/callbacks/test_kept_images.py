import torch

from tests.conftest import random_images
from torchmetrics_rl2.callbacks.kept_images import MAX_PX, KeptImages


def first_pixel(images):
    """A latent that tells which image it is of."""
    return images[:, :1, 0, 0].double()


def numbered(count):
    """Images of one value each."""
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)


def test_each_latent_is_that_of_its_image():
    kept = KeptImages(10, 0)
    for batch in numbered(200).split(7):
        kept.see(batch, first_pixel)
    assert (kept.seen, len(kept.images), kept.latents.shape) == (200, 10, (10, 1))
    assert [int(image[0, 0, 0]) for image in kept.images] == kept.latents[:, 0].tolist()


def test_few_images_are_all_kept_in_order():
    kept = KeptImages(10, 0)
    assert kept.latents.shape == (0, 0)
    for batch in numbered(9).split(4):
        kept.see(batch, first_pixel)
    assert kept.latents[:, 0].tolist() == list(range(9))


def test_each_image_is_as_likely_as_any_other():
    counts = torch.zeros(40)
    for seed in range(400):
        kept = KeptImages(10, seed)
        for batch in numbered(40).split(6):
            kept.see(batch, first_pixel)
        counts[kept.latents[:, 0].long()] += 1
    expected = 400 * 10 / 40
    chi_squared = ((counts - expected) ** 2 / (expected * (1 - 10 / 40))).sum() * 39 / 40
    assert chi_squared < 72.1  # the 99.9 % quantile at 39 degrees of freedom


def test_only_images_that_are_drawn_are_encoded():
    encoded = []
    kept = KeptImages(5, 0)
    for batch in numbered(250).split(10):
        kept.see(batch, lambda images: encoded.append(len(images)) or first_pixel(images))
    assert 5 <= sum(encoded) < 50


def test_draws_are_the_same_each_time_and_leave_those_of_training_alone():
    before = torch.get_rng_state()
    found = []
    for _ in range(2):
        kept = KeptImages(5, 3)
        kept.see(numbered(100), first_pixel)
        found.append(kept.latents)
    assert torch.equal(*found)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_image_keeps_no_others_of_its_batch_in_memory():
    kept = KeptImages(3, 0)
    kept.see(random_images(50, px=32), first_pixel)
    assert [image.untyped_storage().nbytes() for image in kept.images] == [3 * 32 * 32] * 3


def test_images_are_kept_as_small_pixels():
    kept = KeptImages(5, 0)
    kept.see(random_images(1, px=64).float() / 255, first_pixel)
    kept.see(torch.full((1, 3, 600, 300), 2.0), first_pixel)
    kept.see(torch.full((1, 3, 32, 32), torch.nan), first_pixel)
    assert torch.equal(kept.images[0], random_images(1, px=64)[0])
    assert (kept.images[1].shape, kept.images[1].dtype) == ((3, MAX_PX, MAX_PX // 2), torch.uint8)
    assert (int(kept.images[1].min()), int(kept.images[2].max())) == (255, 0)
