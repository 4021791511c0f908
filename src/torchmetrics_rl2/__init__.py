"""RL2 (ResNet-L2): distance and likelihood of histopathology patches, as a torchmetrics metric."""

import lazy_loader

from torchmetrics_rl2._version import __version__ as __version__

# Names are in __init__.pyi, and imported on first use: torch takes seconds, which `rl2 --help` should not.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
