import os
import signal
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Generator

from tests.fixtures.processes import Started, rl2
from torchmetrics_rl2 import LatentEncoder, RL2Error, Statistics, fit
from torchmetrics_rl2.fitting import FitSettings, Split, fit_split, split_images, training
from torchmetrics_rl2.fitting import run as fitting
from torchmetrics_rl2.fitting.card import read_card
from torchmetrics_rl2.fitting.training import FlowTraining
from torchmetrics_rl2.images import ImageReader, find_images, groups_of, read_image
from torchmetrics_rl2.quality.calibrating import beside
from torchmetrics_rl2.rank_zero import rank_zero_only
from torchmetrics_rl2.weights import read_weights

QUICK = FitSettings(layers=2, hidden=8, max_epochs=3)
SIDES = {
    "fit": {str(i) for i in range(28)},
    "stop": {"28", "29", "30", "31"},
    "reference": {str(i) for i in range(32, 40)},
}


@pytest.fixture(scope="module")
def split(patches):
    return split_images(find_images(patches))


@pytest.fixture(scope="module")
def fitted(split, weights_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("fit") / "ours.safetensors"
    result = fit_split(split, out, backbone=weights_file, settings=QUICK, card={"data": "noise"}, mpp=0.5)
    return out, result


def load(paths):
    return torch.stack([read_image(path) for path in paths])


def test_writes_weights_that_load_and_say_where_they_come_from(fitted, weights, split):
    out, result = fitted
    written = read_weights(out)
    assert result.weights_id == written.weights_id != weights.weights_id
    assert written.backbone_id == weights.backbone_id
    assert (written.preprocessing.px, written.preprocessing.mpp) == (64, 0.5)
    assert written.card["data"] == "noise"
    assert written.card["fit"]["settings"]["layers"] == 2
    assert (result.n_fit, result.n_stop, result.n_reference) == tuple(
        map(len, (split.fit, split.stop, split.reference))
    )
    assert not out.with_suffix(".fit").exists()


def test_a_single_process_writes_whatever_rank_its_environment_says(split, weights_file, tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    fit_split(split, tmp_path / "ours.safetensors", backbone=weights_file, settings=QUICK)
    assert read_weights(tmp_path / "ours.safetensors")


def test_the_reference_is_what_the_encoder_makes_of_its_images(fitted, split):
    encoder = LatentEncoder.load(fitted[0])
    latents = encoder(load(split.reference)).double()
    torch.testing.assert_close(encoder.reference.sums.sum, latents.sum(0), rtol=1e-4, atol=1e-3)
    assert encoder.reference.sums.count == len(split.reference)
    torch.testing.assert_close(
        encoder.reference.scores[:, 0], encoder.log_prob(load(split.reference)), rtol=1e-4, atol=0.1
    )


def test_groups_are_the_units_of_the_reference_and_their_names_stay_at_home(split, weights_file, tmp_path):
    groups = {path: f"patient {i % 5}" for side in vars(split).values() for i, path in enumerate(side)}
    out = tmp_path / "grouped.safetensors"
    fit_split(split, out, backbone=weights_file, groups=groups, settings=replace(QUICK, layers=0))
    encoder = LatentEncoder.load(out)
    images = load(split.reference)
    expected = Statistics.of_latents(encoder(images), [groups[path] for path in split.reference])
    torch.testing.assert_close(encoder.reference.groups.sum, expected.groups.sum, rtol=1e-3, atol=1e-2)
    assert torch.equal(encoder.reference.groups.count, expected.groups.count)
    assert b"patient" not in out.read_bytes()
    assert encoder.reference_statistics.group_names[0] == "reference 0"


def test_the_held_out_likelihood_is_that_of_the_weights_on_the_images_that_stopped_it(fitted, split):
    out, result = fitted
    assert LatentEncoder.load(out).log_prob(load(split.stop)).mean().item() == pytest.approx(result.held_out, rel=1e-4)
    assert result.held_out >= result.gaussian


def test_same_images_and_seed_same_file(fitted, split, weights_file, tmp_path):
    again = fit_split(
        split, tmp_path / "again.safetensors", backbone=weights_file, settings=QUICK, card={"data": "noise"}, mpp=0.5
    )
    assert again.weights_id == fitted[1].weights_id
    other = fit_split(
        split, tmp_path / "o.safetensors", backbone=weights_file, settings=replace(QUICK, seed=1), mpp=0.5
    )
    assert other.weights_id != again.weights_id


def test_couplings_that_do_not_help_are_left_out(split, weights_file, tmp_path):
    # A learning rate this high ruins the flow at once.
    wild = replace(QUICK, learning_rate=3.0)
    result = fit_split(split, tmp_path / "wild.safetensors", backbone=weights_file, settings=wild)
    assert result.held_out == result.gaussian
    still = read_weights(tmp_path / "wild.safetensors").flow["couplings.1.conditioner.4.weight"]
    assert not still.any()


def test_no_couplings_is_one_gaussian(split, weights_file, tmp_path):
    result = fit_split(
        split, tmp_path / "g.safetensors", backbone=weights_file, settings=FitSettings(layers=0, linear="whitening")
    )
    assert result.epochs == 0
    assert LatentEncoder.load(tmp_path / "g.safetensors").flow.config["linear"] == "whitening"


def too_few():
    raise RL2Error("Too few good patches.")


def test_features_are_computed_once(split, weights_file, tmp_path, monkeypatch):
    out = tmp_path / "ours.safetensors"
    monkeypatch.setattr(training, "train_flow", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fit_split(split, out, backbone=weights_file, settings=QUICK)
    assert not out.exists()
    with pytest.raises(RL2Error, match="--resume"):
        fit_split(split, out, backbone=weights_file, settings=QUICK)
    with pytest.raises(RL2Error, match="other settings"):
        fit_split(split, out, backbone=weights_file, settings=replace(QUICK, hidden=9), resume=True)
    monkeypatch.undo()
    monkeypatch.setattr(fitting, "calibrate", lambda *args, **settings: too_few())
    monkeypatch.setattr(fitting, "measure_signatures", lambda *args, count, pairs: None)
    monkeypatch.setattr(ImageReader, "read", lambda *args: pytest.fail("read the images again"))
    resumed = fit_split(split, out, backbone=weights_file, settings=QUICK, resume=True)
    assert resumed.n_fit == len(split.fit)
    assert not beside(out).exists()


def test_a_folder_of_the_user_is_left_alone(split, weights_file, tmp_path):
    (tmp_path / "thesis.fit").mkdir()
    (tmp_path / "thesis.fit" / "thesis.txt").touch()
    with pytest.raises(RL2Error, match="something else"):
        fit_split(split, tmp_path / "thesis.safetensors", backbone=weights_file, settings=QUICK)
    assert (tmp_path / "thesis.fit" / "thesis.txt").exists()


def test_images_that_are_all_the_same_have_no_flow(weights_file, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for path in paths:
        Image.new("RGB", (64, 64), "pink").save(path)
    with pytest.raises(RL2Error, match="do not vary"):
        fit_split(split_images(paths), tmp_path / "x.safetensors", backbone=weights_file, settings=QUICK)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize(
    "wrong",
    [{"layers": -1}, {"seed": 2**64}, {"hidden": 0}, {"scale_bound": float("nan")}, {"max_epochs": 0}, {"patience": 0}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(RL2Error, match="A fit needs|The seed is"):
        FitSettings(**wrong)


def test_what_cannot_be_started(split, weights_file, tmp_path):
    (tmp_path / "there.safetensors").touch()
    (tmp_path / "beside.calibration.safetensors").touch()
    (tmp_path / "drawn.kinds.jpg").touch()
    for out, sentence, options in (
        ("there.safetensors", "exists", {}),
        ("beside.safetensors", "beside.calibration.safetensors may be written anew", {}),
        ("drawn.safetensors", "drawn.kinds.jpg may be written anew", {}),
        ("x.pt", ".safetensors", {}),
        ("no/x.safetensors", "does not exist", {}),
        ("x.safetensors", "no interrupted run", {"resume": True}),
    ):
        with pytest.raises(RL2Error, match=sentence):
            fit_split(split, tmp_path / out, backbone=weights_file, settings=QUICK, **options)


def interrupted(epoch, *arguments):
    """A fit whose process gets a SIGINT at the end of an epoch."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored in the background
    FlowTraining.on_train_epoch_end = lambda self: self.current_epoch == epoch and os.kill(os.getpid(), signal.SIGINT)
    return rl2(*arguments)


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_file(patches, weights_file, tmp_path):
    options = {"backbone": weights_file, "groups": "file", "settings": FitSettings(1, 8, max_epochs=12, patience=400)}
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    flags = "--groups file --layers 1 --hidden 8 --patience 400 --max-epochs 12"
    command = ["fit", patches, "-o", cut, *flags.split(), "--backbone", weights_file]
    code, _, err = Started(interrupted, 5, *map(str, command)).result()
    assert code == 130, err
    assert "--resume" in err
    assert [path.name for path in tmp_path.iterdir()] == ["cut.fit"]
    with pytest.warns(UserWarning, match="patches are few"):
        resumed = fit(patches, cut, resume=True, **options)
        assert fit(patches, whole, **options).weights_id == resumed.weights_id
    assert not (tmp_path / "cut.fit").exists()


def test_fit_finds_groups_and_splits_by_itself(patches, weights_file, tmp_path):
    settings = replace(QUICK, layers=0)
    with pytest.warns(UserWarning, match="patches are few"):
        result = fit(patches, tmp_path / "a.safetensors", groups="file", backbone=weights_file, settings=settings)
    files = groups_of("file", find_images(patches), patches)
    split = split_images(find_images(patches), files)
    expected = fit_split(split, tmp_path / "b.safetensors", groups=files, backbone=weights_file, settings=settings)
    assert result.weights_id == expected.weights_id
    assert len(LatentEncoder.load(tmp_path / "a.safetensors").reference.groups.count) == result.n_reference
    assert [sentence.partition(" ")[2] for sentence in result.warnings] == [
        "patches are few to fit a flow to; a few hundred make it dependable."
    ]


def test_without_groups_fit_says_what_that_costs_before_the_work(patches, weights_file, tmp_path):
    (tmp_path / "there.safetensors").touch()
    with pytest.warns(UserWarning, match="Without groups"), pytest.raises(RL2Error, match="exists"):
        fit(patches, tmp_path / "there.safetensors", backbone=weights_file)


def test_a_card_is_read_from_a_file_or_refused(tmp_path):
    (tmp_path / "card.json").write_text('{"data": "ours"}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "text.json").write_text("no")
    assert read_card(tmp_path / "card.json") == {"data": "ours"}
    assert read_card(None) == {}
    (tmp_path / "nan.json").write_text('{"auc": NaN}')
    for card, sentence in (
        (tmp_path / "list.json", "holds a list; expected an object"),
        (tmp_path / "text.json", "no JSON that can be read"),
        (tmp_path / "nan.json", "no JSON that can be read"),
        ({"when": object()}, "no JSON that can be read"),
    ):
        with pytest.raises(RL2Error, match=sentence):
            read_card(card)


def test_without_lightning_a_sentence_says_what_to_install(patches, weights_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(RL2Error, match=r"pip install 'torchmetrics-rl2\[fit\]'"):
        fit(patches, tmp_path / "x.safetensors", groups="file", backbone=weights_file)


def test_copies_in_two_parts_of_the_split_are_warned_of(split, weights_file, tmp_path):
    copied = replace(split, stop=[*split.stop, *split.fit[:2]])
    settings = replace(QUICK, layers=0)
    found = fit_split(copied, tmp_path / "a.safetensors", backbone=weights_file, settings=settings)
    assert found.warnings[0].startswith("2 patches are in two parts of the split, pixel for pixel")
    assert fit_split(split, tmp_path / "b.safetensors", backbone=weights_file, settings=settings).warnings == []


def test_within_groups_a_stain_of_each_laboratory_is_no_spread(weights_file, tmp_path):
    draws, tones = Generator().manual_seed(5), {"pale": 40, "dark": -40, "same": 0}
    groups = {}
    for lab, tone in tones.items():
        for i in range(40):
            noise = torch.randint(80, 176, (3, 64, 64), generator=draws)
            path = tmp_path / lab / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray((noise + tone).byte().permute(1, 2, 0).numpy()).save(path)
            groups[path] = lab
    sides = {side: [path for path in groups if path.stem in rows] for side, rows in SIDES.items()}
    spreads = {}
    for within in (False, True):
        out = tmp_path / f"{within}.safetensors"
        settings = FitSettings(layers=0, within_groups=within)
        fit_split(Split(**sides), out, backbone=weights_file, groups=groups, kinds=1, settings=settings)
        encoder = LatentEncoder.load(out)
        means = [encoder(load([path for path in sides["fit"] if groups[path] == lab])).mean(0) for lab in tones]
        spreads[within] = float((means[0] - means[1]).norm())
        assert encoder.card["fit"]["settings"]["within_groups"] is within
    # Whitened with what tells laboratories apart, they are a few standard deviations apart; without it, many.
    assert spreads[True] > 3 * spreads[False]


def test_a_fit_within_groups_needs_groups(split, weights_file, tmp_path):
    with pytest.raises(RL2Error, match="needs groups, such as laboratories"):
        fit_split(split, tmp_path / "x.safetensors", backbone=weights_file, settings=FitSettings(within_groups=True))


@pytest.mark.parametrize(
    ("groups", "kinds", "sentence"),
    [
        (lambda path: path.stem, 1, "Within groups, each needs at least 8 patches that fit or stop the flow, and"),
        (lambda path: path.parent.name, lambda path: path.parent.name, "no group has patches of two kinds"),
    ],
)
def test_groups_that_nothing_is_known_within_are_refused(weights_file, tmp_path, groups, kinds, sentence):
    paths = [tmp_path / lab / f"{i}.png" for lab in "ab" for i in range(20)]
    draws = Generator().manual_seed(6)
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(torch.randint(256, (64, 64, 3), generator=draws).byte().numpy()).save(path)
    sides = Split(paths[:8] + paths[20:34], paths[8:12] + paths[34:36], paths[12:20] + paths[36:])
    labels = kinds if kinds == 1 else {path: kinds(path) for path in paths}
    named = {path: groups(path) for path in paths}
    with pytest.raises(RL2Error, match=sentence):
        fit_split(
            sides,
            tmp_path / "x.safetensors",
            backbone=weights_file,
            groups=named,
            kinds=labels,
            settings=FitSettings(layers=0, within_groups=True),
        )
    assert not (tmp_path / "x.fit").exists()


def test_a_public_fit_within_groups_has_every_group_in_the_reference(patches, weights_file, tmp_path):
    paths = find_images(patches)
    table = tmp_path / "labs.csv"
    rows = [f"{path.relative_to(patches)},{'even' if i % 2 else 'odd'}" for i, path in enumerate(paths)]
    table.write_text("path,group\n" + "\n".join(rows))
    out = tmp_path / "ours.safetensors"
    settings = FitSettings(layers=0, within_groups=True)
    fit(patches, out, groups=table, kinds=1, backbone=weights_file, settings=settings)
    assert len(read_weights(out).reference.groups.count) == 2
