"""How many images it takes to find a difference: ``rl2 plan``."""

from torchmetrics_rl2.planning.result import PlanGoal, PlanResult, PlanRow
from torchmetrics_rl2.planning.run import plan

__all__ = ["PlanGoal", "PlanResult", "PlanRow", "plan"]
