import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import tissue
from torchmetrics_rl2 import compare_generators, compute_statistics, score
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.images import find_images
from torchmetrics_rl2.scoring import diversity
from torchmetrics_rl2.scoring.diversity import Thumbnails
from torchmetrics_rl2.scoring.sources import ImageSource

pytestmark = pytest.mark.filterwarnings("ignore:.*(pixel for pixel|softer|sharper|differs from that|differ in size)")


def written(folder, images):
    folder.mkdir()
    for i, image in enumerate(images):
        to_pil_image(image).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Real patches, other ones, and four of these over and over, turned and a little darker."""
    folder, images = tmp_path_factory.mktemp("diversity"), tissue(60, seed=3)
    repeated = [images[30 + i % 4].rot90(i % 3, (1, 2)) - (i % 5) for i in range(32)]
    sides = {"real": images[:30], "new": images[30:], "repeated": torch.stack(repeated).clamp(min=0)}
    return {name: written(folder / name, side) for name, side in sides.items()}


def test_repeats_are_a_sentence_of_a_score(folders, encoder):
    result = score(folders["repeated"], folders["real"], weights=encoder)
    found = result.diversity
    assert (found.n, found.n_fake, found.n_real) == (30, 32, 30)
    assert (found.count, found.distinct, found.expected, found.is_lost) == (30, 4, 0, True)
    assert "diversity" not in result.withheld
    assert str(found) in str(result).splitlines()
    assert found.details() in result.details()
    assert "4 distinct images" in result._repr_html_()
    shown = json.loads(json.dumps(result.to_dict()))["diversity"]
    assert shown["is_lost"] is True
    assert shown["repeats"][0]["images"][0].startswith(str(folders["repeated"]))


def test_other_images_are_told_of_in_the_details_alone(folders, encoder):
    result = score(folders["new"], folders["real"], weights=encoder)
    assert (result.diversity.count, result.diversity.is_lost) == (0, False)
    assert "iversity" not in str(result)
    assert result.diversity.details() in result.details()


def test_sums_and_few_images_say_why_there_is_none(folders, encoder, tmp_path):
    statistics = compute_statistics(folders["real"], weights=encoder)
    mixed = [folders["real"], compute_statistics(folders["new"], weights=encoder)]
    for fake, real in ((folders["new"], statistics), (statistics, folders["new"]), (folders["new"], mixed)):
        result = score(fake, real, weights=encoder)
        assert result.diversity is None
        assert "sums" in result.withheld["diversity"]
    assert "Diversity is not judged: it needs the images of both" in score(folders["new"], weights=encoder).details()
    few = written(tmp_path / "few", tissue(19))
    Image.new("RGB", (64, 64), "white").save(few / "glass.png")
    for sides in ((few, folders["real"]), (folders["real"], few)):
        result = score(*sides, weights=encoder)
        assert result.diversity is None
        assert "there are 19 generated" in result.withheld["diversity"] or "and 19 real" in result.withheld["diversity"]


def test_glass_does_not_repeat_glass(folders, encoder, tmp_path):
    fake = shutil.copytree(folders["new"], tmp_path / "new")
    for i in range(20):
        Image.new("RGB", (64, 64), (240, 240, 235 + i)).save(fake / f"glass {i}.png")
    found = score(fake, folders["real"], weights=encoder).diversity
    assert (found.n_fake, found.count) == (30, 0)


def test_groups_of_both_sides_are_units_and_tiles_are_named(folders, encoder):
    options = {"weights": encoder, "real_groups": "file", "fake_groups": "file", "tile": 32}
    found = score(folders["repeated"], folders["real"], **options).diversity
    assert (found.units, found.n) == ("groups", 4 * 30)
    assert ", tile " in found.repeats[0].images[0]


def test_each_generator_of_a_comparison_is_told_of(folders, encoder):
    found = compare_generators([folders["repeated"], folders["new"]], folders["real"], weights=encoder)
    lost = {one.name: one.result.diversity.is_lost for one in found.generators}
    assert lost == {"repeated": True, "new": False}
    assert "repeated: Lost diversity: 30 of 30 sampled generated images" in str(found)
    assert "new: " not in str(found)


def test_a_sample_is_even_and_does_not_depend_on_batches(monkeypatch):
    monkeypatch.setattr(diversity, "MAX_IMAGES", 50)
    thumbnails = torch.rand(1000, 8, 8, generator=torch.Generator().manual_seed(0))
    thumbnails[500] = 0.1
    paths = [Path(f"{i:04}") for i in range(1000)]
    groups = {path: f"slide {path.name[0]}{path.name[1]}" for path in paths}
    samples = []
    for size in (7, 1000):
        side = Thumbnails([ImageSource("x", paths, groups)], tiled=False)
        for i in range(0, 1000, size):
            part = slice(i, i + size)
            side.see(Encoded(paths[part], torch.empty(len(paths[part]), 0), thumbnails=thumbnails[part]))
        assert torch.equal(side.images, thumbnails[[int(name) for name in side.names]])
        assert side.groups == [groups[Path(name)] for name in side.names]
        assert (side.count, len(side.names), side.names == sorted(side.names)) == (999, 50, True)
        samples.append(side.names)
    assert samples[0] == samples[1]
    assert 15 <= sum(name < "0500" for name in samples[0]) <= 35


def test_nothing_is_encoded_for_it(folders, encoder):
    seen = []
    handle = encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    score(folders["new"], folders["real"], weights=encoder)
    handle.remove()
    assert sum(seen) == len(find_images(folders["new"])) + len(find_images(folders["real"]))
