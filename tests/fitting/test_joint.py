import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from torch import Generator
from torchvision.transforms.v2.functional import gaussian_blur, to_pil_image

from tests.conftest import random_images
from torchmetrics_rl2 import LatentEncoder, RL2Error
from torchmetrics_rl2.fitting import FitSettings, JointSettings, Machine, Split, fit_split, training
from torchmetrics_rl2.fitting.drawn_patches import DrawnPatches
from torchmetrics_rl2.fitting.guards import effective_rank, linear_probe
from torchmetrics_rl2.fitting.joint import JointTraining
from torchmetrics_rl2.fitting.training import run_trainer
from torchmetrics_rl2.images import ImageReader, read_image
from torchmetrics_rl2.networks import FeatureExtractor, RealNVP
from torchmetrics_rl2.weights import read_weights

READER = ImageReader(batch_size=12)
QUICK = FitSettings(layers=2, hidden=16, max_epochs=2, learning_rate=3e-3)
JOINT = JointSettings(max_epochs=2, learning_rate=3e-5, rank_share=0.5, probe_share=0.5)


def colored_noise(folder, px):
    """Of many colors and sharpnesses, which even a random backbone tells apart."""
    generator = Generator().manual_seed(3)
    paths = []
    for i in range(170):
        color, contrast, sigma = torch.rand(3, 1, 1, generator=generator), *torch.rand(2, generator=generator).tolist()
        noise = gaussian_blur(torch.randn(3, px, px, generator=generator), [9, 9], [0.2 + 2 * sigma])
        image = ((color + 0.3 * contrast * noise) * 255).clamp(0, 255).to(torch.uint8)
        paths.append(folder / f"{i:02}.png")
        to_pil_image(image).save(paths[-1])
    return Split(paths[:36], paths[36:84], paths[84:94])


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return colored_noise(tmp_path_factory.mktemp("tissue"), 32)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The same of twice the side, to be cut into tiles."""
    return colored_noise(tmp_path_factory.mktemp("large"), 64)


def extractor_of(weights):
    extractor = FeatureExtractor(weights.preprocessing, weights.backbone)
    extractor.load_backbone(weights.backbone, trainable=True)
    return extractor


def held_out(split):
    return torch.cat([batch.images for batch in ImageReader().read(split.stop)])


def train(split, weights, tmp_path, epochs, learning_rate=1e-4, share=0.7):
    settings = JointSettings(epochs, learning_rate, rank_share=share, probe_share=share)
    module = JointTraining(extractor_of(weights), split.fit, split.stop, ImageReader(batch_size=12), QUICK, settings)
    options = {"reload_dataloaders_every_n_epochs": 1, "enable_checkpointing": False}
    run_trainer(module, [], tmp_path / "none.ckpt", epochs, Machine("cpu"), **options)
    return module


@pytest.mark.slow
def test_plain_features_collapse_while_the_held_out_likelihood_grows(split, weights):
    extractor, images = extractor_of(weights), torch.stack([read_image(path) for path in split.fit])
    extractor.backbone.requires_grad_(True)
    flow = RealNVP(512, 2, 16, 0.2)
    flow.linear.adapt(extractor(images))
    optimizer = torch.optim.Adam([*extractor.backbone.parameters(), *flow.couplings.parameters()], lr=1e-3)
    before = extractor(held_out(split))
    for _ in range(8):
        loss = -flow.log_prob(extractor.with_gradients(images)).mean() / 512
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = extractor(held_out(split))
    assert flow.log_prob(after).mean() > flow.log_prob(before).mean() + 50
    assert after.std(0).mean() < 0.1 * before.std(0).mean()


@pytest.mark.slow
def test_standardized_features_keep_their_scale_and_the_guard_their_rank(large, weights, tmp_path):
    start, *_, end = train(large, weights, tmp_path, 6, 3e-5, share=0.01).trace
    assert end["held_out"] > start["held_out"] + 50  # by features that repeat each other
    assert end["effective_rank"] < 0.5 * start["effective_rank"]

    guarded = train(large, weights, tmp_path, 6, 3e-5)
    assert guarded.broken == "effective_rank"
    assert 1 <= guarded.kept_epochs < 6
    assert len(guarded.trace) == guarded.kept_epochs + 2
    guarded.extractor.backbone.load_state_dict(guarded.kept)
    features = guarded.extractor(held_out(large))
    assert effective_rank(features) == pytest.approx(guarded.trace[guarded.kept_epochs]["effective_rank"])
    assert effective_rank(features) >= 0.7 * start["effective_rank"]
    assert features.std(0).mean() > 0.5 * extractor_of(weights)(held_out(large)).std(0).mean()


def test_a_backbone_that_no_epoch_leaves_sound_stays_as_it_was(split, weights, tmp_path):
    module = train(split, weights, tmp_path, 3, 1e-2)
    assert (module.kept_epochs, len(module.trace)) == (0, 2)
    for key, value in weights.backbone.items():
        assert torch.equal(module.kept[key], value.float() if value.is_floating_point() else value)


def test_effective_rank_counts_directions_of_any_scale():
    x = torch.randn(4000, 6, generator=Generator().manual_seed(0))
    assert effective_rank(x * torch.logspace(-3, 3, 6) + 5) == pytest.approx(6, rel=0.01)
    assert effective_rank(torch.cat([x[:, :2], x[:, :2]], 1)) == pytest.approx(2, rel=0.01)
    assert effective_rank(torch.cat([x[:, :1], torch.full((4000, 3), 0.1)], 1)) == pytest.approx(1)
    assert effective_rank(torch.ones(5, 3)) == 0


def test_the_probe_is_ridge_regression_left_one_out():
    generator = Generator().manual_seed(0)
    x, y = torch.randn(30, 8, generator=generator), torch.randn(30, 2, generator=generator)
    y += x[:, :2]
    x, y = ((t - t.mean(0)) / t.std(0, correction=0) for t in (x.double(), y.double()))
    expected = []
    for penalty in (1e-3, 1e-2, 1e-1, 1.0, 10.0):
        left_out = cross_val_predict(Ridge(alpha=8 * penalty), x.numpy(), y.numpy(), cv=LeaveOneOut())
        expected.append(1 - (y - torch.from_numpy(left_out)).square().mean().item())
    assert linear_probe(x, y) == pytest.approx(max(expected), rel=1e-6)
    assert linear_probe(x, torch.randn(30, 2, generator=generator)) < 0.1
    assert linear_probe(x, torch.ones(30, 2)) == -float("inf")


@pytest.fixture(scope="module")
def fitted(split, weights_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("joint") / "ours.safetensors"
    return out, fit_split(split, out, backbone=weights_file, settings=QUICK, joint=JOINT, reader=READER)


@pytest.mark.slow
def test_writes_weights_with_a_backbone_of_their_own(fitted, split, weights):
    out, result = fitted
    written = read_weights(out)
    assert written.backbone_id != weights.backbone_id
    assert {key: value.dtype for key, value in written.backbone.items()} == {
        key: value.dtype for key, value in weights.backbone.items()
    }
    history = written.card["fit"]
    assert history["train"] == "joint"
    assert history["joint"] == result.joint
    assert result.joint["epochs"] == 2
    assert set(result.joint["trace"][2]) == {"held_out", "effective_rank", "probe"}
    assert "Backbone trained for 2 epochs, all that were asked for: effective rank" in str(result)
    encoder = LatentEncoder.load(out)
    likelihood = encoder.log_prob(held_out(split)).mean().item()
    assert likelihood == pytest.approx(result.held_out, rel=1e-4)
    # What was measured in training is what scoring sees, but for half precision in the file.
    assert effective_rank(encoder.features(held_out(split))) == pytest.approx(
        result.joint["trace"][2]["effective_rank"], rel=0.05
    )
    assert not out.with_suffix(".fit").exists()


@pytest.mark.slow
def test_another_seed_gives_other_weights(fitted, split, weights_file, tmp_path):
    """That the same seed gives the same ones is seen by the runs that are interrupted."""
    options = {"backbone": weights_file, "joint": replace(JOINT, max_epochs=1), "reader": READER}
    other = fit_split(split, tmp_path / "other.safetensors", settings=replace(QUICK, seed=1), **options)
    assert other.joint["trace"][0] == pytest.approx(fitted[1].joint["trace"][0], abs=50)
    assert other.joint["trace"][1] != fitted[1].joint["trace"][1]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["the backbone", "the flow"])
def test_an_interrupted_run_resumes_to_the_same_weights(fitted, split, weights_file, tmp_path, monkeypatch, stage):
    out = tmp_path / "cut.safetensors"
    options = {"backbone": weights_file, "settings": QUICK, "joint": JOINT, "reader": READER}

    def interrupt(*args):
        raise RL2Error("interrupted")

    if stage == "the flow":
        monkeypatch.setattr(training, "train_flow", interrupt)
    else:
        monkeypatch.setattr(
            JointTraining, "on_train_epoch_start", lambda self: self.current_epoch == 1 and interrupt(), raising=False
        )
    with pytest.raises(RL2Error, match="interrupted"):
        fit_split(split, out, **options)
    monkeypatch.undo()
    with pytest.raises(RL2Error, match="other joint training"):
        fit_split(split, out, **{**options, "joint": None}, resume=True)
    assert fit_split(split, out, **options, resume=True).weights_id == fitted[1].weights_id


@pytest.mark.slow
def test_a_run_that_a_guard_had_stopped_does_not_go_on(split, weights_file, tmp_path, monkeypatch):
    def interrupt(self):
        raise RL2Error("interrupted")

    monkeypatch.setattr(JointTraining, "on_train_end", interrupt, raising=False)
    options = {
        "backbone": weights_file,
        "settings": QUICK,
        "joint": replace(JOINT, learning_rate=1e-2),
        "reader": READER,
    }
    out = tmp_path / "stopped.safetensors"
    with pytest.raises(RL2Error, match="interrupted"):
        fit_split(split, out, **options)
    monkeypatch.undo()
    joint = fit_split(split, out, **options, resume=True).joint
    assert (joint["epochs"], len(joint["trace"])) == (0, 2)
    assert read_weights(out).backbone_id == read_weights(weights_file).backbone_id


@pytest.mark.slow
def test_tiles_of_larger_images_and_unreadable_files(large, weights_file, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    large = Split(large.fit[:12], large.stop[:16], large.reference[:4])
    files = Split([tmp_path / "bad.png", *large.fit], large.stop, large.reference)
    reader = ImageReader(tile=32, batch_size=64, skip_unreadable=True)
    out = tmp_path / "tiles.safetensors"
    result = fit_split(
        files, out, backbone=weights_file, settings=QUICK, joint=replace(JOINT, max_epochs=1), reader=reader
    )
    assert (result.n_fit, result.n_stop) == (4 * len(large.fit), 4 * len(large.stop))
    assert len(result.unreadable) == 1
    assert read_weights(out).preprocessing.px == 32
    with pytest.raises(RL2Error, match="--skip-unreadable"):
        fit_split(files, tmp_path / "x.safetensors", backbone=weights_file, settings=QUICK, joint=JOINT)
    assert not (tmp_path / "x.fit").exists()


def test_patches_take_each_tile_of_an_image_and_flip_some(large):
    reader = ImageReader(tile=32)
    tiles = next(iter(reader.read(large.fit[:1]))).images
    patches = DrawnPatches(large.fit[:1], reader, 0, 0)
    ways = [[], [1], [2], [1, 2]]
    found = [
        (tile, way)
        for i in range(8)
        for tile in range(4)
        for way in range(4)
        if torch.equal(patches[i], tiles[tile].flip(ways[way]))
    ]
    assert len(found) == len(patches) == 8
    assert sorted(tile for tile, _ in found[:4]) == [0, 1, 2, 3]
    assert len({way for _, way in found}) > 1
    assert torch.equal(patches[3], DrawnPatches(large.fit[:1], reader, 0, 0)[3])
    assert any(not torch.equal(patches[i], DrawnPatches(large.fit[:1], reader, 0, 1)[i]) for i in range(8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_epochs": 0},
        {"learning_rate": 0.0},
        {"rank_share": 0.0},
        {"probe_share": 1.1},
        {"rank_share": float("nan")},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(RL2Error, match="Joint training needs"):
        JointSettings(**wrong)


def test_what_cannot_be_guarded_is_refused(split, weights_file, tmp_path):
    noise = [tmp_path / f"{i}.png" for i in range(40)]
    for i, path in enumerate(noise):
        to_pil_image(random_images(1, seed=i)[0]).save(path)
    for sentence, files, settings in (
        ("16 of them, but got 15", replace(split, stop=split.stop[:15]), QUICK),
        ("tell nothing", replace(split, stop=noise), QUICK),
        ("at least one coupling", split, replace(QUICK, layers=0)),
    ):
        with pytest.raises(RL2Error, match=sentence):
            fit_split(files, tmp_path / "x.safetensors", backbone=weights_file, settings=settings, joint=JOINT)
        assert not (tmp_path / "x.fit").exists()


@pytest.mark.slow
def test_two_devices_write_one_file(split, weights_file, tmp_path):
    """Backbone and flow, each trained by two processes that Lightning starts with the same command."""
    program, out = tmp_path / "rl2.py", tmp_path / "two.safetensors"
    program.write_text("from torchmetrics_rl2.cli import main\nif __name__ == '__main__':\n    main()\n")
    joint = "--train joint --joint-epochs 2 --rank-share 0.1 --probe-share 0.1"
    options = f"--backbone {weights_file} {joint} --layers 1 --hidden 8 --max-epochs 2 --batch-size 32 --groups file"
    arguments = ["fit", split.fit[0].parent, "-o", out, *options.split(), "--accelerator", "cpu", "--devices", "2"]
    command = [sys.executable, program, *arguments, "--json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "backbone, effective rank" in done.stderr
    assert json.loads(done.stdout)["weights_id"] == LatentEncoder.load(out).weights_id
    assert json.loads(done.stdout)["joint"]["epochs"] == 2
    assert not out.with_suffix(".fit").exists()
