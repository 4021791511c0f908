"""Somebody's ResNet-18, and a flow, become a weights file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import check_writable
from torchmetrics_rl2.networks.extractor import Preprocessing
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.weights.backbone import UNIT, load_backbone
from torchmetrics_rl2.weights.file import Weights, read_weights, write_weights

__all__ = ["import_weights"]

PIXELS = {"imagenet": Preprocessing(), "unit": UNIT}


def import_weights(
    checkpoint: str | Path,
    out: str | Path,
    *,
    flow: str | Path | None = None,
    pixels: str | None = None,
    px: int | None = None,
    mpp: float | None = None,
    card: Mapping[str, Any] | None = None,
) -> Weights:
    """Write a weights file of a ResNet-18, and of a flow if there is one.

    Args:
        checkpoint: As for ``rl2 fit --backbone``: a state dict of torchvision's ResNet-18 or of TIAToolbox's
            ``CNNModel``, the name or path of weights, or ``imagenet``.
        out: The ``.safetensors`` file.
        flow: What ``torch.save({"config": flow.config, "state_dict": flow.state_dict()}, FILE)`` wrote of a
            :class:`~torchmetrics_rl2.networks.RealNVP` of 512 features. Without it latents are the features themselves.
        pixels: What the network expects: ``"imagenet"`` or ``"unit"``, pixels in [0, 1]; by default what the kind of
            checkpoint is known for, ``unit`` for TIAToolbox and ``imagenet`` for torchvision.
        px: Side of the patches it was made for, in pixels.
        mpp: Their resolution in um/px.
        card: What a person should know.

    Raises:
        RL2Error: If one of them is not what it should be, or the file cannot be written.

    """
    out = Path(out)
    check_writable(out)
    backbone = load_backbone(checkpoint)
    if pixels is not None and pixels not in PIXELS:
        raise RL2Error(f"Pixels are {' or '.join(PIXELS)}, but got {pixels!r}.")
    if (px is not None and px < 1) or (mpp is not None and not 0 < mpp < 100):
        raise RL2Error(f"Expected px of at least 1 and mpp between 0 and 100 um/px, but got {px} and {mpp}.")
    fitted = _read_flow(flow) if flow else RealNVP(layers=0, linear="diagonal")
    made_for = backbone.preprocessing
    expects = PIXELS[pixels] if pixels else made_for
    weights = Weights(
        preprocessing=Preprocessing(expects.mean, expects.std, px or made_for.px, mpp or made_for.mpp),
        backbone=backbone.state_dict,
        flow_config=fitted.config,
        flow=fitted.state_dict(),
        card={"data": f"backbone imported from {backbone.name}", **(card or {})},
    )
    write_weights(weights, out)
    return read_weights(out)


def _read_flow(path: str | Path) -> RealNVP:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        flow = RealNVP(**saved["config"])
        flow.load_state_dict(saved["state_dict"])
    except FileNotFoundError as error:
        raise RL2Error(f"There is no file {path}; expected a flow.") from error
    except Exception as error:  # a damaged pickle makes the unpickler raise anything
        said = str(error).strip().partition("\n")[0]
        raise RL2Error(
            f"{path} is no flow ({said}). Expected what torch.save wrote of {{'config': flow.config, 'state_dict': "
            "flow.state_dict()}} of a RealNVP."
        ) from error
    if flow.config["features"] != 512:
        raise RL2Error(f"{path} is a flow of {flow.config['features']} features; those of a ResNet-18 are 512.")
    return flow
