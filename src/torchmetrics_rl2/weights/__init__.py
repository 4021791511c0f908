"""Weights: a name or path becomes a verified file, a file becomes tensors; each name is imported on first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
