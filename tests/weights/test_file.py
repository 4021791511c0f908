import json
import os
import stat
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.fixtures.server import SMALL
from torchmetrics_rl2 import CatalogEntry, LatentEncoder, RL2Error, register_weights
from torchmetrics_rl2.files import sha256_of
from torchmetrics_rl2.networks import Preprocessing
from torchmetrics_rl2.weights import fetch_weights, load_weights, loading, read_weights, write_weights
from torchmetrics_rl2.weights.file import HEADER


@cache
def lender():
    return load_weights("histology@2")


def lend(path, backbone):
    """As load_weights lends, but of what SMALL asks for it is loaded once."""
    return lender() if backbone["weights"] == "histology@2" else loading.lend(path, backbone)


def read_small(path):
    return read_weights(path, lend)


@pytest.fixture(scope="module")
def borrowed(weights):
    """The weights without their 22 MB of backbone, and how to read them."""
    return replace(weights, backbone_of=weights.name), lambda *_: weights


@pytest.fixture(scope="module")
def borrowed_file(borrowed, tmp_path_factory):
    path = tmp_path_factory.mktemp("borrowed") / "borrowed.safetensors"
    write_weights(borrowed[0], path, borrowed[1])
    return path


def header_of(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[HEADER])


def rewritten(source, target, change_header=None, change_tensors=None):
    header, tensors = header_of(source), load_file(source)
    if change_header:
        change_header(header)
    if change_tensors:
        change_tensors(tensors)
    text = json.dumps(header).replace('"HUGE"', "1e999")
    save_file({key: value.contiguous() for key, value in tensors.items()}, target, {HEADER: text})
    return target


def test_what_is_written_is_read(weights, weights_file):
    read = read_weights(weights_file)
    assert read.weights_id == weights.weights_id
    assert (read.preprocessing, read.flow_config, read.card) == (
        weights.preprocessing,
        weights.flow_config,
        weights.card,
    )
    for part in ("backbone", "flow"):
        assert all(value.equal(getattr(read, part)[key]) for key, value in getattr(weights, part).items())
    assert torch.equal(read.reference.scores, weights.reference.scores)
    assert torch.equal(read.reference.sums.sum, weights.reference.sums.sum)


def test_the_same_weights_make_the_same_bytes(weights, weights_file, tmp_path):
    write_weights(weights, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == weights_file.read_bytes()


def test_the_identity_depends_on_latents_alone(weights):
    flow = dict(weights.flow) | {"linear.mean": weights.flow["linear.mean"] + 1e-3}
    backbone = dict(weights.backbone) | {"bn1.bias": weights.backbone["bn1.bias"] + 1e-3}
    same = (replace(weights, card={}), replace(weights, reference=None), replace(weights, name="other"))
    other = (
        replace(weights, flow=flow),
        replace(weights, backbone=backbone),
        replace(weights, preprocessing=Preprocessing(px=64, std=(1.0, 1.0, 1.0))),
        replace(weights, flow_config=dict(weights.flow_config) | {"scale_bound": 0.3}),
    )
    assert {w.weights_id for w in same} == {weights.weights_id}
    assert len({w.weights_id for w in other} | {weights.weights_id}) == 5


def test_half_precision_on_disk_does_not_move_the_latents(weights, images):
    # The fixture's backbone is half precision, and its flow was fitted on the rounded backbone.
    single = {key: value.float() if value.is_floating_point() else value for key, value in weights.backbone.items()}
    assert torch.equal(LatentEncoder(replace(weights, backbone=single))(images), LatentEncoder(weights)(images))


def test_a_failed_write_leaves_nothing(weights, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("torchmetrics_rl2.storage.save_file", full)
    with pytest.raises(RL2Error, match="cannot be written: No space"):
        write_weights(weights, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_could_not_be_read_is_not_written(weights, tmp_path):
    flow = dict(weights.flow) | {"linear.log_det": torch.tensor(torch.nan)}
    with pytest.raises(RL2Error, match=r"w\.safetensors has values that are not finite"):
        write_weights(replace(weights, flow=flow), tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_permissions_follow_the_umask(borrowed, tmp_path):
    before = os.umask(0o027)
    try:
        write_weights(borrowed[0], tmp_path / "w.safetensors", borrowed[1])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w.safetensors").stat().st_mode) == 0o640


def test_writing_again_keeps_links_and_permissions(borrowed, tmp_path):
    file, link = tmp_path / "w.safetensors", tmp_path / "link.safetensors"
    write_weights(borrowed[0], file, borrowed[1])
    file.chmod(0o600)
    link.symlink_to(file)
    write_weights(replace(borrowed[0], card={"summary": "another"}), link, borrowed[1])
    assert link.is_symlink()
    assert read_weights(file, borrowed[1]).card == {"summary": "another"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(list(tmp_path.iterdir())) == 2


def spoiled(name, change):
    """Makes a file of which one tensor is changed."""

    def make(source, target):
        return rewritten(source, target, None, lambda tensors: tensors.update({name: change(tensors[name])}))

    return make


def reheaded(change):
    return lambda source, target: rewritten(source, target, change)


DAMAGED = {
    "There is no file.*expected RL2 weights": lambda source, target: target.with_name("missing.safetensors"),
    "cut off": lambda source, target: target.write_bytes(source.read_bytes()[:10_000]) and target,
    "not a readable safetensors": lambda source, target: target.write_bytes(b"hello") and target,
    "pickle": lambda source, target: torch.save({"a": 1}, target) or target,
    "is RL2 statistics, not RL2 weights. Give it in place of images, to --real for one": lambda source, target: (
        save_file({"a": torch.zeros(1)}, target, {"torchmetrics-rl2-statistics": "{}"}) or target
    ),
    "has no 'torchmetrics-rl2' entry": lambda source, target: save_file({"a": torch.zeros(1)}, target) or target,
    "format version 4, but torchmetrics-rl2 .* reads 1. It was written by 9.1.0: if that is later, upgrade": reheaded(
        lambda header: header.update(format_version=4, written_by="9.1.0")
    ),
    "is a web page": lambda source, target: target.write_text("\n<!DOCTYPE html><html>Log in</html>") and target,
    "pointer of Git LFS": lambda source, target: (
        target.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n") and target
    ),
    "never have more than": lambda source, target: (
        target.touch() or os.truncate(target, 2**31 + 1) or target  # sparse: no byte of it is on the disk
    ),
    "format version True": reheaded(lambda header: header.update(format_version=True)),
    "missing or unknown tensors, readout.mean": lambda source, target: rewritten(
        source, target, None, lambda tensors: tensors.update({"readout.mean": torch.zeros(527)})
    ),
    "format version 0": reheaded(lambda header: header.update(format_version=0)),
    "damaged header": reheaded(lambda header: header.pop("preprocessing")),
    "damaged header.*unexpected": reheaded(lambda header: header["flow"].update(depth=3)),
    "damaged header.*manual_seed|damaged header.*seed": reheaded(lambda header: header["flow"].update(seed="x")),
    "damaged header.*OverflowError": reheaded(lambda header: header["preprocessing"].update(mpp=10**400)),
    "altered.*checksums do not": reheaded(lambda header: header.pop("weights_id")),
    "no finite number": reheaded(lambda header: header["card"].update(many="HUGE")),
    "1000000000 layers": reheaded(lambda header: header["flow"].update(layers=10**9)),
    "width 1000000000": reheaded(lambda header: header["flow"].update(hidden=10**9)),
    "missing or unknown tensors": lambda source, target: rewritten(
        source, target, None, lambda tensors: tensors.pop("flow.linear.mean")
    ),
    "of shape": spoiled("flow.linear.mean", lambda tensor: tensor[:5]),
    "torch.float64": spoiled("flow.linear.mean", lambda tensor: tensor.double()),
    "malformed sums": spoiled("reference.sum", lambda tensor: tensor[:5]),
    "std above 0": reheaded(lambda header: header["preprocessing"].update(std=[0.2, 0, 0.2])),
    "damaged header.*could not convert": reheaded(lambda header: header["preprocessing"].update(std="abc")),
    "px and mpp": reheaded(lambda header: header["preprocessing"].update(px=-1)),
    "card is no object": reheaded(lambda header: header.update(card="text")),
    "impossible values in flow": spoiled("flow.couplings.0.permutation", lambda tensor: tensor * 0),
    "of 0 images": spoiled("reference.count", lambda tensor: tensor * 0),
    "altered.*checksums": spoiled("reference.sum", lambda tensor: tensor * 2),
    "altered after": reheaded(lambda header: header["preprocessing"].update(px=32)),
    "altered .* fresh copy": reheaded(lambda header: header.pop("reference_sha256")),
}


DAMAGED_BACKBONE = {
    "not finite": spoiled("backbone.bn1.bias", lambda tensor: torch.full_like(tensor, torch.nan)),
    "impossible values in backbone": spoiled("backbone.bn1.running_var", lambda tensor: -tensor),
    "altered": spoiled("backbone.bn1.bias", lambda tensor: tensor + 1),
}


@pytest.mark.parametrize("sentence", DAMAGED)
def test_a_damaged_file_is_refused_with_a_sentence(borrowed, borrowed_file, tmp_path, sentence):
    path = DAMAGED[sentence](borrowed_file, tmp_path / "damaged.safetensors")
    with pytest.raises(RL2Error, match=sentence):
        read_weights(path, borrowed[1])


@pytest.mark.parametrize("sentence", DAMAGED_BACKBONE)
def test_a_damaged_backbone_is_refused_with_a_sentence(weights_file, tmp_path, sentence):
    path = DAMAGED_BACKBONE[sentence](weights_file, tmp_path / "damaged.safetensors")
    with pytest.raises(RL2Error, match=sentence):
        read_weights(path)


@pytest.fixture(scope="module")
def borrowed_of_kinds(weights, weights_of_kinds, tmp_path_factory):
    """Weights of three kinds without their backbone, and how to read them."""
    path = tmp_path_factory.mktemp("kinds") / "kinds.safetensors"
    write_weights(replace(weights_of_kinds, backbone_of=weights.name), path, lambda *_: weights)
    return path, lambda *_: weights


def test_weights_of_kinds_are_written_and_read(weights_of_kinds, borrowed_of_kinds):
    read = read_weights(*borrowed_of_kinds)
    assert read.weights_id == weights_of_kinds.weights_id
    assert read.flow_config["kinds"] == 3
    assert read.card == weights_of_kinds.card
    for name in ("base.means", "base.log_shares"):
        assert torch.equal(read.flow[name], weights_of_kinds.flow[name])
    for name, value in vars(weights_of_kinds.reference.sums).items():
        assert torch.equal(getattr(read.reference.sums, name), value)
    means = dict(weights_of_kinds.flow) | {"base.means": weights_of_kinds.flow["base.means"] + 1e-3}
    assert replace(weights_of_kinds, flow=means).weights_id != read.weights_id


DAMAGED_KINDS = {
    "and 2 kinds, but its tensors are of 512, 2, 16 and 3": reheaded(lambda header: header["flow"].update(kinds=2)),
    "damaged header.*kinds": reheaded(lambda header: header["flow"].pop("kinds")),
    "and 1000000000 kinds": reheaded(lambda header: header["flow"].update(kinds=10**9)),
    "missing or unknown tensors, flow.base.log_shares": lambda source, target: rewritten(
        source, target, None, lambda tensors: tensors.pop("flow.base.log_shares")
    ),
    "are of 512, 2, 16 and 0": lambda source, target: rewritten(
        source, target, None, lambda tensors: tensors.pop("flow.base.means")
    ),
    "flow.base.means of shape": spoiled("flow.base.means", lambda tensor: tensor[:, :5]),
    "flow.base.log_shares of shape": spoiled("flow.base.log_shares", lambda tensor: tensor[:2]),
    "not finite in flow.base.means": spoiled("flow.base.means", lambda tensor: tensor * torch.nan),
    "altered": spoiled("flow.base.means", lambda tensor: tensor + 1),
    "malformed sums": spoiled("reference.kind_counts", lambda tensor: tensor[:2]),
    "malformed sums of latents: of 48": spoiled("reference.kind_counts", lambda tensor: tensor + 1),
    "malformed sums of": spoiled("reference.second_moment", lambda tensor: tensor[:-1, :-1]),
    "altered.*checksums": spoiled("reference.kind_counts", lambda tensor: tensor.roll(1) + torch.tensor([1, -1, 0])),
}


@pytest.mark.parametrize("sentence", DAMAGED_KINDS)
def test_damaged_weights_of_kinds_are_refused_with_a_sentence(borrowed_of_kinds, tmp_path, sentence):
    path, borrow = borrowed_of_kinds
    with pytest.raises(RL2Error, match=sentence):
        read_weights(DAMAGED_KINDS[sentence](path, tmp_path / "damaged.safetensors"), borrow)


def test_a_flipped_bit_anywhere_in_the_tensors_is_noticed(weights_file, borrowed, borrowed_file, tmp_path):
    for file, places in ((borrowed_file, 9), (weights_file, 2)):
        raw = bytearray(file.read_bytes())
        start = int.from_bytes(raw[:8], "little") + 8
        for position in range(start, len(raw), (len(raw) - start) // places):
            changed = raw.copy()
            changed[position] ^= 1
            (tmp_path / "w.safetensors").write_bytes(changed)
            with pytest.raises(RL2Error):
                read_weights(tmp_path / "w.safetensors", borrowed[1])


def test_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    torch.save({"x": Bomb()}, tmp_path / "w.safetensors")
    with pytest.raises(RL2Error, match="pickle"):
        read_weights(tmp_path / "w.safetensors")
    assert not (tmp_path / "exploded").exists()


def test_a_shared_backbone_is_left_out_and_found_again(tmp_path, weights, weights_file):
    ours = lender()
    path = tmp_path / "shared.safetensors"
    write_weights(replace(ours, backbone_of="histology@2"), path, lend)
    assert path.stat().st_size < 6.2e6
    assert header_of(path)["backbone"] == {"weights": "histology@2", "backbone_id": ours.backbone_id}
    assert not any(key.startswith("backbone.") for key in load_file(path))
    read = load_weights(path)
    assert (read.weights_id, read.backbone_id, read.backbone_of) == (ours.weights_id, ours.backbone_id, "histology@2")
    register_weights(CatalogEntry("acme/noise@1", str(weights_file), sha256_of(weights_file), 2, "S", "CC0-1.0"))
    with pytest.raises(RL2Error, match="made with another backbone than that of acme/noise@1"):
        write_weights(replace(ours, backbone_of="acme/noise@1"), path, lend)
    assert load_weights(path).backbone_of == "histology@2"
    with pytest.raises(
        RL2Error, match="has the backbone of other weights, 'histology@2', and is read with load_weights"
    ):
        read_weights(path)


@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [
        (
            {"weights": "acme/none@1", "backbone_id": "0"},
            "backbone of the weights 'acme/none@1', a name with version that is not known here",
        ),
        ({"weights": "../../etc/passwd", "backbone_id": "0"}, "not known here"),
        ({"weights": ["histology@2"], "backbone_id": "0"}, "not known here"),
        ({"weights": "histology@2", "backbone_id": 7}, "made with another backbone"),
        ({"weights": "histology", "backbone_id": "0"}, "a name with version that is not known here"),
        ({"weights": "histology@1", "backbone_id": "0"}, "a name with version that is not known here"),
        ({}, "damaged header"),
        ("histology@2", "damaged header"),
    ],
)
def test_a_shared_backbone_is_one_with_a_name(tmp_path, backbone, sentence):
    path = rewritten(SMALL, tmp_path / "w.safetensors", lambda header: header.update(backbone=backbone))
    with pytest.raises(RL2Error, match=sentence):
        read_small(path)


def test_a_flow_larger_than_its_file_is_not_built(tmp_path):
    def claim(tensors):
        tensors["flow.couplings.0.permutation"] = torch.zeros(0, dtype=torch.int64)
        tensors["flow.couplings.0.conditioner.0.bias"] = torch.zeros(100_000)  # a square of which is 40 GB

    path = rewritten(SMALL, tmp_path / "w.safetensors", lambda h: h["flow"].update(layers=1, hidden=100_000), claim)
    with pytest.raises(RL2Error, match="or incomplete"):
        read_small(path)


def test_weights_that_share_and_are_shared_are_refused(tmp_path):
    register_weights(CatalogEntry("acme/breast@1", str(SMALL), sha256_of(SMALL), 7336, "S", "CC0-1.0"))
    path = rewritten(
        SMALL, tmp_path / "w.safetensors", lambda header: header["backbone"].update(weights="acme/breast@1")
    )
    with pytest.raises(RL2Error, match="has the backbone of other weights, 'histology@2'"):
        load_weights(path)


SMALL_ID = header_of(SMALL)["weights_id"]

LATENTS = json.loads((Path(__file__).parent / "latents.json").read_text())
"""Of the image below, the first four latents and their norm, by what wrote the file."""


@pytest.mark.parametrize("name", LATENTS)
def test_files_keep_their_latents(name):
    path = SMALL if name == "acme/breast-40x@1" else fetch_weights(name)
    written, weights = LATENTS[name], read_small(path)
    assert header_of(path)["format_version"] == written["format_version"]
    ramp = torch.arange(3 * 64 * 64).reshape(1, 3, 64, 64)
    encoder = LatentEncoder(replace(weights, preprocessing=replace(weights.preprocessing, px=64)))
    latents = encoder((ramp * 7919 % 256).to(torch.uint8))[0]
    norm = written["norm"]
    assert latents.norm().item() == pytest.approx(norm, rel=1e-5)
    assert latents[:4].tolist() == pytest.approx(written["latents"], abs=1e-5 * norm)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_file_does_more_than_a_sentence(data, tmp_path_factory):
    """Bytes of a file are cut out, put in and changed: those of the header, of its length and of the JSON in it."""
    raw = bytearray(SMALL.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(raw), 1400)))
        raw[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(raw)
    try:
        found = read_small(path)
    except RL2Error:
        return
    assert found.weights_id == SMALL_ID


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["format_version", "weights_id", "reference_sha256", "preprocessing", "flow", "card", "backbone"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["mean", "std", "px", "mpp", "layers", "weights", "x"]), inner, max_size=4
                )
            ),
            max_leaves=8,
        ),
        min_size=1,
    )
)
def test_no_header_does_more_than_a_sentence(tmp_path_factory, changed):
    path = tmp_path_factory.getbasetemp() / "reheaded.safetensors"
    rewritten(SMALL, path, lambda header: header.update(changed))
    try:
        found = read_small(path)
    except RL2Error:
        return
    assert found.weights_id == SMALL_ID


def test_a_deep_header_is_a_sentence(tmp_path):
    tensors = load_file(SMALL)
    text = json.dumps(header_of(SMALL)).replace('"data": ', '"deep": ' + "[" * 100_000 + "]" * 100_000 + ', "data": ')
    save_file(tensors, tmp_path / "deep.safetensors", {HEADER: text})
    with pytest.raises(RL2Error, match="damaged header"):
        read_weights(tmp_path / "deep.safetensors")


def test_a_header_that_claims_to_be_huge_is_refused_unread(tmp_path):
    path = tmp_path / "huge.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{" + SMALL.read_bytes()[9:])
    with pytest.raises(RL2Error, match="not a readable safetensors"):
        read_weights(path)
