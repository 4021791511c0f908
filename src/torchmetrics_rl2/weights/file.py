"""The one-file format of weights: backbone, flow and reference as safetensors, the rest as JSON in its header."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from torchmetrics_rl2._version import __version__
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.networks.extractor import Preprocessing
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.networks.resnet import ResNet18
from torchmetrics_rl2.storage import damaged, digest, read_file, write_file
from torchmetrics_rl2.weights.reference import Reference
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["FORMAT_VERSION", "Weights", "read_weights", "write_weights"]

FORMAT_VERSION = 1
HEADER = "torchmetrics-rl2"
HINT = "'rl2 weights list' shows known names; 'rl2 fit IMAGES --backbone FILE' makes weights of a ResNet-18 state dict."


Lend = Callable[[Path, Mapping[str, Any]], "Weights"]
"""Given a file, and the ``weights`` and ``backbone_id`` that its header names: weights that have this backbone."""


@dataclass(frozen=True)
class Weights:
    """All that a file holds.

    Args:
        preprocessing: From pixels to the backbone.
        backbone: State dict of a torchvision ResNet-18 without its classifier, half or single precision.
        flow_config: Arguments of :class:`~torchmetrics_rl2.networks.RealNVP`.
        flow: Its state dict.
        reference: Real images to measure distances from, if any.
        card: What a person should know: data, license, citation, how the flow was fitted.
        backbone_of: Name with version of weights of the catalog whose backbone this is; the file then leaves it out.
            Empty where the file has its own.
        signatures: How far known damage shifts the mean latent, if that was measured.
        name: What the weights were asked for by, with version.
        path: The file they were read from, if any.

    """

    preprocessing: Preprocessing
    backbone: Mapping[str, Tensor] = field(repr=False)
    flow_config: Mapping[str, Any]
    flow: Mapping[str, Tensor] = field(repr=False)
    reference: Reference | None = field(default=None, repr=False)
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)
    backbone_of: str = ""
    signatures: Signatures | None = field(default=None, repr=False)
    name: str = "unnamed"
    path: Path | None = field(default=None, repr=False)

    @property
    def backbone_id(self) -> str:
        """The sha256 over normalization and backbone, which says which features these are."""
        normalization = [self.preprocessing.mean, self.preprocessing.std]
        return digest(normalization, _prefixed("backbone", self.backbone))

    @property
    def weights_id(self) -> str:
        """The sha256 over preprocessing, backbone and flow, which says which latents these are."""
        described = [self.backbone_id, asdict(self.preprocessing), dict(self.flow_config)]
        return digest(described, _prefixed("flow", self.flow))


def cannot_lend(path: Path, backbone: Mapping[str, Any]) -> Weights:
    """The :data:`Lend` of those who read one file and no other."""
    raise RL2Error(
        f"{path} has the backbone of other weights, {ascii(backbone['weights'])[:80]}, and is read with load_weights. "
        "Weights that others take their backbone from have their own."
    )


def read_weights(path: str | Path, lend: Lend = cannot_lend) -> Weights:
    """Read a weights file and check all of it.

    Args:
        path: The file.
        lend: Gets the weights whose backbone the file names, where it has none of its own.

    Raises:
        RL2Error: If there is no such file, or it is no complete, unaltered weights file of a known format version.

    """
    path = Path(path)
    header, tensors = read_file(path, HEADER, FORMAT_VERSION, HINT)
    with damaged(path):
        weights = _assemble(path, header, tensors, lend)
    expected = (header.get("weights_id"), header.get("reference_sha256"))
    if (weights.weights_id, _measured_digest(weights)) != expected:
        raise RL2Error(f"{path} was altered after it was written: its checksums do not match. Get a fresh copy.")
    return weights


def weights_id_in(path: Path) -> str | None:
    """Which latents a file says that it has, from its header alone; ``None`` if it is no weights file."""
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {})[HEADER])["weights_id"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    return found if isinstance(found, str) else None


def write_weights(weights: Weights, path: str | Path, lend: Lend = cannot_lend) -> None:
    """Write a weights file; it appears whole and readable, or not at all.

    Args:
        weights: What to write.
        path: Where to.
        lend: As for :func:`read_weights`, which reads what was written.

    Raises:
        RL2Error: If it would not be read again, because a fit went wrong.

    """
    path = Path(path)
    header: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "written_by": __version__,
        "weights_id": weights.weights_id,
        "reference_sha256": _measured_digest(weights),
        "preprocessing": asdict(weights.preprocessing),
        "flow": dict(weights.flow_config),
        "card": dict(weights.card),
    }
    tensors = _prefixed("flow", weights.flow) | _measured_tensors(weights)
    if weights.signatures:
        header["signatures"] = weights.signatures.header()
    if weights.backbone_of:
        header["backbone"] = {"weights": weights.backbone_of, "backbone_id": weights.backbone_id}
    else:
        tensors |= _prefixed("backbone", weights.backbone)
    write_file(path, HEADER, header, tensors, partial(read_weights, lend=lend))


def _read_preprocessing(raw: dict[str, Any]) -> Preprocessing:
    mean, std = (tuple(float(value) for value in raw[key]) for key in ("mean", "std"))
    px, mpp = raw["px"], raw["mpp"]
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, mean)) or not all(0 < sd < math.inf for sd in std):
        raise ValueError("mean and std are three numbers each, std above 0")
    if not (px is None or (isinstance(px, int) and px > 0)) or not (mpp is None or 0 < float(mpp) < math.inf):
        raise ValueError("px and mpp are above 0, or null")
    return Preprocessing(mean, std, px, mpp)


def _assemble(path: Path, header: dict[str, Any], tensors: dict[str, Tensor], lend: Lend) -> Weights:
    preprocessing = _read_preprocessing(header["preprocessing"])
    if not isinstance(header["card"], dict):
        raise ValueError("the card is no object")
    _check_flow_size(path, header["flow"], tensors)
    flow = RealNVP(**header["flow"]).state_dict()
    lent = _borrow(path, header["backbone"], lend) if "backbone" in header else None
    backbone = {} if lent else ResNet18.entries()
    expected = _prefixed("backbone", backbone) | _prefixed("flow", flow)
    names = {key for key in tensors if not key.startswith(("reference.", "signatures."))}
    if names != set(expected):
        wrong = sorted(names ^ set(expected))
        raise RL2Error(
            f"{path} has missing or unknown tensors, {', '.join(wrong[:3])} ({len(wrong)} in all). Get a fresh copy, "
            "or make it again with 'rl2 fit' if it is older than 0.1.0."
        )
    for key, value in expected.items():
        got = tensors[key]
        floats = (torch.float16, torch.float32) if key.startswith("backbone.") else (torch.float32,)
        allowed = floats if value.is_floating_point() else (torch.int64,)
        if got.shape != value.shape or got.dtype not in allowed:
            raise RL2Error(
                f"{path} has {key} of shape {tuple(got.shape)} and {got.dtype}; "
                f"expected {tuple(value.shape)} and {allowed[-1]}."
            )
    reference, signatures = _under("reference", tensors), _under("signatures", tensors)
    broken = [key for key, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise RL2Error(f"{path} has values that are not finite in {broken[0]}: the fit it came from failed.")
    for key, value in tensors.items():
        if (
            (key.endswith(".permutation") and value.sort().values.ne(torch.arange(512, device="cpu")).any())
            or (key.endswith((".running_var", ".leaks")) and (value < 0).any())
            or (key.endswith("base.means") and len(value) > 1 and not (value != value[0]).any())
        ):
            raise RL2Error(f"{path} has impossible values in {key}. Copy or download it again.")
    return Weights(
        preprocessing=preprocessing,
        backbone=lent.backbone if lent else {key: tensors[f"backbone.{key}"] for key in backbone},
        flow_config=header["flow"],
        flow={key: tensors[f"flow.{key}"] for key in flow},
        reference=Reference.read(path, reference, header["flow"]["kinds"]) if reference else None,
        signatures=Signatures.read(header["signatures"], signatures) if signatures else None,
        card=header["card"],
        backbone_of=lent.name if lent else "",
        name=str(path),
        path=path.absolute(),
    )


def _borrow(path: Path, backbone: Mapping[str, Any], lend: Lend) -> Weights:
    lender = lend(path, backbone)
    if lender.backbone_id != backbone["backbone_id"]:
        raise RL2Error(
            f"{path} was made with another backbone than that of {lender.name}: {str(backbone['backbone_id'])[:12]}, "
            f"not {lender.backbone_id[:12]}. Get a fresh copy of both."
        )
    return lender


def _under(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(f"{part}.")}


def _prefixed(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}.{key}": value for key, value in tensors.items()}


def _check_flow_size(path: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Before a flow of that size is built: all of its couplings are there, so it is no larger than the file."""
    layers = sum(key.startswith("flow.couplings.") and key.endswith(".permutation") for key in tensors)
    first = tensors.get("flow.couplings.0.conditioner.0.bias")
    hidden = config["hidden"] if first is None else len(first)
    shapes = {
        "permutation": (512,),
        "conditioner.0.weight": (hidden, 256),
        "conditioner.2.weight": (hidden, hidden),
        "conditioner.4.weight": (512, hidden),
    }
    whole = all(
        key in tensors and tensors[key].shape == shape
        for i in range(layers)
        for key, shape in ((f"flow.couplings.{i}.{part}", shape) for part, shape in shapes.items())
    )
    kinds = len(tensors.get("flow.base.means", ()))
    names = ("features", "layers", "hidden", "kinds")
    if not whole or tuple(config[name] for name in names) != (512, layers, hidden, kinds):
        described = [ascii(config[name])[:20] for name in names]
        raise RL2Error(
            f"{path} describes a flow of {described[0]} features, {described[1]} layers, width {described[2]} and "
            f"{described[3]} kinds, but its tensors are of 512, {layers}, {hidden} and {kinds}, or incomplete. Copy or "
            "download it again."
        )


def _measured_tensors(weights: Weights) -> dict[str, Tensor]:
    found = _prefixed("signatures", weights.signatures.tensors()) if weights.signatures else {}
    return found | (_prefixed("reference", weights.reference.tensors()) if weights.reference else {})


def _measured_digest(weights: Weights) -> str:
    described = [weights.signatures.header()] if weights.signatures else []
    return digest(described, _measured_tensors(weights))
