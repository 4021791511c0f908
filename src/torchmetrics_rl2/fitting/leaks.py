"""How far damage moves content, and another composition look: what a part of RL2 is judged beyond."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchmetrics_rl2.distance.kinds import LEAKS, Kinds
from torchmetrics_rl2.encoder.carried import with_carried
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.fitting.kinds import FoundKinds
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["check_apart_within", "leak_of_content", "leak_sentences", "measure_leaks"]

LARGE = 0.5


@torch.no_grad()
def measure_leaks(
    flow: RealNVP, features: Tensor, kinds: FoundKinds, units: Sequence[str], signatures: Signatures
) -> tuple[float, float]:
    """Both leaks of a flow with several kinds, at least those of :data:`~torchmetrics_rl2.distance.kinds.LEAKS`.

    Args:
        flow: The fitted flow.
        features: Of the patches that fit it, ``(N, d)``.
        kinds: Theirs.
        units: Slide, patient or source image of each.
        signatures: Of the flow.

    """
    known = with_carried(Kinds(flow.base.means, flow.base.log_shares, kinds.names), signatures)
    latents = torch.cat([flow(part)[0] for part in torch.split(features, 1024)]).double()
    of_content = leak_of_content(latents, flow.base.means.double(), kinds.labels, units, known.basis)
    return known.leaks[0], max(LEAKS[1], of_content)


def leak_of_content(latents: Tensor, means: Tensor, kinds: Tensor, units: Sequence[str], basis: Tensor) -> float:
    r"""By how much look moves with composition, because means of kinds are known from so many units alone.

    .. math:: \sqrt{\sum_k \frac{\mathrm{tr}\,S_k}{n_k} \Big/ \sum_k \lVert \mu_k - \bar\mu \rVert^2}

    with the covariance :math:`S_k` of the look of a kind and its number of units :math:`n_k`.

    Args:
        latents: Of patches, ``(N, d)``.
        means: Of kinds, ``(K, d)``.
        kinds: Kind of each patch, ``(N,)``.
        units: Unit of each patch.
        basis: Of the content, ``(d, k)``.

    """
    look, noise = latents - latents @ basis @ basis.T, 0.0
    for k in range(len(means)):
        rows = (kinds == k).nonzero().flatten()
        noise += float(look[rows].var(0).sum()) / len({units[row] for row in rows.tolist()})
    return math.sqrt(noise / float((means - means.mean(0)).square().sum()))


def check_apart_within(kinds: FoundKinds, groups: Sequence[str]) -> None:
    """Refuse kinds that no group has two of: within groups, all of them have one mean.

    Args:
        kinds: Of patches.
        groups: Theirs.

    Raises:
        RL2Error: If so.

    """
    pairs = set(zip(kinds.labels.tolist(), groups, strict=True))
    if len(kinds) > 1 and len(pairs) == len(set(groups)):
        raise RL2Error(
            "Within groups, kinds of tissue are told by how they differ inside a group, but no group has patches of "
            "two kinds. Give other kinds, --kinds 1 for none, or fit without --within-groups."
        )


def leak_sentences(of_look: float, of_content: float) -> list[str]:
    """What to say of leaks so large that a part is hardly ever judged."""
    ends = " More patches, or fewer kinds, make the means of the kinds better known."
    found = []
    if of_look >= LARGE:
        found.append(
            f"Damage moves content by up to {of_look:.0%} of what it moves look, beyond what look foretells, so "
            "content is rarely judged."
        )
    if of_content >= LARGE:
        found.append(f"Other shares of kinds move look by up to {of_content:.0%} of content, so look is rarely judged.")
    return [" ".join(found) + ends] if found else []
