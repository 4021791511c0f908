import pytest

from torchmetrics_rl2.distance.explanation import Cause, Explanation, ImageShare, amount_text
from torchmetrics_rl2.pixels import LADDERS


@pytest.mark.parametrize(
    ("ladder", "severity", "text"),
    [
        ("gaussian blur", 0.375, "gaussian blur of sigma 1.50 px"),
        ("defocus disc", 0.5, "defocus disc of radius 3.00 px"),
        ("downsampling", 1 / 3, "downsampling of factor 2.00"),
        ("gaussian noise", 0.125, "gaussian noise of sd 0.0500"),
        ("diffusion", 0.05, "diffusion of step 50.0 of 1,000"),
        ("pen", 0.12, "pen of width 0.0600 of the side"),
        ("near blank", 0.6, "near blank of density lost 0.600"),
        ("jpeg", 0.5, "jpeg of quality 52.5"),
        ("eosin", -0.5, "eosin of -0.5 octaves"),
        ("magnification", 0.25, "magnification of +0.25 octaves"),
    ],
)
def test_amounts_read_as_people_say_them(ladder, severity, text):
    assert amount_text(ladder, LADDERS[ladder].amount(severity), LADDERS[ladder].unit) == text


def cause(**changed):
    known = {"damage": "gaussian blur", "family": "focus", "amount": 1.5, "unit": "sigma, px", "severity": 0.375}
    return Cause(**(known | {"interval": (1.3, 1.7), "share": 0.93} | changed))


def test_the_sentence_has_amount_interval_and_what_is_left():
    found = Explanation([cause(confusable=("defocus disc of radius 2.60 px",))], explained=0.93)
    assert str(found).splitlines() == [
        "Look: as far as gaussian blur of sigma 1.50 px (1.30 to 1.70), which explains 93 % of it; 7 % is explained by "
        "nothing known",
        "It may as well be defocus disc of radius 2.60 px",
    ]


def test_nothing_is_left_where_all_is_explained():
    assert str(Explanation([cause()], explained=0.997)).endswith("(1.30 to 1.70), which explains all of it")


@pytest.mark.parametrize(("share", "text"), [(1.05, "100 %"), (0.31, "31 %"), (-0.02, "0 %")])
def test_the_closest_explains_no_more_than_all_and_no_less_than_nothing(share, text):
    """Chance puts shares of few images above 1."""
    assert f", explains {text}. Another slide" in str(Explanation(explained=share, closest=cause(share=share)))


def test_two_causes_explain_what_they_do_together():
    found = Explanation([cause(share=0.52), cause(damage="pen", share=0.17)], explained=0.63)
    assert "which together explain 63 % of it; 37 % is explained by nothing known" in str(found)


def test_three_images_are_printed():
    images = [ImageShare(f"{i}.png", 3 - i / 10) for i in range(12)]
    assert str(Explanation(images=images)) == (
        "Images that hold most of RL2, in shares of the average one: 0.png (3.00x), 1.png (2.90x), 2.png (2.80x)"
    )
    assert str(Explanation()) == ""
