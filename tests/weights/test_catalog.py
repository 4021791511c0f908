import hashlib
import json
import shutil

import pytest

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.weights import catalog, list_weights, load_weights
from torchmetrics_rl2.weights.catalog import CatalogEntry


@pytest.fixture
def two_versions(weights_file, tmp_path, monkeypatch):
    """A catalog with versions 2 and 10 of ``noise``."""
    digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    rows = []
    for version in (2, 10):
        shutil.copy(weights_file, tmp_path / f"noise-{version}.safetensors")
        row = CatalogEntry(f"noise@{version}", f"noise-{version}.safetensors", digest, 1, "Noise", "CC0-1.0")
        rows.append(vars(row))
    (tmp_path / "catalog.json").write_text(json.dumps(rows))
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path)
    catalog._catalog.cache_clear()
    yield tmp_path
    catalog._catalog.cache_clear()


def test_a_bare_name_is_the_newest_version(two_versions):
    assert load_weights("noise").name == "noise@10"
    assert load_weights("noise@2").name == "noise@2"
    assert [entry.name for entry in list_weights()] == ["noise@2", "noise@10"]


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("nois", "Did you mean noise"), ("noise@3", "noise@2"), ("zebra", "Known are noise@2, noise@10")],
)
def test_unknown_names_are_answered_with_known_ones(two_versions, asked, hint):
    with pytest.raises(RL2Error, match=hint):
        load_weights(asked)


def test_a_bundled_file_is_checked_before_use(two_versions):
    path = two_versions / "noise-2.safetensors"
    raw = bytearray(path.read_bytes())
    raw[20] ^= 1  # in the header, where the identity of the latents does not reach
    path.write_bytes(raw)
    with pytest.raises(RL2Error, match="missing or altered"):
        load_weights("noise@2")
    path.unlink()
    with pytest.raises(RL2Error, match="missing or altered"):
        load_weights("noise@2")


def test_a_file_in_the_working_directory_does_not_shadow_a_name(two_versions, weights_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("noise", "noise@2"):
        (tmp_path / name).write_bytes(b"other weights")
        assert load_weights(name).name.startswith("noise@")


def test_a_path_is_a_path(weights_file):
    assert load_weights(weights_file).name == str(weights_file)
    with pytest.raises(RL2Error, match="There is no file"):
        load_weights("lung-colon.safetensors")


def test_what_ships_is_what_the_catalog_says():
    for entry in list_weights():
        weights = load_weights(entry.name)
        assert (catalog.BUNDLED / entry.file).stat().st_size == entry.bytes < 40e6
        assert int(weights.reference.sums.count) > 100
        assert {"data", "licence", "citation"} <= set(weights.card)


def test_later_weights_do_not_change_what_a_version_means():
    # The first 12 digits of what the value of a version depends on; a version once released never changes.
    identities = {entry.name: load_weights(entry.name).weights_id[:12] for entry in list_weights()}
    assert identities == {"lung-colon@1": "0deacfd998e1", "lung-colon@2": "09814d29141d"}
