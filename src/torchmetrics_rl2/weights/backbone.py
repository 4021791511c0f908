"""Backbones to fit a flow on: of other weights, of torchvision, or from a state dict."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import sha256_of
from torchmetrics_rl2.networks.extractor import Preprocessing
from torchmetrics_rl2.networks.resnet import ResNet18
from torchmetrics_rl2.weights.catalog import find_entry
from torchmetrics_rl2.weights.download import is_remote, offline
from torchmetrics_rl2.weights.file import HEADER
from torchmetrics_rl2.weights.loading import load_weights

__all__ = ["UNIT", "Backbone", "load_backbone"]

# TIAToolbox's CNNModel numbers the parts of torchvision's network, and takes pixels in [0, 1].
TIATOOLBOX = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
UNIT = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Backbone:
    """A ResNet-18 without its classifier.

    Args:
        name: Where it came from.
        preprocessing: What it expects of pixels.
        state_dict: Under torchvision's keys.

    """

    name: str
    preprocessing: Preprocessing
    state_dict: Mapping[str, Tensor]


def load_backbone(source: str | Path) -> Backbone:
    """Backbone by name or from a file.

    Args:
        source: Name or path of weights, ``imagenet`` for torchvision's (downloaded once), or the path of a state dict
            of a ResNet-18 of torchvision, or of TIAToolbox's ``CNNModel``, saved with ``torch.save`` or as safetensors.

    Raises:
        RL2Error: If there is no such backbone, or it is no ResNet-18.

    """
    if source == "imagenet":
        return Backbone("torchvision ResNet18_Weights.IMAGENET1K_V1", Preprocessing(), _imagenet())
    path = Path(source)
    is_file = find_entry(source) is None and os.path.isfile(path)
    state_dict = _state_dict(path) if is_file else None
    if state_dict is not None:
        is_tiatoolbox = any(str(key).startswith("feat_extract.") for key in state_dict)
        return Backbone(path.name, UNIT if is_tiatoolbox else Preprocessing(), _backbone(state_dict, str(path)))
    if path.suffix and not os.path.lexists(path) and not is_remote(str(source)):
        raise RL2Error(f"There is no file {path}; expected weights, or the state dict of a ResNet-18. Check the path.")
    weights = load_weights(source)
    return Backbone(weights.name, weights.preprocessing, weights.backbone)


def _state_dict(path: Path) -> Mapping[str, Tensor] | None:
    """Tensors of a file that holds nothing else; ``None`` for RL2 weights."""
    if path.suffix == ".safetensors":
        try:
            with torch.device("cpu"), safe_open(path, "pt") as file:
                if HEADER in (file.metadata() or {}):
                    return None
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise RL2Error(
                f"{path} is not a readable safetensors file ({error}). Copy or download it again."
            ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle makes the unpickler raise anything
        raise RL2Error(
            f"{path} is no state dict that can be read without running code: it is damaged, or holds more than "
            "tensors. Save model.state_dict() and not the model."
        ) from error
    if not isinstance(state, Mapping):
        raise RL2Error(f"{path} holds a {type(state).__name__}; expected the state dict of a torchvision ResNet-18.")
    return state


def _imagenet() -> dict[str, Tensor]:
    """Torchvision's file, in its place; read by us, as torchvision's own reading may run code."""
    from torchvision.models import ResNet18_Weights

    url = ResNet18_Weights.IMAGENET1K_V1.url
    name = url.rpartition("/")[2]
    kept, begins = Path(torch.hub.get_dir(), "checkpoints", name), name.partition("-")[2].partition(".")[0]
    if not os.path.isfile(kept):
        if offline():
            raise RL2Error(f"imagenet is not here, and the network is switched off. Put {url} at {kept}.")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(kept), hash_prefix=begins)
        except (URLError, OSError, RuntimeError) as error:
            raise RL2Error(
                f"torchvision's ImageNet ResNet-18 could not be downloaded ({error}). Download {url} elsewhere and "
                "give that file."
            ) from error
    found = sha256_of(kept)
    if not found.startswith(begins):
        raise RL2Error(f"{kept} has the sha256 {found}; expected one that begins with {begins}. Remove it.")
    return _backbone(_state_dict(kept) or {}, "imagenet")


def _torchvision_key(key: str) -> str:
    if not key.startswith("feat_extract."):
        return key
    number, _, rest = key.removeprefix("feat_extract.").partition(".")
    return f"{TIATOOLBOX.get(number, number)}.{rest}"


def _backbone(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    expected = ResNet18.entries()
    given = {
        _torchvision_key(str(key)): value
        for key, value in state.items()
        if not str(key).startswith(("fc.", "classifier."))
    }
    shapes = {key: getattr(value, "shape", None) for key, value in given.items()}
    wrong = sorted(
        {
            str(key)
            for key in {*given, *expected}
            if key not in expected or shapes.get(key) != expected[key].shape or given[key].is_meta
        }
    )
    if not expected.keys() & given.keys():
        raise RL2Error(
            f"{source} is of another architecture: its entries are {', '.join(sorted(given)[:3]) or 'none'} and the "
            "like. rl2 fits flows to a ResNet-18, with entries such as conv1.weight; ResNetL2(module) and score() take "
            "any encoder of your own, without a flow."
        )
    if wrong:
        raise RL2Error(
            f"{source} is not the state dict of a torchvision ResNet-18: {len(wrong)} entries are missing, unknown or "
            f"of another shape, {', '.join(wrong[:3])} among them. Expected keys such as conv1.weight."
        )
    return {
        key: given[key].to(torch.float16 if given[key].dtype == torch.float16 else value.dtype)
        if value.is_floating_point()
        else given[key].to(value.dtype)
        for key, value in expected.items()
    }
