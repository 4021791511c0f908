"""What a distance is explained by: known damage in physical units, and the images that it comes from."""

from dataclasses import dataclass, field

from torchmetrics_rl2.distance.text import percent, three_digits

__all__ = ["Cause", "Explanation", "ImageShare", "amount_text", "share_text"]

PRINTED = 3


@dataclass(frozen=True)
class Cause:
    """Known damage that moves look as the generated images do.

    Args:
        damage: Its name, one of :data:`~torchmetrics_rl2.pixels.LADDERS`.
        family: ``focus``, ``noise``, ``impulse``, ``occlusion``, ``blank``, ``compression``, ``color`` or ``scale``.
        amount: How much of it, in ``unit``.
        unit: What the amount is measured in.
        severity: The same on the ladder of an audit, from -1 to 1.
        interval: 95 % interval of the amount.
        share: How much of the squared look it explains, without what chance adds.
        confusable: Other damage that explains nearly as much, with its amount in words.

    """

    damage: str
    family: str
    amount: float
    unit: str
    severity: float
    interval: tuple[float, float]
    share: float
    confusable: tuple[str, ...] = ()

    def __str__(self) -> str:
        low, high = map(three_digits, self.interval)
        return f"{amount_text(self.damage, self.amount, self.unit)} ({low} to {high})"


@dataclass(frozen=True)
class ImageShare:
    r"""How much one generated image holds of RL2.

    With :math:`u` the direction from the real mean to the generated one, the share of image :math:`i` is
    :math:`\langle z_i - \bar z_r, u \rangle / \mathrm{RL2}`. The mean of the shares of all images is 1.

    Args:
        image: Path, with ``, tile I`` where it was cut.
        share: Of RL2.
        content: The same of content; ``None`` without kinds of tissue.
        look: The same of look.
        nearest: The real image whose latent lies nearest; empty where the real side is no images.

    """

    image: str
    share: float
    content: float | None = None
    look: float | None = None
    nearest: str = ""


@dataclass(frozen=True)
class Explanation:
    """Why a distance is what it is.

    Args:
        causes: Known damage that a person sees and that explains look, at most two; empty where none does.
        explained: Share of the squared look that these explain together, or, without causes, that the closest damage
            explains. Without what chance adds to either, so it may lie a little above 1, or below 0.
        closest: The closest damage where none explains look.
        images: The images that hold most of RL2, the worst first.
        typical: Those whose share is nearest to 1.
        withheld: Why something is missing, by name: ``causes`` or ``images``.

    """

    causes: list[Cause] = field(default_factory=list)
    explained: float | None = None
    closest: Cause | None = None
    images: list[ImageShare] = field(default_factory=list)
    typical: list[ImageShare] = field(default_factory=list)
    withheld: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join([*self.cause_sentences(), *self._images()])

    def cause_sentences(self) -> list[str]:
        """What look is explained by, or why nothing is named."""
        if self.causes:
            named = " and ".join(str(cause) for cause in self.causes)
            which = "which together explain" if len(self.causes) > 1 else "which explains"
            share = round(100 * (self.explained or 0.0))
            left = f"{share} % of it; {100 - share} % is explained by nothing known"
            lines = [f"Look: as far as {named}, {which} {left if share < 100 else 'all of it'}"]
            for cause in self.causes:
                lines += [f"It may as well be {' or '.join(cause.confusable)}"] if cause.confusable else []
            return lines
        if self.closest is not None:
            return [
                f"Look: no known damage that a person sees explains it; the closest, {self.closest}, explains "
                f"{share_text(self.closest.share)}. Another slide, scanner or laboratory differs so, or "
                "damage that is not known, or that is not the same in all images"
            ]
        return [f"No damage is named: {self.withheld['causes']}"] if "causes" in self.withheld else []

    def _images(self) -> list[str]:
        if not self.images:
            return [f"Images are not ranked: {self.withheld['images']}"] if "images" in self.withheld else []
        worst = (f"{image.image} ({three_digits(image.share)}x)" for image in self.images[:PRINTED])
        return [f"Images that hold most of RL2, in shares of the average one: {', '.join(worst)}"]


def share_text(share: float) -> str:
    """A share explained, in percent: all or nothing where chance puts it beyond."""
    return percent(max(0.0, min(share, 1.0)))


def amount_text(damage: str, amount: float, unit: str) -> str:
    """Damage with its amount, such as ``gaussian blur of sigma 1.5 px``."""
    if unit == "octaves":
        return f"{damage} of {amount:+.2g} octaves"
    number = three_digits(amount)
    quantity, _, of = unit.partition(", ")
    if unit == "step of 1,000":
        return f"{damage} of step {number} of 1,000"
    suffix = f" {of}" if of and of != "of 1" else ""
    return f"{damage} of {quantity} {number}{suffix}"
