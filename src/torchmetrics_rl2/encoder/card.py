"""What a person should know of weights before using them."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from torchmetrics_rl2.distance.between_groups import MIN_IMAGES, between_groups
from torchmetrics_rl2.distance.text import percent, range_text, three_digits
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.weights.file import Weights

__all__ = ["card_text", "describe"]

TOLD = ("summary", "data", "license", "citation", "recipe", "fit", "kinds", "groups", "audit")


def describe(weights: Weights) -> dict[str, Any]:
    """All that a weights file says, without its tensors; nothing but JSON.

    Args:
        weights: Those to describe.

    """
    encoder = LatentEncoder(weights)
    reference, signatures = weights.reference, weights.signatures
    groups = between_groups(encoder.reference_statistics) if reference and reference.groups else None
    damage = {"kinds": len(set(signatures.ladders)), "pairs": len(signatures.pairs)} if signatures else None
    return {
        "name": weights.name,
        "weights_id": weights.weights_id,
        "backbone_id": weights.backbone_id,
        "backbone_of": weights.backbone_of or None,
        "preprocessing": asdict(weights.preprocessing),
        "flow": dict(weights.flow_config),
        "n_reference": int(reference.sums.count) if reference else 0,
        "between_groups": asdict(groups) if groups else None,
        "kinds": dict(zip(encoder.kinds.names, encoder.kinds.log_shares.exp().tolist(), strict=True))
        if encoder.kinds
        else {},
        "damage": damage,
        "card": dict(weights.card),
    }


def card_text(described: Mapping[str, Any]) -> str:
    """The same for people, one fact a line.

    Args:
        described: What :func:`describe` returned.

    """
    summary = described["card"].get("summary")
    heading = f"{described['name']}: {summary}" if summary else str(described["name"])
    return "\n".join([heading, "", *(f"{label}: {text}" for label, text in _facts(described))])


def _facts(described: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    card, fit = described["card"], described["card"].get("fit")
    yield "Patches", _patches(described["preprocessing"])
    if "data" in card:
        yield "Data", str(card["data"])
    elif isinstance(fit, Mapping) and {"n_fit", "n_stop"} <= fit.keys():
        yield "Data", f"{fit['n_fit']} patches fitted the flow, {fit['n_stop']} stopped it"
    yield "Reference", _reference(described)
    if described["kinds"]:
        shares = (f"{name} {percent(share)}" for name, share in described["kinds"].items())
        yield "Kinds of tissue", ", ".join(shares)
    yield "Flow", f"{described['flow']['linear']}, then {described['flow']['layers'] or 'no'} coupling layers"
    damage = described["damage"]
    yield "Damage that --explain can name", f"{damage['kinds']} kinds" if damage else "none; its signatures are missing"
    yield "Audit", _audit(card.get("audit"), described["name"])
    yield "Backbone", f"that of {described['backbone_of']}" if described["backbone_of"] else "in this file"
    yield "weights_id", described["weights_id"]
    for key, value in card.items():
        if key not in TOLD and isinstance(value, str | int | float):
            yield key, str(value)
    for key in ("recipe", "license"):
        if key in card:
            yield key.capitalize(), str(card[key])
    if "citation" in card:
        yield "Citation", str(card["citation"]).replace("; ", "\n  ")


def _patches(preprocessing: Mapping[str, Any]) -> str:
    px, mpp = preprocessing["px"], preprocessing["mpp"]
    side = "of several sizes" if px is None else f"{px} x {px} px"
    return f"{side}, {f'at {mpp:g} um/px' if mpp else 'of several resolutions or an unknown one (mpp)'}"


def _reference(described: Mapping[str, Any]) -> str:
    count, groups = described["n_reference"], described["between_groups"]
    if not count:
        return "no real images inside; give your own to a score"
    if not groups:
        return f"{count} real images"
    return (
        f"{count} real images. Those of each of {groups['count']} {groups['units']} with {MIN_IMAGES} or more score "
        f"{range_text((groups['whole'][0], groups['whole'][2]))} against the others, median "
        f"{three_digits(groups['whole'][1])}"
    )


def _audit(audit: object, name: str) -> str:
    try:
        n, images, found = (audit[key] for key in ("n", "images", "verdicts"))  # type: ignore[index]
        verdicts = "; ".join(f"{verdict} {', '.join(ladders)}" for verdict, ladders in found.items())
    except (TypeError, KeyError, AttributeError):  # the card may be anybody's
        return f"none in this file; 'rl2 audit {name} --images FOLDER' makes one"
    return f"{n} images of {images}; {verdicts}"
