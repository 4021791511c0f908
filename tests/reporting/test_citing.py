from dataclasses import replace

from torchmetrics_rl2.distance.text import three_digits
from torchmetrics_rl2.reporting.citing import citation_of


def test_one_sentence_has_all_numbers(scored):
    result = scored.result
    found = citation_of(result)
    for part in (result, result.look, result.content):
        for value in (part.value, part.debiased, part.baseline, *part.interval):
            assert three_digits(value) in found
    assert found.count(". ") == 0
    assert found.startswith("RL2 between 24 generated images and 24 real images is ")
    assert str(result.explanation.causes[0]) in found
    assert f"weights {result.weights}, {result.weights_id[:12]}" in found
    assert "assuming independent patches" in found
    assert " p " not in found


def test_with_groups_there_is_a_p_value(scored):
    assert "p = 0.02" in citation_of(replace(scored.result, groups_real=8, groups_fake=8, p_value=0.02))


def test_content_that_cannot_be_judged_is_cited_as_such(scored):
    unsure = replace(scored.result.content, interval=(1.0, 2.0), debiased=1.5, limit=900.0, p_value=1.0)
    result = replace(scored.result, content=unsure)
    assert not result.is_judged("content")
    found = citation_of(result)
    assert found.count("which cannot be judged beside the other") == 1
    assert found.index("; content") < found.index("which cannot be judged")
