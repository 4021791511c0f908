"""RL2 (ResNet-L2): distance and likelihood of histopathology patches, as a torchmetrics metric."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchmetrics_rl2.audit_result import AuditResult
    from torchmetrics_rl2.auditing import audit
    from torchmetrics_rl2.encoder import LatentEncoder
    from torchmetrics_rl2.errors import RL2Error
    from torchmetrics_rl2.metric import ResNetL2
    from torchmetrics_rl2.result import RL2Result
    from torchmetrics_rl2.scoring import compute_statistics, score
    from torchmetrics_rl2.statistics import Statistics, compare
    from torchmetrics_rl2.weights import CatalogEntry, list_weights, register_weights

__version__ = "0.1.0"

__all__ = [
    "AuditResult",
    "CatalogEntry",
    "LatentEncoder",
    "RL2Error",
    "RL2Result",
    "ResNetL2",
    "Statistics",
    "__version__",
    "audit",
    "compare",
    "compute_statistics",
    "list_weights",
    "register_weights",
    "score",
]

_MODULES = {
    "AuditResult": "audit_result",
    "CatalogEntry": "weights",
    "LatentEncoder": "encoder",
    "RL2Error": "errors",
    "RL2Result": "result",
    "ResNetL2": "metric",
    "Statistics": "statistics",
    "audit": "auditing",
    "compare": "statistics",
    "compute_statistics": "scoring",
    "list_weights": "weights",
    "register_weights": "weights",
    "score": "scoring",
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
