import os
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from torchmetrics_rl2 import RL2Error, compute_statistics, score
from torchmetrics_rl2.distance.between_groups import BetweenGroups
from torchmetrics_rl2.distance.explanation import Explanation
from torchmetrics_rl2.distance.text import three_digits
from torchmetrics_rl2.reporting import report_to
from torchmetrics_rl2.reporting.citing import citation_of
from torchmetrics_rl2.reporting.sections import cause as cause_of
from torchmetrics_rl2.reporting.sections import kinds as kinds_of

pytest.importorskip("bokeh")

MOST = 5_000_000


class Page(HTMLParser):
    """What is on a page: text by heading, tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sections, self._hidden = [], {"": ""}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self._hidden = tag
        if tag == "section":
            self.sections[dict(attributes)["aria-labelledby"]] = ""

    def handle_endtag(self, tag):
        if tag == self._hidden:
            self._hidden = None

    def handle_data(self, data):
        if not self._hidden:
            self.sections[[*self.sections][-1]] += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text(scored, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "out.html"
    report_to(path)(scored)
    return path.read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_a_page_says_the_verdict_first_and_then_what_is_behind_it(scored, page):
    result = scored.result
    assert list(page.sections) == ["", "parts", "cause", "kinds", "images", "plane", "sides", "computed", "cite"]
    head = page.sections[""]
    assert str(result).splitlines()[0] in head
    assert head.index(str(result).splitlines()[0]) < head.index(three_digits(result.value))
    assert "{} to {}".format(*map(three_digits, result.interval)) in head
    assert f"24 against {result.n_real}" in head
    for part in (result, result.look, result.content):
        assert "{} to {}".format(*map(three_digits, part.interval)) in page.sections["parts"]
    cause = result.explanation.causes[0]
    assert cause.damage == "near blank"
    assert "near blank" in page.sections["cause"]
    assert "{} to {}".format(*map(three_digits, cause.interval)) in page.sections["cause"]
    assert all(kind.name in page.sections["kinds"] for kind in result.kinds)
    assert "PNG (24)" in page.sections["sides"]
    assert "64 x 64" in page.sections["sides"]
    assert result.versions["torch"] in page.sections["computed"]
    assert citation_of(result) in page.sections["cite"]


def test_a_share_explained_lies_between_nothing_and_all(scored):
    """Chance puts it beyond."""
    closest = [replace(scored.result.explanation.causes[0], share=share) for share in (1.04, -0.04)]
    for one, text in zip(closest, ("100 %", "0 %"), strict=True):
        result = replace(scored.result, explanation=Explanation(explained=one.share, closest=one))
        assert cause_of(replace(scored, result=result)).tables[0].rows[0][-1] == text


def test_images_stand_beside_their_nearest_real_one(scored, page):
    shown = [image["alt"] for image in page.of("img")]
    expected = []
    for has_place, images in ((True, scored.result.explanation.images), (False, scored.result.explanation.typical)):
        for i in images:
            expected.append(f"Generated image {i.image[-6:]}")
            expected += [f"Where generated image {i.image[-6:]} lies furthest from real ones"] if has_place else []
            expected.append(f"Nearest real image {i.nearest[-6:]}")
    assert shown == expected
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.of("img"))


def test_a_page_loads_nothing(text, page):
    assert "default-src 'none'" in next(tag["content"] for tag in page.of("meta") if "http-equiv" in tag)
    assert page.of("link") == []
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert styles
    assert not any("url(" in style or "@import" in style for style in styles)


@pytest.mark.slow
def test_a_page_of_ten_thousand_images_stays_small(ten_thousand, tmp_path):
    report_to(tmp_path / "out.html")(ten_thousand)
    text = (tmp_path / "out.html").read_text()
    assert 2_000_000 < len(text.encode()) < MOST
    assert 300 < text.count("data:image/jpeg") < 500
    assert "of 10,000 generated images" in text


def test_what_is_not_known_is_withheld_with_a_reason(patches, weights_file, tmp_path):
    """Weights of one kind and without signatures, and sums instead of images on both sides."""
    fake = compute_statistics(patches / "bright", weights=weights_file)
    score(fake, weights=weights_file, report=report_to(tmp_path / "out.html"))
    found = Page((tmp_path / "out.html").read_text()).sections
    assert "these weights have one kind of tissue" in found["parts"]
    assert "has no signatures of damage" in found["cause"]
    assert "there are no shares" in found["kinds"]
    assert "statistics keep none" in found["images"]
    assert "not images alone" in found["plane"]
    assert "where both sides are images" in found["sides"]


def test_generated_images_against_the_reference_are_shown_alone(patches, weights_file, tmp_path):
    score(patches / "bright", weights=weights_file, report=report_to(tmp_path / "out.html"))
    found = Page((tmp_path / "out.html").read_text()).sections
    assert "no real images, only sums of them" in found["images"]
    assert "Where in the images is not shown" in found["images"]
    assert "Real images are not shown" in found["plane"]
    assert "against the reference data inside the weights" in found[""]


def test_three_images_have_no_interval_and_the_page_says_why(patches, weights_file, tmp_path):
    few = [str(path) for path in sorted((patches / "bright").iterdir())[:3]]
    score(few, patches / "a", weights=weights_file, report=report_to(tmp_path / "out.html"))
    found = Page((tmp_path / "out.html").read_text()).sections
    assert "needs at least 4 images a side" in found[""]
    assert "unknown" in found["parts"]
    assert "Sharpness and stain are compared from 10 images a side on" in found["sides"]


def test_names_of_files_are_text(patches, weights_file, tmp_path):
    folder = "<script><img src=x onerror='alert(1)'>\"&</"
    for side, patch in (("real", "a"), ("fake", "bright")):
        for i, path in enumerate((patches / patch).iterdir()):
            of_two = tmp_path / side / f"{i % 2}{folder}"
            of_two.mkdir(parents=True, exist_ok=True)
            (of_two / f"script>{path.name}").write_bytes(path.read_bytes())
    sides = [tmp_path / side for side in ("fake", "real")]
    score(*sides, weights=weights_file, report=report_to(tmp_path / "out.html"))
    text = (tmp_path / "out.html").read_text()
    assert "<img src=x" not in text
    assert text.count("</script>") == text.count("<script type") + text.count("<script>")
    assert all(image["src"].startswith("data:") for image in Page(text).of("img"))


def test_images_that_have_gone_leave_a_gap(scored, tmp_path):
    name = scored.result.explanation.images[0].image
    before = Path(name).read_bytes()
    try:
        Path(name).write_bytes(b"")
        report_to(tmp_path / "out.html")(scored)
    finally:
        Path(name).write_bytes(before)
    assert "cannot be read any more" in (tmp_path / "out.html").read_text()


def test_a_page_that_cannot_be_written_is_refused_before_any_image_is_read(tmp_path, monkeypatch):
    with pytest.raises(RL2Error, match=r"an \.html file, but got report\.txt"):
        report_to("report.txt")
    with pytest.raises(RL2Error, match="does not exist or is not writable"):
        report_to(tmp_path / "gone" / "out.html")
    (tmp_path / "file").touch()
    with pytest.raises(RL2Error, match="does not exist or is not writable"):
        report_to(tmp_path / "file" / "out.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(RL2Error, match="is a folder"):
        report_to(tmp_path / "folder.html")
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(RL2Error, match=r"Reports need bokeh: pip install 'torchmetrics-rl2\[report\]'"):
        report_to(tmp_path / "out.html")


@pytest.mark.parametrize("generated", ["bright", "a"])
def test_images_against_statistics_are_shown_alone(patches, weights_file, tmp_path, generated):
    """Both with and without a direction that is known."""
    real = compute_statistics(patches / "b", weights=weights_file)
    score(patches / generated, real, weights=weights_file, report=report_to(tmp_path / "out.html"))
    found = Page((tmp_path / "out.html").read_text()).sections
    assert "no real images, only sums of them" in found["images"]
    assert "Real images are not shown" in found["plane"]


def test_kinds_of_few_images_are_not_judged_and_look_is_not_blamed(explaining, three_kinds, tmp_path):
    few = [str(path) for path in sorted((three_kinds / "same").iterdir())[:3]]
    score(few, three_kinds / "real", weights=explaining, report=report_to(tmp_path / "out.html"))
    kinds = Page((tmp_path / "out.html").read_text()).sections["kinds"]
    assert "Content is not judged: no interval, which needs at least 4 images a side" in kinds
    assert "change of look" not in kinds


def test_tissue_further_away_than_any_laboratory_is_not_called_a_kind(scored):
    kinds = [replace(kind, differs=True) for kind in scored.result.kinds]
    judged = replace(
        scored.result, kinds=kinds, content=replace(scored.result.content, interval=(-1.0, 1.0), limit=0.0)
    )
    for high, named in ((1.1 * judged.debiased, True), (0.9 * judged.debiased, False)):
        beside = BetweenGroups("laboratories", 6, (0.1, 0.2, high))
        told = " ".join(kinds_of(replace(judged, between_groups=beside)).sentences)
        assert ("Generated:" in told) == named
        assert ("any of 6 laboratories" in told) != named


def test_names_that_are_no_utf_8_are_written_as_bytes(patches, weights_file, tmp_path):
    if sys.platform != "linux":
        pytest.skip("file names are Unicode")
    (tmp_path / "fake").mkdir()
    for i, path in enumerate((patches / "bright").iterdir()):
        Path(os.fsdecode(os.fsencode(tmp_path / "fake") + b"/\xff%d.png" % i)).write_bytes(path.read_bytes())
    score(tmp_path / "fake", patches / "a", weights=weights_file, report=report_to(tmp_path / "out.html"))
    assert "\\udcff0.png" in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_a_page_that_is_interrupted_leaves_nothing_behind(scored, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        report_to(tmp_path / "out.html")(scored)
    assert list(tmp_path.iterdir()) == []


def test_latents_that_are_nan_are_told_of(patches, tmp_path):
    class Broken(nn.Module):
        num_features = 3

        def forward(self, images):
            latents = images.float().mean((2, 3))
            latents[0] = torch.nan
            return latents

    score(patches / "bright", patches / "a", weights=Broken(), report=report_to(tmp_path / "out.html"))
    found = Page((tmp_path / "out.html").read_text()).sections
    assert "there are NaN latents" in found[""]
    assert "There are NaN latents, so there are no points" in found["plane"]
    assert "Images are not ranked: RL2 is nan" in found["images"]


def test_of_many_sizes_it_is_said_that_there_are_more(patches, weights_file, tmp_path):
    (tmp_path / "fake").mkdir()
    for i, path in enumerate((patches / "bright").iterdir()):
        Image.open(path).resize((64 + i % 5, 64)).save(tmp_path / "fake" / path.name)
    score(tmp_path / "fake", patches / "a", weights=weights_file, report=report_to(tmp_path / "out.html"))
    assert "64 x 64, 64 x 65, 64 x 66 and 2 more sizes" in Page((tmp_path / "out.html").read_text()).sections["sides"]


def test_images_beside_statistics_do_not_stand_for_all(patches, weights_file, tmp_path):
    """Of most of the real images there are only sums, so nothing is known of their stain."""
    real = [compute_statistics(patches / "b", weights=weights_file), str(next((patches / "a").iterdir()))]
    score(patches / "bright", real, weights=weights_file, report=report_to(tmp_path / "out.html"))
    found = Page((tmp_path / "out.html").read_text()).sections
    assert "Nothing was found" not in found["sides"]
    assert "compared where both sides are images" in found["sides"]
    assert f"{len(real[0])} real images are not shown" in found["plane"]
    assert "nan" not in found["plane"]


def test_a_mean_that_is_zero_but_for_rounding_is_zero(page):
    assert not re.search("e-[0-9]", page.sections["plane"])


def test_what_copies_of_one_image_leave_unknown_is_no_number(explaining, three_kinds, tmp_path):
    (tmp_path / "fake").mkdir()
    image = next((three_kinds / "same").iterdir()).read_bytes()
    for i in range(6):
        (tmp_path / "fake" / f"{i}.png").write_bytes(image)
    score(tmp_path / "fake", three_kinds / "real", weights=explaining, report=report_to(tmp_path / "out.html"))
    found = Page((tmp_path / "out.html").read_text()).sections
    assert "Collapsed" in found[""]
    for name in ("parts", "cite"):
        assert not re.search(r"\bnan\b", found[name])


def test_a_side_against_itself_has_no_images_to_rank(explaining, three_kinds, tmp_path):
    score(three_kinds / "real", three_kinds / "real", weights=explaining, report=report_to(tmp_path / "out.html"))
    assert "Images are not ranked: RL2 is 0" in Page((tmp_path / "out.html").read_text()).sections["images"]


def test_the_pairs_closest_to_training_images_are_shown(explaining, three_kinds, tmp_path):
    fake = shutil.copytree(three_kinds / "same", tmp_path / "fake")
    held_out = shutil.copytree(three_kinds / "blank", tmp_path / "held out")
    options = {"weights": explaining, "held_out": held_out, "report": report_to(tmp_path / "out.html")}
    found = score(fake, three_kinds / "real", **options).copies
    page = Page((tmp_path / "out.html").read_text())
    assert "Generated images closest to a training image" in page.sections["images"]
    assert (
        f"{found.pairs[0].relative_distance:.2f} of the distance of the median held-out image"
        in page.sections["images"]
    )
    assert str(found) in " ".join(page.sections.values())
