import csv
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import random_images, tissue
from tests.fixtures.scripts import imported
from torchmetrics_rl2 import RL2Error, Statistics, compare
from torchmetrics_rl2.functional import resnet_l2
from torchmetrics_rl2.weights import write_weights

FOLDER = Path(__file__).parents[2] / "benchmarks" / "generators"
NAMES = ("networks", "training", "classifier", "correlation", "simulated", "evidence", "make", "judge")
KINDS = ("colon_aca", "colon_n", "lung_aca", "lung_n", "lung_scc")


@pytest.fixture(scope="module")
def scripts(paper):
    before = list(sys.path)
    with imported(FOLDER, NAMES) as found:
        yield found
    sys.path[:] = before


def sides(d=6, n=20, m=15):
    generator = Generator().manual_seed(0)
    real, fake = (torch.randn(count, d, generator=generator, dtype=torch.float64) for count in (n, m))
    return real, 1.5 * fake + 0.5


def ones(*shape):
    return np.ones(shape)


def test_distances_from_inner_products_are_those_from_features(scripts, paper):
    real, fake = sides()
    space = scripts["correlation"].Space.of(real, fake)
    plain, debiased = (space.square(ones(1, 20), ones(1, 15), unbiased)[0] for unbiased in (False, True))
    assert plain**0.5 == pytest.approx(float(resnet_l2(real, fake)))
    assert debiased**0.5 == pytest.approx(float(resnet_l2(real, fake, debiased=True)))
    assert space.frechet(ones(20), ones(15)) == pytest.approx(paper["inception"].frechet_distance(real, fake))
    cubic = scripts["correlation"].Space.of(real, fake, cubic=True)
    expected = paper["inception"].kernel_distance(real, fake)
    assert cubic.square(ones(1, 20), ones(1, 15))[0] == pytest.approx(expected)


def test_a_weight_of_two_is_an_image_twice_and_adds_no_second_image_to_an_unbiased_square(scripts):
    real, fake = sides()
    space, of = scripts["correlation"].Space.of(real, fake), scripts["correlation"].Space.of
    weights = ones(15)
    weights[:5], weights[5:8] = 2, 0
    again = torch.cat([fake[:5], fake[:5], fake[8:]])
    assert space.frechet(ones(20), weights) == pytest.approx(of(real, again).frechet(ones(20), ones(17)))
    plain = space.square(ones(1, 20), weights[None], unbiased=False)
    assert plain == pytest.approx(of(real, again).square(ones(1, 20), ones(1, 17), unbiased=False))
    assert space.square(2 * ones(1, 20), 2 * ones(1, 15)) == pytest.approx(space.square(ones(1, 20), ones(1, 15)))


def test_content_and_look_are_those_of_the_package(scripts, encoder_of_kinds):
    kinds, generator = encoder_of_kinds.kinds, Generator().manual_seed(0)
    real, fake = (torch.randn(12, 512, generator=generator) + shift for shift in (0, 0.3))
    spaces = scripts["judge"].spaces_of({"w": real}, {"w": fake}, {"w": kinds.basis})
    expected = compare(*(Statistics.of_latents(side, kinds=kinds) for side in (real, fake)))
    for name, value in (
        ("w", expected.debiased),
        ("w content", expected.content.debiased),
        ("w look", expected.look.debiased),
    ):
        square = spaces[name].square(ones(1, 12), ones(1, 12))[0]
        assert scripts["correlation"].signed_root(square) == pytest.approx(value, rel=1e-4), name


def known(scripts, shift, seen):
    """A generator whose images are shifted by so much, and in which classifiers see these kinds."""
    real = torch.randn(160, 3, generator=Generator().manual_seed(0))
    column = np.repeat([0, 0, 0, 0, 1, 1, 1, 1], 20)
    tested = np.repeat([seen], 20, 1)
    return scripts["correlation"].Generator(
        {"w": scripts["correlation"].Space.of(real, real + shift)}, column, tested, tested, column
    )


def truth_of(scripts):
    column = np.repeat([0, 0, 0, 0, 1, 1, 1, 1], 20)
    return scripts["correlation"].Truth(column, column[None], column, np.arange(160), 2)


def test_what_counts_is_computed_as_it_is_said(scripts):
    one = known(scripts, 1.0, [0, 0, 1, 1, 1, 1, 1, 1])
    found = scripts["correlation"].targets(one, truth_of(scripts), ones(160), ones(160), ones(160), [0])
    assert found == pytest.approx({"TSTR error": 1 / 4, "shares": 1 / 4, "not as asked": 1 / 4})


def test_a_metric_that_ranks_as_the_target_does_has_a_correlation_of_one(scripts):
    right = [0, 0, 0, 0, 1, 1, 1, 1]
    wrong = [right, [0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1, 1]]
    generators = [known(scripts, 0.5 * (i + 1), seen) for i, seen in enumerate(wrong)]
    arguments = truth_of(scripts), 40, 0, lambda parts, what: parts
    found = scripts["correlation"].correlations(generators, *arguments)
    for cell in found["w"].values():
        assert (cell["rho"], cell["interval"]) == (pytest.approx(1), pytest.approx([1, 1]))
    backwards = scripts["correlation"].correlations(
        [known(scripts, 0.5 * (4 - i), seen) for i, seen in enumerate(wrong)], *arguments
    )
    assert backwards["w"]["TSTR error"]["rho"] == pytest.approx(-1)


def by_kind(count=12, px=32):
    return {kind: tissue(count, px, seed) for seed, kind in enumerate(KINDS)}


def test_every_simulated_generator_gives_as_many_images_as_are_asked_for(scripts, monkeypatch):
    monkeypatch.setattr(scripts["simulated"], "FEW", 4)
    real = by_kind()
    for name, (_, make) in scripts["simulated"].GENERATORS.items():
        found = make(real, 9)
        assert tuple(found) == KINDS, name
        assert {(len(images), images.dtype) for images in found.values()} == {(9, torch.uint8)}, name
        same = all(torch.equal(found[kind], real[kind][:9]) for kind in KINDS)
        assert same == (name == "real"), name


def among(image, images):
    return bool((images == image).flatten(1).all(1).any())


def test_faults_are_what_they_are_called(scripts):
    real, made = by_kind(), scripts["simulated"]
    swapped = made.swapped(real, 9)
    assert [among(image, real["colon_aca"]) for image in swapped["colon_aca"]] == [True] * 6 + [False] * 3
    assert all(among(image, real["colon_n"]) for image in swapped["colon_aca"][6:])
    collapsed = made.collapsed(real, 4)
    assert all(among(image, real["lung_n"]) for kind in KINDS[2:] for image in collapsed[kind])
    assert not among(collapsed["lung_aca"][0], collapsed["lung_n"])
    blocks = made.shuffled(real["lung_n"])
    assert torch.equal(blocks.flatten(2).sort(2)[0], real["lung_n"].flatten(2).sort(2)[0])
    turned = made.views(real["lung_n"][:1], 8)
    assert len(turned.flatten(1).unique(dim=0)) == 8


def test_flow_matching_carries_noise_to_the_images_of_the_kind_that_is_asked_for(scripts, monkeypatch):
    training = scripts["training"]
    monkeypatch.setattr(training, "EULER_STEPS", 10)
    images = torch.cat([torch.full((8, 3, 16, 16), value, dtype=torch.uint8) for value in (40, 210)])
    tiles = training.Tiles(images, torch.arange(2).repeat_interleave(8))
    torch.manual_seed(0)
    *_, latest = training.flow(tiles, 2, training.Budget(1e9, 150), 16, (16, 16, 16, 16))
    dark, bright = latest.sample(torch.tensor([0] * 4 + [1] * 4)).float().split(4)
    assert dark.mean() < 90
    assert bright.mean() > 160


def test_archives_stay_small_and_hold_every_age(scripts, tmp_path, monkeypatch):
    make = scripts["make"]
    images = torch.cat(list(by_kind(4, 16).values()))
    monkeypatch.setattr(make, "read_tiles", lambda *_: (images, torch.arange(5).repeat_interleave(4)))
    monkeypatch.setattr(make, "LIMIT", 20_000)
    monkeypatch.setattr(scripts["training"], "EULER_STEPS", 2)
    command = f"make.py LC25000 {tmp_path} --only trained --steps 4 --batch 4 --px 16 --n 2 --tar --device cpu"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--widths", "8", "8", "8", "8"])
    make.main()
    archives = sorted(tmp_path.glob("trained_*.tar"))
    assert len(archives) > 1
    inside = []
    for path in archives:
        with tarfile.open(path) as archive:
            inside += archive.getnames()
    rows = list(csv.DictReader((tmp_path / "trained.csv").open()))
    assert inside == [f"{row['name']}/{kind}/{i}.jpg" for row in rows for kind in KINDS for i in range(2)]
    assert [row["name"] for row in rows] == [
        *(f"flow_{age}" for age in ("early", "mid", "late", "latest")),
        *(f"{name}_{age}" for name in ("vae", "gan") for age in ("early", "latest")),
    ]


@pytest.fixture
def folders(tmp_path):
    for number, name in enumerate(("a", "b", "c", "d")):
        for k, kind in enumerate(KINDS):
            (tmp_path / "made" / name / kind).mkdir(parents=True)
            for i, image in enumerate(random_images(8, 32, 10 * number + k)):
                to_pil_image(image).save(tmp_path / "made" / name / kind / f"{i}.png")
    return tmp_path / "made"


@pytest.mark.filterwarnings("ignore")
def test_one_command_judges_all_generators_and_goes_on_where_it_was_cut_off(
    scripts, folders, weights_of_kinds, tmp_path, monkeypatch, capsys
):
    def read_real(setting, splits, variants):
        kinds = torch.arange(5).repeat_interleave(6)
        return random_images(30, 224), kinds, torch.arange(30)

    for name in ("judge", "evidence"):
        monkeypatch.setattr(scripts[name], "read_real", read_real)
    monkeypatch.setattr(scripts["classifier"], "STEPS", 2)
    write_weights(weights_of_kinds, tmp_path / "kinds.safetensors")
    command = f"judge.py {folders} LC25000 --weights {tmp_path / 'kinds.safetensors'} --kept {tmp_path / 'kept'}"
    command += f" --images 4 --seeds 2 --draws 5 --device cpu --out {tmp_path / 'judged.json'}"
    monkeypatch.setattr(sys, "argv", command.split())
    scripts["judge"].main()
    first, printed = (tmp_path / "judged.json").read_text(), capsys.readouterr().out
    found = json.loads(first)
    assert set(found["generators"]) == {"a", "b", "c", "d"}
    assert "Spearman's correlation" in printed
    trained = scripts["classifier"].trained
    monkeypatch.setattr(scripts["classifier"], "trained", lambda *_: pytest.fail("trained again"))
    scripts["judge"].main()
    assert (tmp_path / "judged.json").read_text() == first
    monkeypatch.setattr(scripts["classifier"], "trained", trained)
    with pytest.raises(RL2Error, match="has no folder e; expected one of each generator"):
        scripts["judge"].folders_of(folders, ["a", "e"])
    for path in (folders / "a" / "lung_n").iterdir():
        path.unlink()
    with pytest.raises(RL2Error, match="lung_n has 0 images; expected at least 8"):
        scripts["evidence"].read_folder(folders / "a")
