"""Slides and folders of patches among what was given."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import EXTENSIONS, files_below, find_images
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.images.slide_handle import is_slide
from torchmetrics_rl2.screening.manifest import RECORD
from torchmetrics_rl2.screening.patch_folder import PatchFolder
from torchmetrics_rl2.screening.slide_file import SlideFile, TileReader
from torchmetrics_rl2.screening.sources import Source

__all__ = ["find_sources"]

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi")


def find_sources(
    sources: Sequence[str | Path],
    out: Path,
    *,
    reader: ImageReader,
    tiles: TileReader,
    mpp: float | None = None,
    mpps: Mapping[str, float] | None = None,
) -> list[Source]:
    """Slides and folders of patches among what was given, none twice.

    Args:
        sources: Slides, folders of slides, and folders, globs or lists of patches.
        out: Where the screen is written to, which is no source.
        reader: How patches from files are read.
        tiles: How slides are read.
        mpp: Resolution of slides, instead of what they say.
        mpps: The same by name, stem or path of a slide.

    Raises:
        RL2Error: If something is not there, or a folder mixes slides and patches.

    """
    mpps = mpps or {}
    slides: dict[str, Path] = {}
    found: dict[str, Source] = {}
    for source in sources:
        given = _look(source, out)
        for path in given.slides:
            own = next((mpps[key] for key in _keys(path) if key in mpps), mpp)
            found.setdefault(os.path.realpath(path), SlideFile(path, tiles, own))
            slides.setdefault(os.path.realpath(path), path)
        if given.patches:
            found.setdefault(os.path.realpath(source), PatchFolder(Path(source), given.patches, reader, mpp))
    if mpps and slides and not any(key in mpps for path in slides.values() for key in _keys(path)):
        first = next(iter(slides.values()))
        raise RL2Error(
            f"The table of resolutions has {', '.join(list(mpps)[:3])}, and none of the slides, {first.name} "
            "for one. Expected their names, stems or paths."
        )
    return list(found.values())


@dataclass(frozen=True)
class _Given:
    """What one of the sources holds: slides, or patches."""

    slides: Sequence[Path] = field(default_factory=list)
    patches: Sequence[Path] = field(default_factory=list)


def _look(source: str | Path, out: Path) -> _Given:
    path = Path(source)
    if path.suffix.lower() in SLIDES and not path.exists():
        raise RL2Error(f"There is no slide {path}.")
    if path.is_dir() and path.resolve().is_relative_to(out.resolve()):
        raise RL2Error(f"{path} is in {out}, where the screen is written to. Choose another --out.")
    if path.is_file() and (path.suffix.lower() in SLIDES or is_slide(path)):
        return _Given([path])
    slides = [slide for slide in _slides_in(path) if not _within(slide, out)] if path.is_dir() else []
    images = [] if slides and not _has_images(path, out) else find_images(source)
    finished = {folder for folder in {image.parent for image in images} if (folder / RECORD).is_file()}
    images = [image for image in images if not _within(image, out) and image.parent not in finished]
    flat = {image for image in images if is_slide(image)}
    patches = [image for image in images if image not in flat]
    slides = sorted({*slides, *flat})
    if slides and patches:
        raise RL2Error(
            f"{path} mixes {len(slides)} slide(s), {slides[0].name} for one, with {len(patches)} patches, "
            f"{patches[0].name} for one. Give slides and patches from different folders."
        )
    if not slides and not patches:
        raise RL2Error(f"{path} holds nothing but pictures of an earlier screen. Expected slides or patches.")
    return _Given(slides, patches)


def _keys(path: Path) -> tuple[str, ...]:
    return str(path), path.name, path.stem


def _slides_in(folder: Path) -> list[Path]:
    return [path for path in _files_in(folder) if path.suffix.lower() in SLIDES]


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in files_below(folder) if not path.name.startswith("."))


def _has_images(folder: Path, out: Path) -> bool:
    return any(path.suffix.lower() in EXTENSIONS and not _within(path, out) for path in _files_in(folder))


def _within(path: Path, out: Path) -> bool:
    """Whether it is of an earlier screen, written below what is screened."""
    return path.absolute().is_relative_to(out.resolve()) or path.resolve().is_relative_to(out.resolve())
