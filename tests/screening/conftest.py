from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import tissue
from tests.fixtures.slides import slide_pixels, write_slide
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.screening.finding import find_sources
from torchmetrics_rl2.screening.jobs import screen_all
from torchmetrics_rl2.screening.rows import PatchRow, SlidePlace
from torchmetrics_rl2.screening.slide_file import TileReader

TILES = TileReader(px=64, target_mpp=0.5, min_tissue=0.2)
TABLES = ("patches.csv", "patches.parquet", "patches.geojson")


def small_pixels(seed=0):
    """Glass with 2 x 3 good patches, of 64 px at 0.5 um/px as in ``slide_pixels``, and one of green ink."""
    pixels = torch.full((3, 640, 640), 242, dtype=torch.uint8)
    patches = tissue(6, 64, seed + 70).unflatten(0, (2, 3)).permute(2, 0, 3, 1, 4).reshape(3, 128, 192)
    pixels[:, 128:384, :384] = patches.repeat_interleave(2, 1).repeat_interleave(2, 2)
    pixels[:, 128:256, 512:] = torch.tensor([30, 170, 110], dtype=torch.uint8).view(3, 1, 1)
    return pixels.permute(1, 2, 0).numpy()


def write_patches(folder, images):
    """Patches as 00.png, 01.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        to_pil_image(image).save(folder / f"{i:02}.png")
    return folder


def find(*sources, out=Path("nowhere"), reader=None, tiles=TILES, **resolutions):
    return list(find_sources(sources, out, reader=reader or ImageReader(), tiles=tiles, **resolutions).sources)


def run(sources, out, screener, *outputs, **changes):
    """Screen sources to a folder."""
    sources = sources if isinstance(sources, list) else [sources]
    return screen_all(find(*sources, out=out), out, screener, *outputs, **{"settings": {"px": 64}, **changes})


def rows_of(pattern, size=100.0):
    """Rows from lines of k (kept), p (pen), f (out of focus) and dots."""
    reasons = {"k": (), "p": ("pen",), "f": ("out of focus", "noise")}
    return [
        PatchRow(
            SlidePlace(round(i * size), round(j * size)),
            percentile=10.0 * i,
            score=-1.0,
            log_likelihood=-2.0,
            tissue=0.5,
            ink=0.0,
            black=0.0,
            keep=c == "k",
            reasons=reasons[c],
            rank=1.0,
        )
        for j, line in enumerate(pattern)
        for i, c in enumerate(line)
        if c != "."
    ]


@pytest.fixture
def real_pictures():
    """Asks for pictures that are drawn."""


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch, request):
    """Matplotlib takes most of the time of a screen, so that most tests have an empty file instead."""
    if "real_pictures" not in request.fixturenames:
        for name, at in (("outputs.folder.plot_contact_sheet", 1), ("slide_file.plot_heatmap", 3)):
            stub = lambda *arguments, at=at: arguments[at].write_bytes(b"")
            monkeypatch.setattr(f"torchmetrics_rl2.screening.{name}", stub)


@pytest.fixture(scope="session")
def small_slide(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("small") / "case-2.svs", small_pixels())


@pytest.fixture(scope="session")
def slides(small_slide, tmp_path_factory):
    """Two slides, a large one and a small one, a file that is no slide, and a slide of glass."""
    folder = tmp_path_factory.mktemp("cohort")
    write_slide(folder / "case-1.svs", slide_pixels(seed=1))
    (folder / "case-2.svs").write_bytes(small_slide.read_bytes())
    (folder / "broken.svs").write_text("no slide")
    write_slide(folder / "glass.svs", small_pixels() * 0 + 240)
    return folder


@pytest.fixture(scope="session")
def screened(slides, screener, tmp_path_factory):
    """The finished screen of these slides, to be read only, and its rows."""
    out = tmp_path_factory.mktemp("out")
    return out, run(slides, out, screener)
