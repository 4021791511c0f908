"""What ``rl2 weights show`` prints."""

import json
from dataclasses import replace

from tests.fixtures.server import SMALL
from torchmetrics_rl2.encoder.card import card_text, describe
from torchmetrics_rl2.weights import list_weights, load_weights
from torchmetrics_rl2.weights.file import read_weights
from torchmetrics_rl2.weights.loading import lend

SETS = (
    *("1912.12142", "21540159", "ftmp4cvtmb", "9bsc36jyrt", "TCIA", "BreaKHis", "BreCaHAD", "BCSS", "CAMELYON"),
    *("zenodo 1214456", "zenodo 53169", "zenodo 3552674", "OS-1"),
)


def test_a_card_says_in_lines_what_the_weights_are_for():
    text = card_text(describe(load_weights("histology")))
    lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(" "))
    assert text.startswith(
        "histology@2: H&E, many organs and laboratories, 224 px\n\nPatches: 224 x 224 px, of several"
    )
    assert lines["Reference"] == (
        "339 real images. Those of each of 10 laboratories with 8 or more score 10.7 to 30.5 against the others, "
        "median 19.9"
    )
    assert lines["Kinds of tissue"].startswith("colorectal adenocarcinoma 7 %, lung adenocarcinoma 5 %")
    assert lines["Flow"] == "whitening, then no coupling layers"
    assert lines["Damage that --explain can name"] == "20 kinds"
    assert lines["Audit"].startswith("none in this file")
    assert (lines["Backbone"], lines["weights_id"][:12]) == ("in this file", "4b690ea37a0d")
    assert all(len(line) < 300 for line in lines.values())


def test_weights_with_little_in_them_have_a_card(weights):
    text = card_text(describe(replace(weights, card={}, reference=None, signatures=None)))
    assert text.startswith("random@1\n\nPatches: 64 x 64 px")
    assert "Reference: no real images inside" in text
    assert "Kinds" not in text
    assert "Damage that --explain can name: none" in text


def test_what_a_fit_and_an_audit_wrote_is_told(weights_of_kinds):
    card = {
        "fit": {"n_fit": 100, "n_stop": 10},
        "audit": {"n": 60, "images": "held_out", "verdicts": {"detects": ["ink", "blur"], "blind": ["cast"]}},
        "scanner": "GT450",
        "kinds": "by hand",
    }
    text = card_text(describe(replace(weights_of_kinds, card=card)))
    assert "\nData: 100 patches fitted the flow, 10 stopped it\n" in text
    assert "\nAudit: 60 images of held_out; detects ink, blur; blind cast\n" in text
    assert "\nscanner: GT450" in text
    assert "\nKinds of tissue: kind 1 " in text
    whole = {"n": 1, "images": "x", "verdicts": {"detects": 3}}
    for odd in ({"audit": "good"}, {"audit": {"verdicts": 3}}, {"audit": whole}, {"fit": [], "citation": 4}):
        assert "Audit: none" in card_text(describe(replace(weights_of_kinds, card=odd)))


def test_a_description_is_json_with_all_of_the_card():
    weights = read_weights(SMALL, lend)
    described = json.loads(json.dumps(describe(weights), allow_nan=False))
    assert described["card"] == weights.card
    assert described["backbone_of"] == "histology@2"


def test_weights_cite_every_set_that_their_backbone_saw():
    for entry in list_weights():
        cited = load_weights(entry.name).card["citation"]
        assert [name for name in SETS if name not in cited] == [], entry.name
