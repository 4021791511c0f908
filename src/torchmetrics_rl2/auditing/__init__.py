"""What a set of weights can and cannot detect: ``rl2 audit``."""

from torchmetrics_rl2.auditing.card import check_can_save, save_audit
from torchmetrics_rl2.auditing.content_result import ContentLadder, ContentStep, CrossTalk, Differing
from torchmetrics_rl2.auditing.judge import auroc
from torchmetrics_rl2.auditing.ladder_result import LadderResult, SeverityResult
from torchmetrics_rl2.auditing.picture import check_plot, plot_audit
from torchmetrics_rl2.auditing.result import AuditResult, Contamination, Diversity, Power
from torchmetrics_rl2.auditing.run import audit
from torchmetrics_rl2.auditing.side_by_side import side_by_side

__all__ = [
    "AuditResult",
    "Contamination",
    "ContentLadder",
    "ContentStep",
    "CrossTalk",
    "Differing",
    "Diversity",
    "LadderResult",
    "Power",
    "SeverityResult",
    "audit",
    "auroc",
    "check_can_save",
    "check_plot",
    "plot_audit",
    "save_audit",
    "side_by_side",
]
