import json
import shutil
from dataclasses import replace

import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import random_images
from torchmetrics_rl2 import LatentEncoder, RL2Error, Statistics, audit, compare
from torchmetrics_rl2.auditing import auroc, check_can_save, save_audit
from torchmetrics_rl2.auditing.checks import read_outliers
from torchmetrics_rl2.auditing.subject import Subject
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.networks import Gaussian
from torchmetrics_rl2.pixels import degrade, handcrafted_statistics
from torchmetrics_rl2.weights import read_weights, write_weights

LADDERS = ["salt and pepper", "magnification"]


@pytest.fixture(scope="module")
def found(encoder, patches):
    return audit(encoder, patches, ladders=LADDERS)


def test_auc_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    clean, damaged = (torch.randn(n, generator=generator).round(decimals=1) for n in (40, 30))
    labels = [0] * 40 + [1] * 30
    assert auroc(clean, damaged) == pytest.approx(roc_auc_score(labels, torch.cat([-clean, -damaged])))


def test_the_baseline_is_scikit_learns_ledoit_wolf_gaussian():
    generator = torch.Generator().manual_seed(0)
    fitted, judged = (
        torch.randn(n, 15, generator=generator) @ torch.randn(15, 15, generator=generator) for n in (60, 9)
    )
    scaler = StandardScaler().fit(fitted)
    model = LedoitWolf().fit(scaler.transform(fitted))
    distance = torch.tensor(model.mahalanobis(scaler.transform(judged)))
    ours = -2 * Gaussian(fitted).log_prob(judged).double()
    assert torch.allclose(
        (ours - ours[0]) / (distance - distance[0]).abs().max(),
        (distance - distance[0]) / (distance - distance[0]).abs().max(),
        atol=0.05,
    )


def test_a_severity_is_the_comparison_of_the_damaged_with_the_other_half(found, encoder, patches):
    subject = Subject.read(patches, None, ImageReader(), 120, 0)
    severity = found.ladders[0].severities[1]
    damaged = degrade(subject.images, "salt and pepper", severity.severity)
    sides = subject.images[~subject.second], damaged[subject.second]
    result = compare(*(Statistics.of_latents(encoder(images)) for images in sides))
    assert severity.amount == pytest.approx(0.02)
    assert severity.value == pytest.approx(result.value, rel=1e-5)
    assert severity.p_value == pytest.approx(result.p_value, abs=1e-6)
    assert severity.interval == pytest.approx(result.interval, rel=1e-4)
    assert severity.auc == pytest.approx(auroc(encoder.log_prob(subject.images), encoder.log_prob(damaged)))
    clean = [Statistics.of_latents(encoder(subject.images[half])) for half in (~subject.second, subject.second)]
    assert found.clean_p_value == pytest.approx(compare(*clean).p_value, abs=1e-6)


def test_baselines_are_fitted_to_the_other_half_and_to_their_own_numbers(found, encoder, patches):
    subject = Subject.read(patches, None, ImageReader(), 120, 0)
    severity = found.ladders[0].severities[0]
    damaged = degrade(subject.images, "salt and pepper", severity.severity)
    for numbers, area in (
        (encoder.features, severity.auc_gaussian),
        (lambda images: handcrafted_statistics(images.float() / 255), severity.auc_handcrafted),
    ):
        areas = []
        for half in (subject.second, ~subject.second):
            model = Gaussian(numbers(subject.images[~half]))
            areas.append(auroc(*(model.log_prob(numbers(images[half])) for images in (subject.images, damaged))))
        assert area == pytest.approx(sum(areas) / 2)


def test_a_signed_ladder_is_judged_at_the_visible_strength_of_its_direction(encoder, patches):
    result = audit(encoder, patches, ladders=["eosin"])
    assert [ladder.visible for ladder in result.ladders] == [0.5, -0.5]
    assert [ladder.at_visible.severity for ladder in result.ladders] == [0.5, -0.5]


def test_it_withholds_what_the_images_are_too_few_for(found):
    assert [ladder.name for ladder in found.ladders] == ["salt and pepper", "magnification +"]
    claims = " ".join(found.withheld)
    for claim in (
        "coarser magnification: it needs fields of 128 px",
        "power at 25",
        "outliers: ",
        "lost diversity",
    ):
        assert claim in claims
    assert (found.power, found.contamination, found.diversity) == ([], None, None)
    assert (found.n, found.units, found.px) == (24, 24, 64)


def test_the_same_audit_twice_is_the_same(found, encoder, patches):
    again = audit(encoder, patches, ladders=LADDERS)
    assert again.to_dict() == found.to_dict()


def test_larger_images_give_coarser_magnification(encoder, tmp_path):
    for i, image in enumerate(random_images(9, px=128)):
        to_pil_image(image).save(tmp_path / f"{i}.png")
    result = audit(encoder, tmp_path, tile=64, ladders=["magnification"], limit=24)
    assert [ladder.name for ladder in result.ladders] == ["magnification +", "magnification -"]
    assert [round(severity.amount, 2) for severity in result.ladders[1].severities] == [-0.25, -0.5, -1]
    assert len(result.withheld) >= 1


def test_one_unit_a_half_has_no_verdicts(encoder, patches):
    result = audit(encoder, patches, groups="parent", ladders=["salt and pepper"])
    assert result.units == 3
    assert result.ladders[0].verdict == "untested"
    assert "intervals and tests" in result.withheld[0]


def test_weights_without_a_reference_are_audited_too(bare_encoder, patches, found):
    result = audit(bare_encoder, patches, ladders=["salt and pepper"])
    assert result.domain is None
    assert result.ladders[0].severities == found.ladders[0].severities
    assert found.domain > 0


def test_a_summary_goes_into_the_file_and_changes_no_latent(found, weights, tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(weights, path)
    save_audit(found, path)
    read = read_weights(path)
    assert read.weights_id == weights.weights_id
    assert read.card["audit"] == json.loads(json.dumps(found.summary()))
    assert read.card["license"] == "CC0-1.0"
    write_weights(replace(weights, flow=dict(weights.flow) | {"linear.mean": weights.flow["linear.mean"] + 1}), path)
    with pytest.raises(RL2Error, match="was audited"):
        save_audit(found, path)
    with pytest.raises(RL2Error, match="lung-colon is a name"):
        check_can_save("lung-colon")


def test_wrong_input_gets_a_sentence(encoder, patches):
    for arguments, sentence in (
        ({"ladders": ["blur"]}, "no ladder 'blur'; known are gaussian blur"),
        ({"ladders": []}, "no ladder to climb"),
        ({"limit": 7}, "at least 8 images, but got a limit of 7"),
    ):
        with pytest.raises(RL2Error, match=sentence):
            audit(encoder, patches, **arguments)


def test_outliers_are_looked_at_before_the_work(encoder, patches, tmp_path):
    told = []
    with pytest.raises(RL2Error, match="nowhere"):
        audit(encoder, patches, outliers=tmp_path / "nowhere", progress=lambda *report: told.append(report))
    assert not told


def test_progress_ends_at_its_total(encoder, patches):
    told = []
    audit(encoder, patches, ladders=["pen", "pen"], progress=lambda *report: told.append(report))
    # Clean, four severities, outliers, and what all say together.
    assert told[-1][1:3] == (7, 7)
    assert [report[1] for report in told].count(7) == 1


def test_files_that_cannot_be_read_are_named(encoder, patches, tmp_path):
    copied = shutil.copytree(patches, tmp_path / "some")
    (copied / "broken.png").write_bytes(b"no image")
    with pytest.raises(RL2Error, match="broken.png"):
        audit(encoder, copied, ladders=["pen"])
    result = audit(encoder, copied, ladders=["pen"], skip_unreadable=True)
    assert result.n == 24
    assert len(result.unreadable) == 1
    assert "broken.png" in result.unreadable[0]


def test_failures_of_the_outliers_are_not_those_of_the_images(encoder, patches, tmp_path):
    """Of both sources one file is broken; each is counted where it is."""
    own, other = (shutil.copytree(patches, tmp_path / name) for name in ("own", "other"))
    for folder in (own, other):
        (folder / "broken.png").write_bytes(b"no image")
    result = audit(encoder, own, outliers=other, ladders=["pen"], limit=25, skip_unreadable=True)
    assert [reason.partition(" ")[0] for reason in result.unreadable] == [str(own / "broken.png")]
    mixed_in = read_outliers(other, ImageReader(skip_unreadable=True), 2500)
    assert [reason.partition(" ")[0] for reason in mixed_in.unreadable] == [str(other / "broken.png")]


def test_an_encoder_gives_what_its_name_gives(patches, weights_file):
    by_name = audit(weights_file, patches, ladders=["pen"], limit=12)
    by_encoder = audit(LatentEncoder.load(weights_file), patches, ladders=["pen"], limit=12)
    assert by_encoder.to_dict() == by_name.to_dict()


@pytest.fixture(scope="module")
def found_of_kinds(encoder_of_kinds, two_kinds):
    return audit(encoder_of_kinds, two_kinds, ladders=["salt and pepper"])


def test_damage_is_judged_by_look_where_there_are_kinds(found_of_kinds, encoder_of_kinds, two_kinds):
    subject = Subject.read(two_kinds, None, ImageReader(), 120, 0)
    severity = found_of_kinds.ladders[0].severities[1]
    damaged = degrade(subject.images, "salt and pepper", severity.severity)
    sides = (subject.images[~subject.second], damaged[subject.second], subject.images[subject.second])
    first, second, clean = (encoder_of_kinds.statistics(encoder_of_kinds(images)) for images in sides)
    look = compare(first, second).look
    assert severity.value == pytest.approx(look.value, rel=1e-5)
    assert severity.debiased == pytest.approx(look.debiased, rel=1e-4)
    assert severity.p_value == pytest.approx(look.p_value, abs=1e-6)
    assert severity.interval == pytest.approx(look.interval, rel=1e-4)
    assert found_of_kinds.clean == pytest.approx(compare(first, clean).look.value, rel=1e-5)
    assert found_of_kinds.part == found_of_kinds.ladders[0].part == "look"


def test_content_and_cross_talk_of_kinds_by_the_weights_and_as_given(found_of_kinds, encoder_of_kinds, two_kinds):
    assert found_of_kinds.kinds == {"bright": 14, "dark": 14}
    assert found_of_kinds.content[0].verdict == "detects"
    assert [row.wrong for row in found_of_kinds.cross_talk if row.cause == "damage"] == [
        "salt and pepper 0.01 fraction",
        "salt and pepper 0.02 fraction",
    ]
    assert [row.at for row in found_of_kinds.cross_talk][-2:] == ["weakest", "visible"]
    given = audit(encoder_of_kinds, two_kinds, ladders=["salt and pepper"], kinds="parent")
    assert given.kinds == {"b": 14, "d": 14}
    assert [step.draws for step in given.content[0].steps] == [step.draws for step in found_of_kinds.content[0].steps]
    assert given.settings["kinds"] == "parent"


def test_weights_without_kinds_go_on_with_the_whole(found):
    assert (found.part, found.kinds, found.content, found.cross_talk) == ("whole", {}, (), ())
    assert "content: the weights have no kinds of tissue" in found.withheld


def test_progress_ends_at_its_total_with_kinds_too(encoder_of_kinds, two_kinds):
    told = []
    audit(encoder_of_kinds, two_kinds, ladders=["magnification"], progress=lambda *report: told.append(report))
    steps = [report[1] for report in told]
    # Clean, three severities, four content ladders, outliers, and what all say together.
    assert told[-1][1:3] == (10, 10)
    assert steps == sorted(steps)
    assert set(steps) == set(range(11))
    assert steps.count(10) == 1
