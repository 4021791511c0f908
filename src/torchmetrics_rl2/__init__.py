"""RL2 (ResNet-L2): distance and likelihood of histopathology patches, as a torchmetrics metric."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchmetrics_rl2.audit_result import AuditResult
    from torchmetrics_rl2.auditing import audit
    from torchmetrics_rl2.calibration import Calibration
    from torchmetrics_rl2.encoder import LatentEncoder
    from torchmetrics_rl2.errors import RL2Error
    from torchmetrics_rl2.metric import ResNetL2
    from torchmetrics_rl2.result import RL2Result
    from torchmetrics_rl2.scoring import compute_statistics, score
    from torchmetrics_rl2.screen_run import ScreenResult, screen
    from torchmetrics_rl2.screening import PatchScreener, Verdicts, calibrate
    from torchmetrics_rl2.screening_metric import PatchQuality
    from torchmetrics_rl2.statistics import Statistics, compare
    from torchmetrics_rl2.weights import CatalogEntry, list_weights, register_weights

__version__ = "0.1.0"

__all__ = [
    "AuditResult",
    "Calibration",
    "CatalogEntry",
    "LatentEncoder",
    "PatchQuality",
    "PatchScreener",
    "RL2Error",
    "RL2Result",
    "ResNetL2",
    "ScreenResult",
    "Statistics",
    "Verdicts",
    "__version__",
    "audit",
    "calibrate",
    "compare",
    "compute_statistics",
    "list_weights",
    "register_weights",
    "score",
    "screen",
]

_MODULES = {
    "AuditResult": "audit_result",
    "Calibration": "calibration",
    "CatalogEntry": "weights",
    "LatentEncoder": "encoder",
    "PatchQuality": "screening_metric",
    "PatchScreener": "screening",
    "RL2Error": "errors",
    "RL2Result": "result",
    "ResNetL2": "metric",
    "ScreenResult": "screen_run",
    "Statistics": "statistics",
    "Verdicts": "screening",
    "audit": "auditing",
    "calibrate": "screening",
    "compare": "statistics",
    "compute_statistics": "scoring",
    "list_weights": "weights",
    "register_weights": "weights",
    "score": "scoring",
    "screen": "screen_run",
}


def __getattr__(name: str) -> Any:
    # On first use: torch and torchmetrics take seconds to import, which `rl2 --help` should not.
    if name in ("functional", "weights"):
        return import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
