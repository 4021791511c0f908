import json

import torch
from torchvision.models import resnet18
from typer.testing import CliRunner

from tests.fixtures.server import SMALL
from torchmetrics_rl2 import CatalogEntry, list_weights, register_weights
from torchmetrics_rl2.cli.app import app
from torchmetrics_rl2.cli.options import complete_weights
from torchmetrics_rl2.files import sha256_of
from torchmetrics_rl2.weights import fetch_weights, read_weights


def remote(server):
    return CatalogEntry(
        "acme/breast@1", f"{server.address}/ok", sha256_of(SMALL), 7336, "H&E, breast", "CC0-1.0", "breast", 64, 0.25
    )


def test_list_says_what_there_is_and_where(rl2, server):
    register_weights(remote(server))
    code, out, _ = rl2("weights", "list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert rows[0] == ["name", "tissue", "px", "mpp", "MB", "license", "where", "summary"]
    assert rows[-1] == [
        "acme/breast@1",
        "breast",
        "64",
        "0.25",
        "0.0",
        "CC0-1.0",
        f"{server.address}/ok",
        "H&E,",
        "breast",
    ]
    assert [row[0] for row in rows[1:]] == [entry.name for entry in list_weights()]
    assert server.requests == []
    rl2("weights", "fetch", "acme/breast")
    code, out, _ = rl2("weights", "list", "--json")
    assert [row["where"] for row in json.loads(out)][-1] == "cached"


def test_fetch_path_and_verify_agree_on_the_file(rl2, server):
    register_weights(remote(server))
    code, fetched, err = rl2("weights", "fetch", "acme/breast", "colon@3")
    first = fetched.splitlines()[0]
    assert (code, len(server.requests)) == (0, 1)
    assert "acme/breast" in err
    assert rl2("weights", "path", "acme/breast@1")[1].strip() == first
    code, out, _ = rl2("weights", "verify", "acme/breast", "colon@3")
    assert (code, out.splitlines()) == (0, ["acme/breast@1: ok, 3410a0632e77", "colon@3: ok, 61540a8ffab4"])
    assert len(server.requests) == 1


def test_verify_ends_with_1_if_a_file_is_wrong(rl2, tmp_path):
    path = tmp_path / "w.safetensors"
    raw = bytearray(SMALL.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    code, out, _ = rl2("weights", "verify", "lung@3", path, "--json")
    found = json.loads(out)
    assert code == 1
    assert [row["ok"] for row in found] == [True, False]
    assert "was altered" in found[1]["error"]


def test_verify_names_a_spoilt_file_of_the_cache_and_fetches_nothing(rl2, server):
    register_weights(remote(server))
    path = fetch_weights("acme/breast")
    path.write_bytes(b"spoilt")
    code, out, _ = rl2("weights", "verify", "acme/breast")
    assert code == 1
    assert "has the sha256" in out
    assert len(server.requests) == 1


def test_an_address_is_shown_as_it_is(rl2, server):
    address = server.url("ok?{a}[/b]")
    assert rl2("weights", "path", address)[0] == 2  # 404, and no failure of the bar
    assert "404" in rl2("weights", "path", address)[2]


def test_show_has_the_card_and_whose_backbone_it_is(rl2):
    code, out, _ = rl2("weights", "show", SMALL, "--json")
    shown = json.loads(out)
    assert code == 0
    assert (shown["backbone_of"], shown["preprocessing"]["mpp"], shown["n_reference"]) == ("histology@2", 0.25, 0)
    assert shown["card"]["license"] == "CC0-1.0"
    assert "weights_id: 3410a0632e77" in rl2("weights", "show", SMALL)[1]
    assert shown["between_groups"] is None


def test_show_says_what_real_images_of_one_laboratory_score_against_the_others(rl2):
    found = json.loads(rl2("weights", "show", "histology", "--json")[1])["between_groups"]
    assert (found["units"], found["count"]) == ("laboratories", 10)
    assert [round(value, 1) for value in found["whole"]] == [10.7, 19.9, 30.5]


def test_import_and_export(rl2, tmp_path, monkeypatch):
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "r.pth")
    out_file, program = tmp_path / "w.safetensors", tmp_path / "w.pt2"
    arguments = ("--px", 64, "--mpp", 0.5, "--license", "MIT", "--summary", "Noise")
    code, out, err = rl2("weights", "import", tmp_path / "r.pth", "-o", out_file, *arguments)
    assert (code, out.startswith(f"Wrote {out_file} (")) == (0, True)
    assert "latents are the features themselves" in err
    made = read_weights(out_file)
    assert (made.card["license"], made.preprocessing.mpp) == ("MIT", 0.5)
    asked = []
    exporting = lambda encoder, *given: asked.append((encoder.weights_id, *given)) or 2e-6  # tested with the encoder
    monkeypatch.setattr("torchmetrics_rl2.encoder.exporting.export_program", exporting)
    code, out, _ = rl2("weights", "export", out_file, "-o", program, "--px", 96)
    assert (code, out) == (
        0,
        f"Wrote {program}: its latents differ from those of this package by at most 2.0e-06 of their norm\n",
    )
    assert asked == [(made.weights_id, program, 96)]


def test_wrong_input_is_a_sentence(rl2, tmp_path):
    for arguments, sentence in (
        (("show", "lung-kolon"), "Did you mean lung-colon"),
        (("path", tmp_path / "none.safetensors"), "There is no file"),
        (("path", tmp_path), "is a folder; expected RL2 weights"),
        (("fetch", "https://acme.org/w.safetensors"), "add #sha256="),
        (("export", "lung-colon", "-o", tmp_path / "w.txt"), "ends in '.txt'"),
        (
            ("import", tmp_path / "none.pth", "-o", tmp_path / "w.safetensors"),
            "none.pth; expected weights, or the state",
        ),
    ):
        code, out, err = rl2("weights", *arguments)
        assert (code, out) == (2, "")
        assert sentence in err


def test_the_shell_completes_names():
    asked = {"_RL2_COMPLETE": "complete_bash", "COMP_WORDS": "rl2 weights show lung", "COMP_CWORD": "3"}
    shown = CliRunner().invoke(app, env=asked, prog_name="rl2")
    assert shown.output.split() == ["lung-colon", "lung"]
    assert list(complete_weights("lung@")) == [("lung@3", "H&E, lung (LC25000), 224 px; backbone of histology@2")]
