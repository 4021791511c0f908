import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

from torchmetrics_rl2.fitting import run as fitting
from torchmetrics_rl2 import LatentEncoder, RL2Error, Statistics
from torchmetrics_rl2.fitting.run import fit
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.images.find import find_images
from torchmetrics_rl2.images.decode import read_image
from torchmetrics_rl2.quality.calibrating import beside
from torchmetrics_rl2.fitting.split import split_images
from torchmetrics_rl2.fitting.settings import FitSettings
from torchmetrics_rl2.weights.file import read_weights

QUICK = FitSettings(layers=2, hidden=8, max_epochs=3)


@pytest.fixture(scope="module")
def split(patches):
    return split_images(find_images(patches))


@pytest.fixture(scope="module")
def fitted(split, weights_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("fit") / "ours.safetensors"
    result = fit(split, out, backbone=weights_file, settings=QUICK, card={"data": "noise"}, mpp=0.5)
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
    fit(split, out, backbone=weights_file, groups=groups, settings=replace(QUICK, layers=0))
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
    again = fit(
        split, tmp_path / "again.safetensors", backbone=weights_file, settings=QUICK, card={"data": "noise"}, mpp=0.5
    )
    assert again.weights_id == fitted[1].weights_id
    other = fit(split, tmp_path / "o.safetensors", backbone=weights_file, settings=replace(QUICK, seed=1), mpp=0.5)
    assert other.weights_id != again.weights_id


def test_couplings_that_do_not_help_are_left_out(split, weights_file, tmp_path):
    # A learning rate this high ruins the flow at once.
    wild = replace(QUICK, learning_rate=3.0)
    result = fit(split, tmp_path / "wild.safetensors", backbone=weights_file, settings=wild)
    assert result.held_out == result.gaussian
    still = read_weights(tmp_path / "wild.safetensors").flow["couplings.1.conditioner.4.weight"]
    assert not still.any()


def test_no_couplings_is_one_gaussian(split, weights_file, tmp_path):
    result = fit(
        split, tmp_path / "g.safetensors", backbone=weights_file, settings=FitSettings(layers=0, linear="whitening")
    )
    assert result.epochs == 0
    assert LatentEncoder.load(tmp_path / "g.safetensors").flow.config["linear"] == "whitening"


def too_few():
    raise RL2Error("Too few good patches.")


def test_features_are_computed_once(split, weights_file, tmp_path, monkeypatch):
    out = tmp_path / "ours.safetensors"
    monkeypatch.setattr(fitting, "train_flow", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fit(split, out, backbone=weights_file, settings=QUICK)
    assert not out.exists()
    with pytest.raises(RL2Error, match="--resume"):
        fit(split, out, backbone=weights_file, settings=QUICK)
    with pytest.raises(RL2Error, match="other settings"):
        fit(split, out, backbone=weights_file, settings=replace(QUICK, hidden=9), resume=True)
    monkeypatch.undo()
    monkeypatch.setattr(fitting, "calibrate", lambda *args, **settings: too_few())
    monkeypatch.setattr(ImageReader, "read", lambda *args: pytest.fail("read the images again"))
    resumed = fit(split, out, backbone=weights_file, settings=QUICK, resume=True)
    assert resumed.n_fit == len(split.fit)
    assert not beside(out).exists()


def test_a_folder_of_the_user_is_left_alone(split, weights_file, tmp_path):
    (tmp_path / "thesis.fit").mkdir()
    (tmp_path / "thesis.fit" / "thesis.txt").touch()
    with pytest.raises(RL2Error, match="something else"):
        fit(split, tmp_path / "thesis.safetensors", backbone=weights_file, settings=QUICK)
    assert (tmp_path / "thesis.fit" / "thesis.txt").exists()


def test_images_that_are_all_the_same_have_no_flow(weights_file, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for path in paths:
        Image.new("RGB", (64, 64), "pink").save(path)
    with pytest.raises(RL2Error, match="do not vary"):
        fit(split_images(paths), tmp_path / "x.safetensors", backbone=weights_file, settings=QUICK)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize(
    "wrong", [{"layers": -1}, {"hidden": 0}, {"scale_bound": float("nan")}, {"max_epochs": 0}, {"patience": 0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(RL2Error, match="A fit needs"):
        FitSettings(**wrong)


def test_what_cannot_be_started(split, weights_file, tmp_path):
    (tmp_path / "there.safetensors").touch()
    for out, sentence, options in (
        ("there.safetensors", "exists", {}),
        ("x.pt", ".safetensors", {}),
        ("no/x.safetensors", "does not exist", {}),
        ("x.safetensors", "no interrupted run", {"resume": True}),
    ):
        with pytest.raises(RL2Error, match=sentence):
            fit(split, tmp_path / out, backbone=weights_file, settings=QUICK, **options)


INTERRUPTED = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored in the background
from torchmetrics_rl2.cli import main
from torchmetrics_rl2.training import FlowTraining
FlowTraining.on_train_epoch_end = lambda self: self.current_epoch == {epoch} and os.kill(os.getpid(), signal.SIGINT)
main()
"""


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_file(patches, weights_file, tmp_path):
    def run(out, *more, epoch=None):
        """Fit; the process gets a SIGINT at the end of an epoch."""
        options = [
            "--backbone",
            weights_file,
            "--layers",
            "1",
            "--hidden",
            "8",
            "--patience",
            "400",
            "--max-epochs",
            "30",
        ]
        command = [sys.executable, "-c", INTERRUPTED.format(epoch=epoch), "fit", patches, "-o", tmp_path / out]
        return subprocess.run([*map(str, command), *map(str, options), *more], capture_output=True, text=True)

    assert run("whole.safetensors").returncode == 0
    interrupted = run("cut.safetensors", epoch=12)
    assert interrupted.returncode == 130, interrupted.stderr
    assert "--resume" in interrupted.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.fit", "whole.safetensors"]
    resumed = run("cut.safetensors", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    whole, cut = (read_weights(tmp_path / name) for name in ("whole.safetensors", "cut.safetensors"))
    assert whole.weights_id == cut.weights_id
    assert not (tmp_path / "cut.fit").exists()


@pytest.mark.slow
def test_two_devices_write_one_file(patches, weights_file, tmp_path):
    options = ["--backbone", str(weights_file), "--layers", "1", "--hidden", "8", "--max-epochs", "2"]
    parallel = ["--accelerator", "cpu", "--devices", "2", "--json"]
    program = tmp_path / "rl2.py"
    program.write_text("from torchmetrics_rl2.cli import main\nmain()\n")
    out = tmp_path / "two.safetensors"
    done = subprocess.run(
        [sys.executable, str(program), "fit", str(patches), "-o", str(out), *options, *parallel],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_id"] == LatentEncoder.load(out).weights_id
    assert not out.with_suffix(".fit").exists()
