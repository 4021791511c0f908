import pytest

from torchmetrics_rl2.planning import goals, run


@pytest.fixture(autouse=True)
def few_passes(monkeypatch):
    """Damage is measured on two images, at two severities."""
    monkeypatch.setattr(run, "MEASURED", 2)
    monkeypatch.setattr(goals, "FACTORS", (1,))
    monkeypatch.setattr(goals, "SHOWN", ("gaussian blur",))
