import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import tissue
from torchmetrics_rl2 import RL2Error, compute_statistics, score
from torchmetrics_rl2.images import find_images, read_image
from torchmetrics_rl2.scoring.copies import whitened
from torchmetrics_rl2.scoring.encoding import views_of

pytestmark = pytest.mark.filterwarnings("ignore:.*(pixel for pixel|softer|sharper|differs from that)")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Training, held-out and generated patches, of which the first four are training patches, a little darker."""
    folder = tmp_path_factory.mktemp("copies")
    images = tissue(84, seed=5)
    for side, part in zip(("train", "test", "new"), images.split(28), strict=True):
        (folder / side).mkdir()
        for i, image in enumerate(part):
            to_pil_image(image).save(folder / side / f"{i:02}.png")
    shutil.copytree(folder / "new", folder / "copied")
    for i in range(4):
        with Image.open(folder / "train" / f"{i + 10}.png") as image:
            image.point(lambda value: max(value - 2, 0)).save(folder / "copied" / f"{i:02}.png")
    return folder


def test_copies_are_part_of_a_score(folders, encoder):
    result = score(folders / "copied", folders / "train", held_out=folders / "test", weights=encoder)
    found = result.copies
    assert (found.n_fake, found.n_train, found.n_held_out, found.units) == (28, 28, 28, "images")
    closest = {(pair.image, pair.nearest) for pair in found.pairs[:4]}
    assert closest == {
        (str(folders / "copied" / f"{i:02}.png"), str(folders / "train" / f"{i + 10}.png")) for i in range(4)
    }
    assert found.count >= 3
    assert str(found) in str(result).splitlines()
    assert found.details() in result.details()
    assert json.loads(json.dumps(result.to_dict()))["copies"]["pairs"][0]["is_copy"] is True
    assert "held-out" in result._repr_html_()


def test_the_distance_is_the_same_with_and_without_held_out_images(folders, encoder):
    plain = score(folders / "new", folders / "train", weights=encoder)
    asked = score(folders / "new", folders / "train", held_out=folders / "test", weights=encoder)
    assert plain.copies is None
    assert plain.to_dict()["copies"] is None
    assert "opies" not in str(plain)
    assert (asked.value, asked.interval) == (plain.value, plain.interval)
    assert asked.copies.count == 0


def test_progress_names_the_third_set_before_the_generated_one(folders, encoder):
    told = []
    options = {"weights": encoder, "progress": lambda *of: told.append(of)}
    score(folders / "new", folders / "train", held_out=[folders / "test" / "*"], **options)
    assert list(dict.fromkeys(what for what, *_ in told)) == ["real", "held-out", "fake"]


def test_held_out_images_that_are_training_images_are_refused(folders, encoder, tmp_path):
    mixed = shutil.copytree(folders / "test", tmp_path / "mixed")
    for i in range(5):
        shutil.copy(folders / "train" / f"{i:02}.png", mixed / f"again {i}.png")
    with pytest.raises(
        RL2Error, match=r"5 of 33 held-out images are training images pixel for pixel: .*again 0\.png is"
    ):
        score(folders / "new", folders / "train", held_out=mixed, weights=encoder)


def test_what_no_copies_can_be_searched_with_is_refused(folders, encoder, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in find_images(folders / "test")[:19]:
        shutil.copy(path, few)
    Image.new("RGB", (64, 64), "white").save(few / "glass.png")
    train, test, fake = (folders / name for name in ("train", "test", "new"))
    with pytest.raises(RL2Error, match="There are 19 held-out images, without those of one color"):
        score(fake, train, held_out=few, weights=encoder)
    with pytest.raises(RL2Error, match="There are 19 training images, given with --real, without those of one color"):
        score(fake, few, held_out=train, weights=encoder)
    (few / "glass.png").unlink()
    read = []
    with pytest.raises(RL2Error, match=r"There are 19 held-out images\. The search"):
        score(fake, train, held_out=few, weights=encoder, progress=lambda *told: read.append(told))
    assert read == []
    with pytest.raises(RL2Error, match="There is 1 held-out image. The search"):
        score(fake, train, held_out=min(few.iterdir()), weights=encoder)
    with pytest.raises(RL2Error, match="there are none of these. Give them with --real"):
        score(fake, held_out=test, weights=encoder)
    statistics = compute_statistics(train, weights=encoder)
    for real, held_out in ((statistics, test), (train, statistics)):
        with pytest.raises(RL2Error, match="copies are searched image by image"):
            score(fake, real, held_out=held_out, weights=encoder)


def test_other_sizes_and_slides_on_both_sides_are_told(folders, encoder, tmp_path):
    for path in find_images(folders / "test"):
        with Image.open(path) as image:
            image.resize((72, 72)).save(tmp_path / path.name)
    with pytest.warns(UserWarning, match="Held-out and generated images differ in size, 72 x 72 against 64 x 64"):
        score(folders / "new", folders / "train", held_out=tmp_path, weights=encoder)
    rows = [f"{path},{i % 7}" for name in ("train", "test") for i, path in enumerate(find_images(folders / name))]
    (tmp_path / "slides.csv").write_text("\n".join(["path,group", *rows]))
    with pytest.warns(UserWarning, match="7 of 7 groups of held-out images have training images too, 0, 1, 2 for one"):
        score(
            folders / "new",
            folders / "train",
            held_out=folders / "test",
            weights=encoder,
            real_groups=tmp_path / "slides.csv",
        )


def test_glass_is_no_copy_of_glass(folders, encoder, tmp_path):
    sides = [shutil.copytree(folders / name, tmp_path / name) for name in ("new", "train")]
    for side in sides:
        Image.new("RGB", (64, 64), "white").save(side / "glass.png")
    found = score(*sides, held_out=folders / "test", weights=encoder).copies
    assert (found.n_fake, found.n_train, found.count) == (28, 28, 0)
    assert not any(Path(pair.image).stem == "glass" for pair in found.pairs)


def test_groups_of_all_three_sides_are_units(folders, encoder):
    options = {"weights": encoder, "real_groups": "file", "fake_groups": "file"}
    found = score(folders / "new", folders / "train", held_out=folders / "test", **options).copies
    assert found.units == "groups"
    assert "if images are independent" not in str(found)


def test_tiles_are_named(folders, encoder):
    found = score(folders / "copied", folders / "train", held_out=folders / "test", weights=encoder, tile=32).copies
    assert found.n_fake == 4 * 28
    assert ", tile " in found.pairs[0].image
    assert ", tile " in found.pairs[0].nearest


def test_views_are_the_images_and_the_same_softened(folders, encoder):
    images = torch.stack([read_image(path) for path in find_images(folders / "new")[:3]])
    plain, soft = views_of(encoder, images)
    assert torch.equal(plain, encoder(images))
    sharp, noisy = (
        encoder(one) for one in (images, (images.int() + 6 * torch.randn(images.shape)).clamp(0, 255).byte())
    )
    _, soft_noisy = views_of(encoder, (images.int() + 6 * torch.randn(images.shape)).clamp(0, 255).byte())
    assert (soft_noisy - soft).norm() < 0.7 * (noisy - sharp).norm()


def test_softened_views_are_spread_alike_in_all_directions():
    z = torch.randn(400, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10, 100, 1000])
    train, held_out, _ = whitened([z, z], [z[:50], z[:50]], [z[:50], z[:50]])
    assert torch.equal(train[0], z)
    assert train[1].std(0).max() / train[1].std(0).min() < 100  # of 1,000; the covariance is shrunk
    assert torch.allclose(train[1][:50], held_out[1])
    everything, *_ = whitened([z, z], [z, z], [z, z], plain=True)
    assert torch.equal(everything[0], everything[1])
