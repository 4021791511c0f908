import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image
from typer.testing import CliRunner

from tests.fixtures.images import random_images
from tests.fixtures.processes import Started
from torchmetrics_rl2 import score, weights
from torchmetrics_rl2._version import __version__
from torchmetrics_rl2.cli import app, main
from torchmetrics_rl2.distance.text import three_digits
from torchmetrics_rl2.images import find_images


def test_score_prints_one_verdict_and_the_rest_when_asked(rl2, patches, weights_file, encoder):
    arguments = ("score", patches / "bright", "--real", patches / "a", "--weights", weights_file)
    code, out, err = rl2(*arguments)
    expected = score(patches / "bright", patches / "a", weights=weights_file)
    assert (code, out.strip()) == (0, str(expected))
    assert out.startswith(f"RL2 {three_digits(expected.value)}: ")
    assert "x the real-against-real baseline at these sample sizes: clearly different" in out
    assert "8/8" in err
    code, out, _ = rl2(*arguments, "--verbose")
    verdict, first, *rest = out.splitlines()
    assert (code, verdict, [first, *rest]) == (0, str(expected), expected.details().splitlines())
    assert first.startswith("8 generated images (")
    assert encoder.weights_id[:12] in first
    assert any(line.startswith("95 % interval of the debiased value: ") for line in rest)
    assert any("assuming independent patches" in line for line in rest)
    assert "p-value" not in out


@pytest.mark.filterwarnings("ignore:1 of 23 generated images are real ones pixel for pixel")
def test_score_says_whether_training_patches_are_copied(rl2, tmp_path, weights_file):
    for name, part in zip(("train", "test", "fake"), random_images(66).split(22), strict=True):
        (tmp_path / name).mkdir()
        for i, image in enumerate(part):
            to_pil_image(image).save(tmp_path / name / f"{i}.png")
    shutil.copy(tmp_path / "train" / "3.png", tmp_path / "fake" / "copy.png")
    arguments = ("score", tmp_path / "fake", "--weights", weights_file, "--held-out", tmp_path / "test")
    code, out, err = rl2(*arguments, "--real", tmp_path / "train")
    assert code == 0
    assert "Copies: 1 of 23 generated images is closer to a training image than held-out ones get" in out
    assert f"closest: {tmp_path / 'fake' / 'copy.png'} to {tmp_path / 'train' / '3.png'}" in out
    assert "held-out" in err
    code, _, err = rl2(*arguments)
    assert code == 2
    assert "Give them with --real, or leave out --held-out" in err


def test_score_as_json_has_every_setting_and_is_the_same_twice(rl2, patches, weights_file, encoder):
    options = ("--json", "--batch-size", 5, "--tile", 32, "--device", "cpu")
    (code, out, _), again = (rl2("score", patches / "a", "--weights", weights_file, *options) for _ in range(2))
    assert again[1] == out
    result = json.loads(out)
    assert (result["p_value"], result["assumes_independence"], len(result["interval"])) == (None, True, 2)
    assert result["verdict"]
    assert code == 0
    assert (result["real"], result["n_real"], result["n_fake"], result["weights_id"]) == (
        "reference data of the weights",
        48,
        32,
        encoder.weights_id,
    )
    assert result["settings"] == {"tile": 32, "scale": None, "batch_size": 5, "workers": 0, "device": "cpu"}
    assert result["versions"]["torch"] == torch.__version__.partition("+")[0] or torch.__version__


def test_unreadable_files_stop_or_are_counted(rl2, patches, weights_file, tmp_path):
    shutil.copytree(patches / "a", tmp_path / "a")
    broken = sorted((tmp_path / "a").iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:200])
    code, out, err = rl2("score", tmp_path / "a", "--weights", weights_file)
    assert (code, out) == (2, "")
    assert broken.name in err
    assert "--skip-unreadable" in err
    code, out, _ = rl2("score", tmp_path / "a", "--weights", weights_file, "--skip-unreadable")
    assert code == 0
    assert "against the reference data inside the weights" in out
    assert f"1 file(s) could not be read and were left out:\n  {broken}" in out


@pytest.fixture
def bad(tmp_path, weights_file):
    """A folder of things that cannot be used."""
    for name in ("empty", "texts", "gray", "dot"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    Image.new("L", (64, 64)).save(tmp_path / "gray" / "a.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot" / "a.png")
    torch.save({}, tmp_path / "pickle.safetensors")
    (tmp_path / "half.safetensors").write_bytes(weights_file.read_bytes()[:10_000])
    return tmp_path


BAD_INPUT = {
    "lung-colon": "score {patches} --weights lung-colo",
    "cut off": "score {patches} --weights {bad}/half.safetensors",
    "pickle": "score {patches} --weights {bad}/pickle.safetensors",
    "holds no images": "score {bad}/empty --weights {weights}",
    "1 other file": "score {bad}/texts --weights {weights}",
    "grayscale": "score {bad}/gray --weights {weights}",
    "at least 32 x 32": "score {bad}/dot --weights {weights}",
    "at least 2 on each side": "score {patches}/a/00.png --weights {weights}",
    "is empty": "score {patches} --real= --weights {weights}",
    "There is no folder": "score {patches} --real {bad}/gone --weights {weights}",
    "'warp'": "score {patches} --device warp --weights {weights}",
    "Tiles need at least": "score {patches} --tile 8 --weights {weights}",
    "at least 3": "fit {patches}/a -o {bad}/x.safetensors --groups parent --backbone {weights}",
    "columns path and group": "fit {patches} -o {bad}/x.safetensors --groups {bad}/gone.csv",
    "the columns path and kind": "fit {patches} -o {bad}/x.safetensors --kinds x --groups file",
    "from 1, but got 0": "fit {patches} -o {bad}/x.safetensors --kinds 0 --groups file --backbone {weights}",
    "do not make 5 clusters": "fit {patches} -o {bad}/x.safetensors --kinds 5 --groups file --backbone {weights}",
    "no JSON that can be read": "fit {patches} -o {bad}/x.safetensors --groups parent --card {bad}/gone.json",
    "There are no weights named": "weights show zebra",
    "There is no file": "score {patches} --real {bad}/gone.safetensors --weights {weights}",
    "not RL2 statistics. Give it to --weights": "score {patches} --real {weights} --weights {weights}",
    "cannot be divided by 'slides'": "score {patches}/a --real {patches}/b --by slides --weights {weights}",
    "no kinds of tissue. 'rl2 fit' finds": "score {patches}/a --real {patches}/b --by kinds --weights {weights}",
    "Give --real-classes, or": "score {patches}/a --real {patches}/b --fake-classes parent --weights {weights}",
    "a .safetensors file": "stats {patches} -o {bad}/real.pt",
    "exists. Choose": "stats {patches} -o {bad}/half.safetensors --weights {weights}",
    "cannot be written: No such file": "stats {patches} -o {bad}/gone/real.safetensors",
    "grayscale (mode L)": "stats {bad}/gray -o {bad}/real.safetensors --weights {weights}",
}


@pytest.mark.parametrize("sentence", BAD_INPUT)
def test_bad_input_ends_with_a_sentence_and_2(rl2, patches, weights_file, bad, sentence):
    files = sorted(bad.rglob("*"))
    code, out, err = rl2(*BAD_INPUT[sentence].format(patches=patches, bad=bad, weights=weights_file).split())
    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err
    assert sorted(bad.rglob("*")) == files


def test_unknown_options_end_with_2_too(rl2):
    assert rl2("score", "x", "--color")[0] == 2
    assert rl2("scor")[0] == 2


@pytest.mark.filterwarnings("default:Without groups", "default:17 patches are few")
def test_fit_then_score_then_show(rl2, patches, weights_file, tmp_path):
    out_file = tmp_path / "ours.safetensors"
    card = tmp_path / "card.json"
    card.write_text('{"data": "noise", "license": "CC0-1.0", "citation": "none"}')
    options = ("--backbone", weights_file, "--layers", 1, "--hidden", 8, "--max-epochs", 2, "--card", card)
    code, out, err = rl2("fit", patches, "-o", out_file, *options)
    assert code == 0, err
    assert out.startswith(f"Wrote {out_file}")
    assert "Warning: Without groups" in err
    assert rl2("score", patches / "bright", "--weights", out_file)[0] == 0
    shown = json.loads(rl2("weights", "show", out_file, "--json")[1])
    assert shown["card"]["data"] == "noise"
    assert shown["preprocessing"]["px"] == 64


def test_stats_then_score(rl2, patches, weights_file, tmp_path):
    for name in ("a", "b"):
        options = ("--groups", "file", "--weights", weights_file, "-o", tmp_path / f"{name}.safetensors")
        code, out, err = rl2("stats", patches / name, *options)
        assert (code, "8/8" in err) == (0, True)
        assert out.startswith(f"Wrote {tmp_path / name}.safetensors: 8 images in 8 groups of {patches / name}")
    shards = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    code, out, _ = rl2("stats", *shards, "--weights", weights_file, "-o", tmp_path / "real.safetensors", "--json")
    merged = json.loads(out)
    assert (code, merged["images"], merged["groups"]) == (0, 16, 16)
    options = ("--real", tmp_path / "real.safetensors", "--fake-groups", "file", "--weights", weights_file)
    code, out, _ = rl2("score", patches / "bright", *options, "-v")
    assert code == 0
    assert "p-value of no difference" in out
    result = json.loads(rl2("score", patches / "bright", *options, "--json")[1])
    expected = score(
        patches / "bright", [patches / "a", patches / "b"], weights=weights_file, real_groups="file", fake_groups="file"
    )
    assert result["p_value"] == pytest.approx(expected.p_value, rel=1e-3)
    assert result["interval"] == pytest.approx(expected.interval, rel=1e-5)


@pytest.mark.filterwarnings("default")
def test_classes_are_in_json_and_in_the_text(rl2, patches, weights_file, tmp_path):
    """Generated patches under the name of the other class."""
    table = tmp_path / "classes.csv"
    others = {"a": "bright", "bright": "a"}
    paths = [*find_images(patches / "a"), *find_images(patches / "bright")]
    table.write_text("\n".join(["path,class", *(f"{path.resolve()},{others[path.parent.name]}" for path in paths)]))
    options = ("--real", patches / "a", "--real", patches / "bright", "--pool", "--weights", weights_file)
    options += ("--real-classes", "parent", "--fake-classes", table)
    code, out, _ = rl2("score", patches / "a", patches / "bright", *options, "--json")
    result = json.loads(out)
    assert (code, result["value"], result["strata_by"]) == (0, 0, "classes")
    found = [tuple(one[key] for key in ("name", "n_fake", "p_value", "differs", "closest")) for one in result["strata"]]
    assert found == [("a", 8, None, True, "bright"), ("bright", 8, None, True, "a")]
    assert result["strata_split"]["conditional"] > 1
    code, out, _ = rl2("score", patches / "a", patches / "bright", *options, "--verbose")
    assert "ithin classes: 2 of 2 differ: " in out
    assert "Average distance within classes, where errors of two cannot cancel" in out


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_classes_of_a_file_are_scored_against(rl2, patches, weights_file, tmp_path):
    saved = tmp_path / "real.safetensors"
    options = ("--classes", "parent", "--weights", weights_file, "-o", saved)
    code, out, _ = rl2("stats", patches / "a", patches / "bright", *options, "--groups", "file", "--json")
    assert (code, json.loads(out)["classes"]) == (0, {"a": 8, "bright": 8})
    saved.unlink()
    code, out, _ = rl2("stats", patches / "a", patches / "bright", *options, "--groups", "file")
    assert (code, "16 images in 16 groups and 2 classes of " in out) == (0, True)
    fake = (patches / "a", patches / "bright", "--pool", "--fake-groups", "file", "--fake-classes", "parent")
    sides = ("--real", patches / "a", "--real", patches / "bright", "--real-groups", "file", "--real-classes", "parent")
    expected, found = (
        json.loads(rl2("score", *fake, *real, "--weights", weights_file, "--json")[1])
        for real in (sides, ("--real", saved))
    )
    assert [one["name"] for one in found["strata"]] == ["a", "bright"]
    for one, other in zip(found["strata"], expected["strata"], strict=True):
        assert one == {
            key: pytest.approx(value, abs=1e-9) if isinstance(value, float | list) else value
            for key, value in other.items()
        }
    options = ("--real", saved, "--by", "classes", "--verbose", "--weights", weights_file)
    assert "Within classes, with 95 % intervals corrected for 2 comparisons" in rl2("score", saved, *options)[1]


@pytest.mark.filterwarnings("default:Generated images", "default:The stain of generated images")
def test_what_differs_before_the_network_is_a_warning_and_in_json(rl2, patches, weights_file):
    options = ("--real", patches / "a", "--weights", weights_file, "--tile", 32)
    code, _, err = rl2("score", patches / "bright", *options)
    assert (code, "Warning: The stain of generated images differs" in err) == (0, True)
    result = json.loads(rl2("score", patches / "bright", *options, "--json")[1])
    assert any("stain of generated images" in sentence for sentence in result["warnings"])
    assert (len(result["outliers"]), result["withheld"]) == (1, {})


def test_without_real_images_a_value_is_no_verdict(rl2, patches, weights_file):
    (line,) = rl2("score", patches / "a", "--weights", weights_file)[1].splitlines()  # of one's own images
    assert "against the reference data inside the weights, noise: " in line
    conclusion, numbers, others, last = rl2("score", patches / "a")[1].splitlines()
    assert (
        conclusion == "Look clearly differs, content cannot be judged, as so large a change of look moves it too"
    )  # of noise
    assert "against the reference data inside the weights, 13 sets of 11 laboratories" in numbers
    assert re.fullmatch(
        r"Debiased \d+, further than real images of any of the 10 laboratories with 8 images or more, each measured "
        r"against the others: 10.7 to 30.5, median 19.9",
        others,
    )
    assert re.search(r"; look [\d.]+, [\d.]+x; content [\d.]+, [\d.]+x$", numbers)
    assert "no verdict on a generator: give your own with --real" in last


def test_help_teaches():
    for verb in ([], ["score"], ["stats"], ["fit"], ["weights"]):
        shown = CliRunner().invoke(app.app, [*verb, "--help"])
        assert shown.exit_code == 0
        assert "rl2" in shown.output
    assert "Begin with rl2 score generated/ --real real/" in CliRunner().invoke(app.app, ["--help"]).output
    for verb in ("score", "compare", "plan", "stats", "fit", "audit", "screen"):
        shown = CliRunner().invoke(app.app, [verb, "--help"])
        examples = shown.output.partition("Options")[0].partition(f"Usage: rl2 {verb} ")[2]
        assert f"rl2 {verb} " in examples, verb
    assert CliRunner().invoke(app.app, ["--version"]).output == f"torchmetrics-rl2 {__version__}\n"


def test_a_missing_extra_is_named(rl2, patches):
    program = "import sys; sys.modules['typer'] = None\nfrom torchmetrics_rl2.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "score", "x"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "The rl2 command needs typer: pip install 'torchmetrics-rl2[cli]'\n"
    said = Started(fit_without_lightning, str(patches)).result()
    assert said.startswith("RL2Error: ")
    assert "torchmetrics-rl2[fit]" in said


def fit_without_lightning(patches):
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightning"]:
        del sys.modules[name]
    sys.modules["lightning"] = None
    CliRunner().invoke(app.app, ["fit", patches, "-o", "x.safetensors"], catch_exceptions=False)


def test_a_process_ends_with_the_code_and_a_sentence():
    """The one whole process of these tests, by the script that is installed: what it says where, and how it ends."""
    command = [Path(sys.executable).with_name("rl2"), "score", "x", "--color"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option: --color" in done.stderr


def interrupt(folder):
    """Ctrl-C while the weights are read."""
    sys.argv = ["rl2", "score", folder, "--weights", "colon"]
    weights.loading.read_weights = lambda *_: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


def test_ctrl_c_ends_with_130(patches):
    assert Started(interrupt, str(patches)).result() == "SystemExit: 130"


def test_several_generated_sources_are_one_set_only_when_asked(rl2, patches, weights_file):
    command = ["score", patches / "a", patches / "b", "--real", patches / "bright", "--weights", weights_file]
    code, out, err = rl2(*command)
    assert (code, out) == (2, "")
    assert "2 sources of generated patches are given" in err
    code, out, _ = rl2(*command, "--pool", "--json")
    assert json.loads(out)["n_fake"] == 16


@pytest.mark.filterwarnings("default:.*repeat others", "default:.*were left out")
def test_what_is_left_out_and_what_is_repeated_is_said_and_in_json(rl2, patches, weights_file, tmp_path):
    for i in range(2):
        shutil.copytree(patches / "a", tmp_path / "fake" / str(i))
    (tmp_path / "fake" / "notes.txt").write_text("text")
    command = ["score", tmp_path / "fake", "--real", patches / "b", "--weights", weights_file, "--json"]
    code, out, err = rl2(*command)
    assert code == 0
    found = json.loads(out)
    assert [Path(name).name for name in found["left_out"]] == ["notes.txt"]
    assert [len(found["duplicates"][side]) for side in ("real", "fake")] == [0, 8]
    assert "1 file(s) of" in err
    assert "8 of 16 generated images repeat others pixel for pixel" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_takes_nothing_ends_in_a_sentence():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from torchmetrics_rl2.cli import main; main()", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr == "Error: Standard output cannot be used: No space left on device.\n"
