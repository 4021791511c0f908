"""Callbacks of Lightning; each is imported on first use, and Lightning with it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
