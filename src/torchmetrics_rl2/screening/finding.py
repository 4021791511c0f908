"""Slides and folders of patches among what was given."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import SLIDES, files_below, find, is_image, same_name
from torchmetrics_rl2.images.formats import EXPECTED
from torchmetrics_rl2.images.packed import is_packed
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.images.slide_handle import is_slide, series_of
from torchmetrics_rl2.screening.manifest import RECORD
from torchmetrics_rl2.screening.patch_folder import PatchFolder
from torchmetrics_rl2.screening.slide_file import SlideFile, TileReader
from torchmetrics_rl2.screening.sources import Source

TABLES = ("slides.csv", "slides.parquet", "calibration.safetensors")
"""What a screen writes beside the folders of its slides."""

__all__ = ["FoundSources", "find_sources"]


@dataclass(frozen=True)
class FoundSources:
    """What is screened, and what is not.

    Args:
        sources: Slides and folders of patches, none twice.
        left_out: Other files of each folder.

    """

    sources: Sequence[Source]
    left_out: Mapping[str, Sequence[Path]]


def find_sources(
    sources: Sequence[str | Path],
    out: Path,
    *,
    reader: ImageReader,
    tiles: TileReader,
    mpp: float | None = None,
    mpps: Mapping[str, float] | None = None,
) -> FoundSources:
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
    mpps = {same_name(key): value for key, value in (mpps or {}).items()}
    left_out: dict[str, Sequence[Path]] = {}
    slides: dict[str, Path] = {}
    found: dict[str, Source] = {}
    for source in sources:
        given = _look(source, out)
        if given.left_out:
            left_out[os.fspath(source)] = given.left_out
        for path, parts in given.slides.items():
            own = next((mpps[key] for key in _keys(path) if key in mpps), mpp)
            found.setdefault(os.path.realpath(path), SlideFile(path, tiles, own, tuple(parts)))
            slides.setdefault(os.path.realpath(path), path)
        if given.patches:
            found.setdefault(os.path.realpath(source), PatchFolder(Path(source), given.patches, reader, mpp))
    if mpps and slides and not any(key in mpps for path in slides.values() for key in _keys(path)):
        first = next(iter(slides.values()))
        raise RL2Error(
            f"The table of resolutions has {', '.join(list(mpps)[:3])}, and none of the slides, {first.name} "
            "for one. Expected their names, stems or paths."
        )
    return FoundSources(list(found.values()), left_out)


@dataclass(frozen=True)
class _Given:
    """What one of the sources holds: slides, each with the files of its series, or patches."""

    slides: Mapping[Path, Sequence[Path]] = field(default_factory=dict)
    patches: Sequence[Path] = field(default_factory=list)
    left_out: Sequence[Path] = field(default_factory=list)


def _look(source: str | Path, out: Path) -> _Given:
    path = Path(source)
    if path.suffix.lower() in SLIDES and not path.exists():
        raise RL2Error(f"There is no slide {path}.")
    if path.is_dir() and path.resolve().is_relative_to(out.resolve()):
        raise RL2Error(f"{path} is in {out}, where the screen is written to. Choose another --out.")
    if path.is_file() and (path.suffix.lower() in SLIDES or is_slide(path)):
        return _Given({path: ()})
    if path.is_dir():
        files, others = _files_in(path, out), list[Path]()
    else:
        found = find(source)
        files, others = [one for one in found.paths if not _within(one, out)], list(found.left_out)
    slides, patches = list[Path](), list[Path]()
    for file in files:
        if is_slide(file):
            slides.append(file)
        elif is_image(file):
            patches.append(file)
        else:  # a slide that is cut off is told by its name, and fails with a sentence
            (slides if file.suffix.lower() in SLIDES else others).append(file)
    if not slides and not patches and any(map(is_packed, others)):
        found = find(source)
        patches, others = list(found.paths), list(found.left_out)
    if slides and patches:
        raise RL2Error(
            f"{path} mixes {len(slides)} slide(s), {slides[0].name} for one, with {len(patches)} patches, "
            f"{patches[0].name} for one. Give slides and patches from different folders."
        )
    if not slides and not patches:
        is_empty = path.is_dir() and next(files_below(path), None) is None
        held = "no images" if is_empty else "nothing but pictures of an earlier screen"
        held = f"no images, but {len(others)} other file(s), {others[0].name} for one" if others else held
        raise RL2Error(f"{path} holds {held}. Expected slides, or patches: {EXPECTED}.")
    return _Given(_by_series(slides), patches, others)


def _by_series(slides: Sequence[Path]) -> dict[Path, list[Path]]:
    """Slides, and all files of those that are a DICOM series."""
    series: dict[str, Path] = {}
    found: dict[Path, list[Path]] = {}
    for path in slides:
        first = series.setdefault(series_of(path) or str(path), path)
        found.setdefault(first, []).append(path)
    return {path: parts if len(parts) > 1 else [] for path, parts in found.items()}


def _keys(path: Path) -> tuple[str, ...]:
    return same_name(path), same_name(path.name), same_name(path.stem)


def _files_in(folder: Path, out: Path) -> list[Path]:
    """Files below a folder, without those of earlier screens, and without the parts of slides that have an index."""
    files = [path for path in sorted(files_below(folder)) if not _within(path, out)]
    finished = {path.parent for path in files if path.name == RECORD}
    tables = {folder.parent / name for folder in finished for name in TABLES}
    indexed = {path.with_suffix("") for path in files if path.suffix.lower() == ".mrxs"}
    return [path for path in files if path.parent not in finished | indexed and path not in tables]


def _within(path: Path, out: Path) -> bool:
    """Whether it is of an earlier screen, written below what is screened."""
    return path.absolute().is_relative_to(out.resolve()) or path.resolve().is_relative_to(out.resolve())
