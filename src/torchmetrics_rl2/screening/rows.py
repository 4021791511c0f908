"""The rows of a screen: of patches, and of slides or folders of patches."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from torchmetrics_rl2.screening.outputs.tables import text_of

__all__ = ["FilePlace", "PatchRow", "SlidePlace", "SlideRow", "SlideSummary", "count_reasons"]

BACKGROUND = "background"


class Place(Protocol):
    """Which patch it is."""

    @property
    def order(self) -> tuple[Any, ...]:
        """What rows are sorted by."""

    def columns(self) -> dict[str, int | str]:
        """Its columns of a table."""

    def file_stem(self, slide: str) -> str:
        """Name of a file with this patch, of a slide of that name."""

    def label(self, source: Path) -> str:
        """What an error calls it."""


@dataclass(frozen=True)
class SlidePlace:
    """A tile of a slide.

    Args:
        x: Of its top left corner, in pixels of level 0.
        y: The same.

    """

    x: int
    y: int

    @property
    def order(self) -> tuple[int, int]:
        """Row by row."""
        return self.y, self.x

    def columns(self) -> dict[str, int | str]:
        """``x`` and ``y``."""
        return {"x": self.x, "y": self.y}

    def file_stem(self, slide: str) -> str:
        """Slide and place."""
        return f"{slide}_{self.x}_{self.y}"

    def label(self, source: Path) -> str:
        """The slide."""
        return str(source)


@dataclass(frozen=True)
class FilePlace:
    """A file, or one tile of it.

    Args:
        path: The file.
        tile: Number of the tile, from 0.

    """

    path: str
    tile: int

    @property
    def order(self) -> tuple[str, int]:
        """File by file."""
        return self.path, self.tile

    def columns(self) -> dict[str, int | str]:
        """``path`` and ``tile``."""
        return {"path": text_of(self.path), "tile": self.tile}

    def file_stem(self, slide: str) -> str:
        """Folder, file and tile."""
        path = Path(self.path)
        return f"{path.parent.name}_{path.stem}_{self.tile}"

    def label(self, source: Path) -> str:
        """The file."""
        return self.path


P = TypeVar("P", bound=Place)


@dataclass(frozen=True)
class PatchRow(Generic[P]):
    """What a screen found of one patch.

    Args:
        place: Which patch it is.
        percentile: Share of good patches that score lower, in %; 0 for background, ink and black.
        score: See :class:`~torchmetrics_rl2.Calibration`; minus infinity for background, ink and black.
        log_likelihood: Under the flow as it was fitted, in nats.
        tissue: Share of the patch that is tissue.
        ink: Share of the patch that is ink.
        black: Share of the patch that is nearly black.
        keep: Whether it is kept.
        reasons: Why not: at most two, strongest first.
        rank: Share of the patches of the slide that score lower, in %.

    """

    place: P
    percentile: float
    score: float
    log_likelihood: float
    tissue: float
    ink: float
    black: float
    keep: bool
    reasons: tuple[str, ...] = ()
    rank: float = 0.0

    @property
    def is_background(self) -> bool:
        """Whether it has too little tissue."""
        return BACKGROUND in self.reasons


def count_reasons(rows: Iterable[PatchRow[Any]]) -> dict[str, int]:
    """How many patches were rejected for each reason, their first; the most frequent reason first."""
    return dict(Counter(row.reasons[0] for row in rows if row.reasons).most_common())


@dataclass(frozen=True)
class SlideSummary:
    """What a screen found of one slide or folder of patches.

    Args:
        patches: Patches with tissue.
        kept: Those that are kept.
        kept_share: Share of patches with tissue that is kept.
        background: Patches without tissue.
        reasons: How many patches were rejected for what.
        calibrated: Whether patches were judged by their score, and not only ranked.
        median_percentile: Of patches with a score; ``None`` if there is none.
        domain: ``same``, ``shifted``, ``outside`` or ``unknown``: how far the slide is from the good patches.
        domain_rl2: Debiased RL2 from the good patches.
        domain_low: Lower end of its 95 % interval.
        domain_high: Upper end.
        domain_shift: The same distance in standard deviations of the good patches.
        white_red: Optical density of glass; green and blue follow.
        tissue_red: Mean optical density of tissue; green and blue follow.
        mpp: Resolution in um/px, ``None`` if unknown.
        target_mpp: Resolution of its patches.
        px: Side of a tile in pixels; ``None`` for patches from files.
        size: Side of a tile in pixels of level 0; ``None`` for patches from files.
        unreadable: Files that were left out.
        seconds: How long the screen took.

    """

    patches: int
    kept: int
    kept_share: float
    background: int
    reasons: str
    calibrated: bool
    median_percentile: float | None
    domain: str
    domain_rl2: float | None
    domain_low: float | None
    domain_high: float | None
    domain_shift: float | None
    white_red: float
    white_green: float
    white_blue: float
    tissue_red: float
    tissue_green: float
    tissue_blue: float
    mpp: float | None
    target_mpp: float | None
    px: int | None
    size: float | None
    unreadable: int
    seconds: float


@dataclass(frozen=True)
class SlideRow:
    """One slide or folder of patches of a screen.

    Args:
        slide: Its name.
        path: Where it is.
        status: ``finished``; ``failed``; ``left`` where an earlier screen with other inputs was left as it is;
            ``unfinished`` where another process is at work on it.
        error: Why it is not finished.
        summary: What was found; ``None`` if it failed or is unfinished.
        calibration: sha256 of the calibration that it was screened with.
        new: Whether this call screened it.

    """

    slide: str
    path: str
    status: Literal["finished", "failed", "left", "unfinished"]
    error: str = ""
    summary: SlideSummary | None = None
    calibration: str = ""
    new: bool = False

    def columns(self) -> dict[str, Any]:
        """Its columns of a table; those of the summary only if there is one."""
        named = {"slide": self.slide, "path": self.path, "status": self.status, "error": self.error}
        return named | ({} if self.summary is None else asdict(self.summary) | {"calibration": self.calibration})
