from dataclasses import replace

import pytest
import torch

from tests.reporting.test_run import Page
from torchmetrics_rl2.distance import find_repeats
from torchmetrics_rl2.distance.comparison import rank
from torchmetrics_rl2.distance.comparison_text import verdict_of
from torchmetrics_rl2.distance.text import range_text, three_digits
from torchmetrics_rl2.reporting import report_to

pytest.importorskip("bokeh")


def compared(encoder, shifts, groups=None):
    """Generators whose latents are shifted so."""

    def statistics(shift, seed):
        latents = torch.randn(40, 512, generator=torch.Generator().manual_seed(seed))
        return encoder.statistics(latents + shift, groups, source=f"shifted by {shift}")

    return rank(statistics(0, 9), {name: statistics(shift, seed) for seed, (name, shift) in enumerate(shifts.items())})


def page(result, path):
    report_to(path)(result)
    return Page(path.read_text()).sections


@pytest.fixture(params=["encoder", "encoder_of_kinds"])
def result(request):
    return compared(request.getfixturevalue(request.param), {"a": 0, "b": 0.5, "c<d>": 0})


def test_a_comparison_is_a_page_with_every_generator_and_pair(result, tmp_path):
    found = page(result, tmp_path / "compare.html")
    assert list(found) == ["", "order", "pairs", "alone", "computed", "cite"]
    assert verdict_of(result) in found[""]
    assert verdict_of(result) in found["cite"]
    for one in result.generators:
        assert all(one.name in found[section] for section in ("order", "alone", "cite"))
        assert three_digits(one.result.debiased) in found["order"]
    for pair in result.pairs:
        assert range_text(pair.interval) in found["pairs"]
    assert "Bonferroni" in found["cite"]
    assert ("look" in found["order"]) == (result.generators[0].result.look is not None)


def test_generators_that_repeat_themselves_are_named_on_it(encoder, tmp_path):
    found = compared(encoder, {"a": 0, "b": 0.5})
    fake, real = torch.rand(2, 40, 8, 8, generator=torch.Generator().manual_seed(0))
    lost = find_repeats(fake[:4].repeat(10, 1, 1), real)
    first, second = found.generators
    first = replace(first, result=replace(first.result, diversity=lost))
    second = replace(second, result=replace(second.result, diversity=find_repeats(fake, real)))
    said = page(replace(found, generators=[first, second]), tmp_path / "compare.html")[""]
    assert "a: Lost diversity: 40 of 40 generated images" in said
    assert "b: " not in said


def test_p_values_are_shown_where_there_are_groups(encoder, tmp_path):
    groups = [f"slide {i // 4}" for i in range(40)]
    found = page(compared(encoder, {"a": 0, "b": 0.5}, groups), tmp_path / "p.html")["pairs"]
    assert "Differsp" in found
    assert "yes< 0.001" in found
