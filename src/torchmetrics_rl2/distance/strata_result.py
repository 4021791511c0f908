"""Results within strata, kinds of tissue or classes, in numbers and in sentences."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from torchmetrics_rl2.distance.text import NO_DIFFERENCE, p_text, three_digits, times

if TYPE_CHECKING:
    from torchmetrics_rl2.distance.result import RL2Result

__all__ = ["StrataSplit", "StratumResult", "strata_details", "strata_scalars", "strata_sentence"]

PRINTED = 3
OF_SPLIT = ("mixture", "within", "conditional", "conditional_debiased", "conditional_multiple")
NAMES = {"kinds": "kinds of tissue", "classes": "classes"}


@dataclass(frozen=True)
class StratumResult:
    """RL2 within one stratum: a kind of tissue, or a class.

    Args:
        name: Of the stratum.
        n_real: Real images of it.
        n_fake: Generated images of it.
        value: RL2 between these. This and all numbers below are ``None`` where they are withheld.
        debiased: Signed root of its unbiased square.
        interval: Of the debiased value. Those of all strata hold together with 95 % (Bonferroni). ``None`` also if a
            side has only sums and no second moments.
        p_value: Of the test that there is no difference in this stratum, adjusted for the number of strata (Holm).
            ``None`` also if a side has no groups.
        baseline: Real against real: what two random samples of the real images of the stratum score.
        baseline_multiple: ``value`` over ``baseline``; ``None`` also if all real images of the stratum are the same.
        differs: Whether there is a difference beyond chance, at 5 % over all strata together: the adjusted p-value is
            below 0.05, or, without groups, the interval lies above 0. Without an interval nothing is known to differ.
        closest: The stratum whose real images lie closest to the generated ones of this: of images under the wrong
            label, the right one. Empty where numbers are withheld.
        withheld: Why there are no numbers; empty where there are.

    """

    name: str
    n_real: int
    n_fake: int
    value: float | None = None
    debiased: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    baseline: float | None = None
    baseline_multiple: float | None = None
    differs: bool = False
    closest: str = ""
    withheld: str = ""


@dataclass(frozen=True)
class StrataSplit:
    r"""How the difference of means splits into wrong shares of strata, and wrong images within them.

    With shares :math:`p_c` of the real and :math:`q_c` of the generated images, and means :math:`m_c` of strata, this
    is the decomposition of Kitagawa (1955), Oaxaca and Blinder (1973):

    .. math:: \bar z_g - \bar z_r = \sum_c (q_c - p_c)\, m_c^r + \sum_c q_c\, (m_c^g - m_c^r)

    Vectors of several strata cancel: two classes that are swapped leave both sums at about 0. The conditional distance
    does not:

    .. math:: \sqrt{\textstyle\sum_c q_c \lVert m_c^g - m_c^r \rVert^2}

    All numbers are of the strata that are compared. Others, which one side alone has or has too few images of, have no
    mean to split by.

    Args:
        n_real: Real images of the strata that are compared.
        n_fake: Generated images of these.
        value: RL2 between them.
        mixture: Length of the first sum: other shares of strata.
        within: Length of the second sum: other images within strata.
        conditional: Conditional distance. Finite samples add to it, and to the lengths.
        conditional_debiased: Signed root of its unbiased square, without the variances of the means.
        conditional_multiple: ``conditional`` over what random samples of the real images of each stratum score;
            ``None`` if all real images of a stratum are the same.

    """

    n_real: int
    n_fake: int
    value: float
    mixture: float
    within: float
    conditional: float
    conditional_debiased: float
    conditional_multiple: float | None = None


def strata_sentence(result: "RL2Result") -> list[str]:
    """The conclusion from all strata, in one line, if there are strata."""
    if not result.strata_by:
        return []
    compared = [stratum for stratum in result.strata if not stratum.withheld]
    largest = sorted(compared, key=lambda stratum: -(stratum.baseline_multiple or 0))
    differing = [stratum for stratum in largest if stratum.differs]
    left = _named([stratum.name for stratum in result.strata if stratum.withheld])
    within = f"ithin {NAMES[result.strata_by]}"
    if not compared:
        return [f"W{within}: none has enough images on both sides"]
    if not _has_intervals(result):
        found = f"W{within}, without intervals: {_named([*map(_multiple, largest)])}"
    elif differing:
        # What differs in opposite directions within strata cancels in the whole.
        start = f"But w{within}" if result.verdict == NO_DIFFERENCE else f"W{within}"
        differ = "differs" if len(differing) == 1 else "differ"
        found = f"{start}: {len(differing)} of {len(compared)} {differ}: {_named([*map(_multiple, differing)])}"
    else:
        several = len(compared) > 1
        found = f"W{within}: {f'none of {len(compared)} differs beyond chance' if several else NO_DIFFERENCE}"
    return [f"{found}; not compared: {left}" if left else found]


def strata_details(result: "RL2Result") -> list[str]:
    """A table of all strata, and how the whole splits, if there are strata."""
    if not result.strata_by:
        return []
    name = NAMES[result.strata_by]
    compared = sum(not stratum.withheld for stratum in result.strata)
    tests = "p-values need groups" if result.assumes_independence else "p-values are adjusted for their number"
    head = f"Within {name}"
    if compared and not _has_intervals(result):
        head += ", without intervals, which need second moments or groups"
    elif compared > 1:
        head += f", with 95 % intervals corrected for {compared} comparisons; {tests}"
    elif compared:
        head += ", with a 95 % interval"
    return [f"{head}:", *_table(result), *(_split(result, name, compared) if compared > 1 else [])]


def strata_scalars(result: "RL2Result") -> dict[str, float | None]:
    """Numbers of all strata that are compared, and how the whole splits, by name."""
    found: dict[str, float | None] = {}
    for stratum in result.strata:
        low, high = stratum.interval or (None, None)
        numbers = {"rl2": stratum.value, "debiased": stratum.debiased, "rl2_low": low, "rl2_high": high}
        numbers |= {"p_value": stratum.p_value, "baseline_multiple": stratum.baseline_multiple}
        found |= {f"{stratum.name}/{name}": value for name, value in numbers.items()}
    split = asdict(result.strata_split) if result.strata_split else {}
    return found | {name: value for name, value in split.items() if name in OF_SPLIT}


def _multiple(stratum: StratumResult) -> str:
    said = [] if stratum.baseline_multiple is None else [f"{times(stratum.baseline_multiple)}x"]
    said += [f"closest to real {stratum.closest}"] if stratum.differs and stratum.closest != stratum.name else []
    return f"{stratum.name} ({', '.join(said)})" if said else stratum.name


def _has_intervals(result: "RL2Result") -> bool:
    return any(stratum.interval is not None for stratum in result.strata)


def _named(names: list[str]) -> str:
    more = f" and {len(names) - PRINTED} more" if len(names) > PRINTED else ""
    return ", ".join(names[:PRINTED]) + more


def _table(result: "RL2Result") -> list[str]:
    known = ["interval"] if _has_intervals(result) else []
    known += [] if result.assumes_independence else ["p"]
    head = ["", "real", "generated", "RL2", "multiple", "debiased", *known, ""]
    rows = [head]
    for stratum in result.strata:
        row = [stratum.name, str(stratum.n_real), str(stratum.n_fake)]
        if stratum.value is None or stratum.debiased is None:
            rows.append([*row, *[""] * (len(head) - 4), f"not compared: {stratum.withheld}"])
            continue
        multiple = "" if stratum.baseline_multiple is None else f"{times(stratum.baseline_multiple)}x"
        row += [three_digits(stratum.value), multiple, three_digits(stratum.debiased)]
        row += [] if stratum.interval is None else ["{} to {}".format(*map(three_digits, stratum.interval))]
        row += [] if stratum.p_value is None else [p_text(stratum.p_value)]
        closest = "" if stratum.closest == stratum.name else f", closest to real {stratum.closest}"
        rows.append([*row, f"differs{closest}" if stratum.differs else ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers, last in rows:
        cells = (f"{text:>{width}}" for text, width in zip(numbers, widths[1:-1], strict=True))
        lines.append("  ".join(["", f"{name:<{widths[0]}}", *cells, last]).rstrip())
    return lines


def _split(result: "RL2Result", name: str, compared: int) -> list[str]:
    split = result.strata_split
    if split is None:
        return []
    part = compared < len(result.strata)
    some = f" ({split.n_fake} generated and {split.n_real} real images)" if part else ""
    multiple = "" if split.conditional_multiple is None else f" ({times(split.conditional_multiple)}x its baseline)"
    return [
        f"Of RL2 {three_digits(split.value)} over the {compared} {name} compared{some}, other shares of {name} alone "
        f"make {three_digits(split.mixture)}, and other images within them {three_digits(split.within)}",
        f"Average distance within {name}, where errors of two cannot cancel: {three_digits(split.conditional)}"
        f"{multiple}, debiased {three_digits(split.conditional_debiased)}",
    ]
