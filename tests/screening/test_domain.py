import torch

from tests.fixtures.images import tissue
from torchmetrics_rl2.pixels.degradations import degrade
from torchmetrics_rl2.screening.domain import domain_of


def test_domain_tells_same_from_shifted_and_damage_from_neither(screener):
    same = tissue(50, seed=21)
    assert domain_of(screener, same.split(20)).verdict == "same"
    other = domain_of(screener, [degrade(same, "hematoxylin", 0.8)])
    assert other.verdict in ("shifted", "outside")
    assert other.low > 0
    assert other.shift > 0
    assert domain_of(screener, [same[:2]]).verdict == "unknown"


def test_what_no_stain_makes_takes_no_part(screener):
    same = tissue(50, seed=21)
    alone = domain_of(screener, [same])
    for color in ((0, 0, 0), (20, 40, 190), (255, 0, 255), (245, 243, 244)):
        other = torch.tensor(color, dtype=torch.uint8).view(1, 3, 1, 1).expand(30, 3, 64, 64)
        assert domain_of(screener, [same, other]) == alone
    assert domain_of(screener, [other]).verdict == "unknown"
