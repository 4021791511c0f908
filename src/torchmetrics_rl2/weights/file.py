"""The one-file format of weights: trunk, flow and reference as safetensors, the rest as JSON in its header."""

import math
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from torchmetrics_rl2 import __version__
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.flow import RealNVP
from torchmetrics_rl2.functional import LatentSums
from torchmetrics_rl2.readout import READ
from torchmetrics_rl2.tensorfile import digest, read_file, sums_to_tensors, tensors_to_sums, write_file

__all__ = ["FORMAT_VERSION", "Preprocessing", "Reference", "Weights", "read_weights", "write_weights"]

FORMAT_VERSION = 3
HEADER = "torchmetrics-rl2"
HINT = "'rl2 weights list' shows known names; 'rl2 fit IMAGES --backbone FILE' makes weights of a ResNet-18 state dict."
REFERENCE_SCORES = 2000
_borrowing: ContextVar[bool] = ContextVar("borrowing", default=False)


@dataclass(frozen=True)
class Preprocessing:
    """What happens to pixels in [0, 1] before the trunk, and which patches the weights were made for.

    Args:
        mean: Subtracted from red, green and blue.
        std: Divides red, green and blue.
        px: Side of the patches in pixels, ``None`` if they differed.
        mpp: Their resolution in um/px, ``None`` if unknown.

    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    px: int | None = None
    mpp: float | None = None


@dataclass(frozen=True)
class Reference:
    """Real images that neither fitted nor stopped the flow.

    Args:
        sums: Sums of their latents.
        scores: For up to 2,000 of them log-likelihood, latent norm and log-determinant, ``(n, 3)`` float32.
        groups: Sums of the latents of each slide, patient or source image, one row a group, where those are known.

    """

    sums: LatentSums
    scores: Tensor
    groups: LatentSums | None = None


@dataclass(frozen=True)
class Weights:
    """All that a file holds.

    Args:
        preprocessing: From pixels to the trunk.
        trunk: State dict of a torchvision ResNet-18 without its classifier, half or single precision.
        flow_config: Arguments of :class:`~torchmetrics_rl2.flow.RealNVP`.
        flow: Its state dict.
        reference: Real images to measure distances from, if any.
        card: What a person should know: data, licence, citation, how the flow was fitted.
        readout: Tensors of :class:`~torchmetrics_rl2.readout.Readout`, single precision, since format version 2; empty
            where features are the trunk's own.
        lender: Name with version of catalogued weights whose trunk and readout these are, since format version 3; the
            file then leaves them out. Empty where the file has its own.
        name: What the weights were asked for by, with version.

    """

    preprocessing: Preprocessing
    trunk: Mapping[str, Tensor] = field(repr=False)
    flow_config: Mapping[str, Any]
    flow: Mapping[str, Tensor] = field(repr=False)
    reference: Reference | None = field(default=None, repr=False)
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)
    readout: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    lender: str = ""
    name: str = "unnamed"

    @property
    def trunk_id(self) -> str:
        """sha256 over normalisation, trunk and readout: which features these are."""
        normalisation = [self.preprocessing.mean, self.preprocessing.std]
        return digest(normalisation, _prefixed("trunk", self.trunk) | _prefixed("readout", self.readout))

    @property
    def weights_id(self) -> str:
        """sha256 over preprocessing, trunk and flow: which latents these are."""
        described = [self.trunk_id, asdict(self.preprocessing), dict(self.flow_config)]
        return digest(described, _prefixed("flow", self.flow))


def empty_trunk() -> nn.Module:
    """A torchvision ResNet-18 without its classifier, on the meta device."""
    with torch.device("meta"):
        trunk = resnet18(weights=None)
    trunk.fc = nn.Identity()
    return trunk  # type: ignore[no-any-return]


def read_weights(path: str | Path) -> Weights:
    """Read a weights file and check all of it.

    Args:
        path: The file.

    Raises:
        RL2Error: If there is no such file, or it is no complete, unaltered weights file of a known format version.

    """
    path = Path(path)
    header, tensors = read_file(path, HEADER, FORMAT_VERSION, "RL2 weights", HINT)
    try:
        weights = _assemble(path, header, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        if isinstance(error, RL2Error):
            raise
        raise RL2Error(f"{path} has a damaged header ({error!r}). Copy or download it again.") from error
    expected = (header.get("weights_id"), header.get("reference_sha256"))
    if (weights.weights_id, _reference_digest(weights.reference)) != expected:
        raise RL2Error(f"{path} was altered after it was written: its checksums do not match. Get a fresh copy.")
    return weights


def write_weights(weights: Weights, path: str | Path) -> None:
    """Write a weights file; it appears whole and readable, or not at all.

    Args:
        weights: What to write.
        path: Where to.

    Raises:
        RL2Error: If it would not be read again, because a fit went wrong.

    """
    path = Path(path)
    header: dict[str, Any] = {
        # What an older version of the package can read, it should.
        "format_version": 3 if weights.lender else 2 if weights.readout else 1,
        "written_by": __version__,
        "weights_id": weights.weights_id,
        "reference_sha256": _reference_digest(weights.reference),
        "preprocessing": asdict(weights.preprocessing),
        "flow": dict(weights.flow_config),
        "card": dict(weights.card),
    }
    tensors = _prefixed("flow", weights.flow) | _reference_tensors(weights.reference)
    if weights.lender:
        header["trunk"] = {"weights": weights.lender, "trunk_id": weights.trunk_id}
    else:
        tensors |= _prefixed("trunk", weights.trunk) | _prefixed("readout", weights.readout)
    write_file(path, HEADER, header, tensors, read_weights)


def _read_preprocessing(raw: dict[str, Any]) -> Preprocessing:
    mean, std = (tuple(float(value) for value in raw[key]) for key in ("mean", "std"))
    px, mpp = raw["px"], raw["mpp"]
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, mean)) or not all(0 < sd < math.inf for sd in std):
        raise ValueError("mean and std are three numbers each, std above 0")
    if not (px is None or (isinstance(px, int) and px > 0)) or not (mpp is None or 0 < float(mpp) < math.inf):
        raise ValueError("px and mpp are above 0, or null")
    return Preprocessing(mean, std, px, mpp)


def _assemble(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> Weights:
    preprocessing = _read_preprocessing(header["preprocessing"])
    if not isinstance(header["card"], dict):
        raise ValueError("the card is no object")
    _check_flow_size(path, header["flow"], tensors)
    flow = RealNVP(**header["flow"]).state_dict()
    lent = _lent(path, header["trunk"]) if header["format_version"] > 2 and "trunk" in header else None
    trunk = {} if lent else empty_trunk().state_dict()
    readout = _empty_readout() if any(key.startswith("readout.") for key in tensors) else {}
    if readout and header["format_version"] < 2:
        raise ValueError("a readout is of format version 2")
    expected = _prefixed("trunk", trunk) | _prefixed("flow", flow) | _prefixed("readout", readout)
    names = {key for key in tensors if not key.startswith("reference.")}
    if names != set(expected):
        wrong = sorted(names ^ set(expected))
        raise RL2Error(f"{path} has missing or unknown tensors: {', '.join(wrong[:3])} ({len(wrong)} in all).")
    for key, value in expected.items():
        got = tensors[key]
        floats = (torch.float16, torch.float32) if key.startswith("trunk.") else (torch.float32,)
        allowed = floats if value.is_floating_point() else (torch.int64,)
        if got.shape != value.shape or got.dtype not in allowed:
            raise RL2Error(
                f"{path} has {key} of shape {tuple(got.shape)} and {got.dtype}; "
                f"expected {tuple(value.shape)} and {allowed[-1]}."
            )
    reference = _read_reference(path, tensors)
    broken = [key for key, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise RL2Error(f"{path} has values that are not finite in {broken[0]}: the fit it came from failed.")
    for key, value in tensors.items():
        if (key.endswith(".permutation") and value.sort().values.ne(torch.arange(512, device="cpu")).any()) or (
            key.endswith(".running_var") and (value < 0).any()
        ):
            raise RL2Error(f"{path} has impossible values in {key}. Copy or download it again.")
    return Weights(
        preprocessing=preprocessing,
        trunk=lent.trunk if lent else {key: tensors[f"trunk.{key}"] for key in trunk},
        flow_config=header["flow"],
        flow={key: tensors[f"flow.{key}"] for key in flow},
        reference=reference,
        card=header["card"],
        readout=lent.readout if lent else {key: tensors[f"readout.{key}"] for key in readout},
        lender=lent.name if lent else "",
        name=str(path),
    )


def _lent(path: Path, trunk: dict[str, Any]) -> Weights:
    """Weights whose trunk and readout these are; they are named, so that no file decides which other is read."""
    from torchmetrics_rl2.weights.catalog import find_entry  # names know of files, files of few names

    if _borrowing.get():
        raise RL2Error(f"{path} has the trunk of other weights, and cannot lend it: name those, {trunk['weights']!a}.")
    entry = find_entry(trunk["weights"])
    if entry is None or entry.name != trunk["weights"]:
        raise RL2Error(
            f"{path} has the trunk of the weights {ascii(trunk['weights'])[:80]}, a name with version that is not "
            "known here. Install the package that brings it, or a newer torchmetrics-rl2."
        )
    token = _borrowing.set(True)
    try:
        lender = replace(read_weights(entry.place.fetch()), name=entry.name)
    finally:
        _borrowing.reset(token)
    if lender.trunk_id != trunk["trunk_id"]:
        raise RL2Error(
            f"{path} was made with another trunk than that of {entry.name}: {str(trunk['trunk_id'])[:12]}, not "
            f"{lender.trunk_id[:12]}. Get a fresh copy of both."
        )
    return lender


def _prefixed(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}.{key}": value for key, value in tensors.items()}


def _empty_readout() -> dict[str, Tensor]:
    shapes = {"mean": (READ,), "matrix": (READ, 512)}
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


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
    if not whole or (config["features"], config["layers"], config["hidden"]) != (512, layers, hidden):
        described = [ascii(config[key])[:20] for key in ("features", "layers", "hidden")]
        raise RL2Error(
            f"{path} describes a flow of {described[0]} features, {described[1]} layers and width {described[2]}, but "
            f"its tensors are of 512, {layers} and {hidden}, or incomplete. Copy or download it again."
        )


def _read_reference(path: Path, tensors: dict[str, Tensor]) -> Reference | None:
    found = {key.removeprefix("reference."): value for key, value in tensors.items() if key.startswith("reference.")}
    if not found:
        return None
    scores = found.pop("scores")
    sums, groups = tensors_to_sums(path, found)
    count = int(sums.count)
    scores_shape = (min(count, REFERENCE_SCORES), 3)
    if count < 2 or sums.sum.shape != (512,) or scores.shape != scores_shape or scores.dtype != torch.float32:
        raise RL2Error(f"{path} has a malformed reference: {count} images, scores of shape {tuple(scores.shape)}.")
    return Reference(sums, scores, groups)


def _reference_tensors(reference: Reference | None) -> dict[str, Tensor]:
    if reference is None:
        return {}
    tensors = sums_to_tensors(reference.sums, reference.groups) | {"scores": reference.scores}
    return _prefixed("reference", tensors)


def _reference_digest(reference: Reference | None) -> str:
    return digest([], _reference_tensors(reference))
