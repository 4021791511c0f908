import importlib
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.fixtures.server import SMALL
from torchmetrics_rl2 import CatalogEntry, LatentEncoder, RL2Error, list_weights, register_weights
from torchmetrics_rl2.distance.between_groups import between_groups
from torchmetrics_rl2.files import sha256_of
from torchmetrics_rl2.weights import catalog, load_weights, loading


@pytest.fixture
def two_versions(weights_file, tmp_path, monkeypatch):
    """A catalog with versions 2 and 10 of ``noise``."""
    rows = []
    for version in (2, 10):
        shutil.copy(weights_file, tmp_path / f"noise-{version}.safetensors")
        row = CatalogEntry(
            f"noise@{version}", f"noise-{version}.safetensors", sha256_of(weights_file), 1, "Noise", "CC0-1.0"
        )
        rows.append(vars(row))
    (tmp_path / "catalog.json").write_text(json.dumps(rows))
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path)
    catalog._bundled.cache_clear()
    yield tmp_path
    catalog._bundled.cache_clear()


def entry(name="acme/breast@1", **changed):
    described = {"where": str(SMALL), "sha256": sha256_of(SMALL), "bytes": 7336, "summary": "S", "license": "CC0-1.0"}
    return CatalogEntry(name, **(described | changed))


def test_a_bare_name_is_the_newest_version(two_versions):
    assert load_weights("noise").name == "noise@10"
    assert load_weights("noise@2").name == "noise@2"
    assert [entry.name for entry in list_weights()] == ["noise@2", "noise@10"]


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("nois", "Did you mean noise\\?"),
        ("noise@3", "Did you mean noise@2 or noise@10\\?"),
        ("noisy@2", "Did you mean noise@2"),
        ("zebra", "Known are noise@2, noise@10"),
    ],
)
def test_unknown_names_are_answered_with_known_ones(two_versions, asked, hint):
    with pytest.raises(RL2Error, match=hint):
        load_weights(asked)


def test_for_an_organ_without_weights_histology_is_offered():
    with pytest.raises(RL2Error, match=r"Known are histology@2, .* For H&E of other organs take histology\."):
        load_weights("breast")


def test_a_bundled_file_is_checked_before_use(two_versions):
    path = two_versions / "noise-2.safetensors"
    raw = bytearray(path.read_bytes())
    raw[20] ^= 1  # in the header, where the identity of the latents does not reach
    path.write_bytes(raw)
    with pytest.raises(RL2Error, match="was altered: install what brought it again"):
        load_weights("noise@2")
    path.unlink()
    with pytest.raises(RL2Error, match="is missing: install what brought it again"):
        load_weights("noise@2")


def test_a_file_in_the_working_directory_does_not_shadow_a_name(two_versions, weights_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("noise", "noise@2"):
        (tmp_path / name).write_bytes(b"other weights")
        assert load_weights(name).name.startswith("noise@")


def test_a_path_is_a_path(weights_file, monkeypatch):
    assert load_weights(weights_file).name == str(weights_file)
    assert load_weights(str(weights_file)).name == str(weights_file)
    with pytest.raises(RL2Error, match="There is no file"):
        load_weights("lung-colon.safetensors")
    monkeypatch.chdir(weights_file.parent.parent)
    relative = f"{weights_file.parent.name}/{weights_file.name}"
    assert load_weights(relative).name == relative


def test_registered_weights_have_a_name(capsys):
    register_weights(entry(), entry("acme/breast@12"), entry("acme/breast@3"))
    assert load_weights("acme/breast").name == "acme/breast@12"
    assert load_weights("acme/breast@3").name == "acme/breast@3"
    assert [one.name for one in list_weights()][-3:] == ["acme/breast@1", "acme/breast@12", "acme/breast@3"]
    with pytest.raises(RL2Error, match=r"'acme/breats'.*Did you mean acme/breast"):
        load_weights("acme/breats")


@pytest.mark.parametrize(
    "entries",
    [
        [entry("lung-colon@4")],
        [entry("lung-colon@1")],  # of a version that is gone
        [entry("lung-colon@99")],  # or the bare name would change its owner
        [entry("acme/colon@1"), entry("acme/colon@1")],
        [entry("acme/known@1")],
    ],
)
def test_a_taken_name_is_refused_and_nothing_is_registered(entries):
    register_weights(entry("acme/known@1", where=SMALL))  # a Path will do
    before = list_weights()
    with pytest.raises(RL2Error, match="is taken; choose another, such as yourlab/[a-z-]*@1"):
        register_weights(*entries)
    assert list_weights() == before
    register_weights(entry("acme/known@2"))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"name": "breast"}, "is not a valid name of weights; expected .* such as acme/breast-40x@1"),
        ({"name": "../../etc@1"}, "is not a valid name of weights"),
        ({"name": "a/b/c@1"}, "is not a valid name of weights"),
        ({"name": "breast@0"}, "is not a valid name of weights"),
        ({"name": "breast@latest"}, "is not a valid name of weights"),
        ({"name": "breast@1\u0662"}, "is not a valid name of weights"),
        ({"where": None}, "has no location; expected a path"),
        ({"where": "hf://acme/breast@main/../w.safetensors"}, "no place on the Hub"),
        ({"px": "224"}, "has '224' px"),
        ({"mpp": -1.0}, "at -1.0 um/px"),
        ({"summary": None}, "is no text"),
        ({"sha256": "abc"}, "has the sha256 'abc'; expected 64"),
        ({"bytes": 0}, "has 0 bytes"),
        ({"bytes": 2**40}, "expected 1 to"),
        ({"where": "hf://acme/breast/w.safetensors"}, "expected hf://org/repo@revision"),
    ],
)
def test_an_entry_says_what_it_has_to(changed, sentence):
    with pytest.raises(RL2Error, match=sentence):
        entry(**changed)


def test_what_a_name_was_resolved_to_is_logged_once(two_versions, caplog):
    loading._say.cache_clear()
    with caplog.at_level("INFO", "torchmetrics_rl2"):
        for _ in range(2):
            loaded = load_weights("noise")
    assert caplog.messages == [f"weights noise: noise@10 ({loaded.weights_id[:12]})"]


def test_whose_backbone_it_is_is_not_logged_as_asked_for(caplog):
    loading._say.cache_clear()
    with caplog.at_level("INFO", "torchmetrics_rl2"):
        load_weights("lung")
    assert caplog.messages == ["weights lung: lung@3 (eacffb3fc0d8)"]


def package(folder, name, code):
    """An installed package with an entry point."""
    described = folder / f"{name}-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(f"[torchmetrics_rl2.weights]\n{name} = {name}_weights:weights\n")
    (folder / f"{name}_weights.py").write_text(code)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that packages are found in, none of which was loaded before."""
    monkeypatch.setattr(catalog, "_packages", [])
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_another_package_brings_weights_by_name(site, tmp_path_factory):
    """It is built, installed into a folder of its own, and used; one that fails is left out with one warning."""
    source = shutil.copytree(SMALL.parent.parent, tmp_path_factory.mktemp("build") / "source")
    build = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*build, "--no-compile", "--target", str(site), str(source)], check=True)
    package(site, "failing", "import nowhere")
    package(site, "leaving", "raise SystemExit('needs more')")
    imported = "from torchmetrics_rl2 import CatalogEntry, list_weights"
    package(site, "asking", f"{imported}\ndef weights():\n    return list_weights()[:0]")
    hijacked = f"CatalogEntry('lung-colon@99', {str(SMALL)!r}, {sha256_of(SMALL)!r}, 7336, 'S', 'L')"
    package(site, "hijacking", f"{imported}\ndef weights():\n    return [{hijacked}]")
    importlib.invalidate_caches()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert load_weights("lung-colon@4").name == "lung-colon@4"
        assert not seen  # other packages are not loaded for names that ship
        ours = load_weights("acme/breast-40x")
        assert (ours.name, ours.weights_id[:12]) == ("acme/breast-40x@1", "3410a0632e77")
        assert list_weights()[-1].name == "acme/breast-40x@1"
    said = sorted(str(one.message) for one in seen)
    assert [sentence.partition(" are left out: ")[0].rpartition(" ")[2] for sentence in said] == [
        "failing",
        "hijacking",
        "leaving",
    ]
    assert "package failing are left out: ModuleNotFoundError No module named 'nowhere'" in said[0]
    assert "package hijacking are left out: RL2Error The name lung-colon@99 is taken" in said[1]
    assert "package leaving are left out: SystemExit" in said[2]


def test_a_name_of_an_installed_package_is_taken(monkeypatch):
    monkeypatch.setattr(catalog, "_packages", [{"acme/breast@1": entry()}])
    with pytest.raises(RL2Error, match="acme/breast@2 is taken"):
        register_weights(entry("acme/breast@2"))


@pytest.fixture(scope="module")
def shipping():
    """Entries and weights that ship, by name."""
    return {entry.name: (entry, load_weights(entry.name)) for entry in list_weights()}


def test_what_ships_is_what_the_catalog_says(shipping):
    for entry, weights in shipping.values():
        assert Path(entry.where).stat().st_size == entry.bytes < 40e6
        assert int(weights.reference.sums.count) > 70
        assert {"data", "license", "citation"} <= set(weights.card)


def test_later_weights_do_not_change_what_a_version_means(shipping):
    # The first 12 digits of what the value of a version depends on; a version once released never changes.
    assert {name: weights.weights_id[:12] for name, (_, weights) in shipping.items()} == {
        "histology@2": "4b690ea37a0d",
        "lung-colon@4": "0daeb94bf5c0",
        "lung@3": "eacffb3fc0d8",
        "colon@3": "61540a8ffab4",
    }


def test_all_that_ship_share_the_backbone_of_histology(shipping):
    assert len({weights.backbone_id for _, weights in shipping.values()}) == 1
    lent = {name: (weights.backbone_of, entry.bytes < 6e6) for name, (entry, weights) in shipping.items()}
    assert lent == {
        "histology@2": ("", False),
        "lung-colon@4": ("histology@2", True),
        "lung@3": ("histology@2", True),
        "colon@3": ("histology@2", True),
    }


def test_histology_says_what_real_tissue_of_other_laboratories_scores():
    found = between_groups(LatentEncoder.load("histology@2").reference_statistics)
    assert (found.units, found.count) == ("laboratories", 10)
    assert 5 < found.whole[0] < found.whole[1] < found.whole[2] < 40
