import pytest

from torchmetrics_rl2.planning import PlanResult
from torchmetrics_rl2.planning.result import PlanRow


@pytest.mark.parametrize(
    ("smallest", "beyond", "said"),
    [
        ([0.5, 0.25], ["", ""], []),
        ([None, 0.25], ["", ""], ["-: not found, however large"]),
        ([0.5, 0.25], ["", "<"], ["<: weaker damage is found too; how weak is not known"]),
        ([0.5, 30], ["<", ">"], ["< and >: weaker damage is found too; how weak is not known"]),
        (
            [30, None],
            [">", ""],
            ["-: not found, however large", ">: weaker damage is found too; how weak is not known"],
        ),
    ],
)
def test_marks_in_the_table_are_explained_where_there_are_any(smallest, beyond, said):
    row = PlanRow("jpeg", "quality", smallest, "look", beyond)
    plan = PlanResult([50, 200], [row], [], 0.8, 40, "pilot", "histology@2", None)
    assert str(plan).splitlines()[4:] == said
