"""Generators that need no training: real tiles of the training split, and what is wrong with them is known."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

from copies import compressed, damage
from many_labs import lab_images, locate, read

ByKind = dict[str, Tensor]
SMALL = 112
COMPONENTS = 64
FEW = 10
BLOCKS = 4
ELSEWHERE = {"colon_n": ("NORM", "Normal"), "colon_aca": ("TUM", "Adenocarcinoma")}


def views(images: Tensor, n: int) -> Tensor:
    """So many images of a few: as they are, then mirrored and rotated, then again."""
    turned = [images, images.flip(3), images.rot90(1, (2, 3)), images.rot90(3, (2, 3))]
    turned += [images.rot90(2, (2, 3)), images.flip(2), images.transpose(2, 3), images.rot90(2, (2, 3)).transpose(2, 3)]
    return torch.cat(turned * -(-n // (8 * len(images))))[:n]


def resized(images: Tensor, px: int) -> Tensor:
    """Of another size."""
    found = F.interpolate(images.float(), (px, px), mode="bicubic", antialias=True)
    return found.round().clamp(0, 255).to(torch.uint8)


def shuffled(images: Tensor) -> Tensor:
    """Blocks of 4 x 4 in random order, another one in each image."""
    n, _, side, _ = images.shape
    step, draws = side // BLOCKS, Generator().manual_seed(0)
    blocks = images.unfold(2, step, step).unfold(3, step, step).reshape(n, 3, BLOCKS**2, step, step)
    orders = torch.rand(n, BLOCKS**2, generator=draws).argsort(1)
    blocks = torch.stack([one[:, order] for one, order in zip(blocks, orders, strict=True)])
    rows = blocks.reshape(n, 3, BLOCKS, BLOCKS, step, step).permute(0, 1, 2, 4, 3, 5)
    return rows.reshape(n, 3, BLOCKS * step, BLOCKS * step)


def mixed(images: Tensor) -> Tensor:
    """Each with the next one, half and half."""
    return ((images.float() + images.float().roll(-1, 0)) / 2).round().to(torch.uint8)


def changed(change: Callable[[Tensor], Tensor]) -> Callable[[ByKind, int], ByKind]:
    """A generator of copies that are all changed in this way."""
    return lambda real, n: {kind: change(images[:n]) for kind, images in real.items()}


def normal_of(kind: str) -> str:
    """Normal tissue of the organ of a kind."""
    return f"{kind.partition('_')[0]}_n"


def collapsed(real: ByKind, n: int) -> ByKind:
    """Normal tissue of the organ, whatever kind is asked for."""
    found, used = {}, dict.fromkeys(map(normal_of, real), 0)
    for kind in real:
        normal = normal_of(kind)
        found[kind] = views(real[normal].roll(-used[normal], 0), n)
        used[normal] += n
    return found


def swapped(real: ByKind, n: int) -> ByKind:
    """A third of the images are of the next kind."""
    wrong, kinds = n // 3, list(real)
    after = dict(zip(kinds, kinds[1:] + kinds[:1], strict=True))
    return {kind: torch.cat([real[kind][: n - wrong], real[after[kind]][n - wrong : n]]) for kind in kinds}


def leaning(real: ByKind, n: int) -> ByKind:
    """A third of the images asked to be a carcinoma are normal tissue."""
    wrong, normal = n // 3, collapsed({kind: images.roll(-n, 0) for kind, images in real.items()}, n // 3)
    return {kind: torch.cat([images[: n - wrong], normal[kind]]) for kind, images in real.items()}


def few(real: ByKind, n: int) -> ByKind:
    """Ten tiles of each kind again and again, mirrored and rotated."""
    return {kind: views(images[:FEW], n) for kind, images in real.items()}


def half(real: ByKind, n: int) -> ByKind:
    """The darker half of each kind alone, mirrored."""
    found = {}
    for kind, images in real.items():
        darkest = images[:n].float().mean((1, 2, 3)).argsort()[: n // 2]
        found[kind] = views(images[darkest], n)
    return found


def pca(real: ByKind, n: int) -> ByKind:
    """Samples of a Gaussian of each kind in 64 principal components of all its files, at 112 px."""
    found, draws = {}, Generator().manual_seed(0)
    for kind, images in real.items():
        pixels = resized(images, SMALL).flatten(1).float()
        mean = pixels.mean(0)
        _, scales, axes = torch.svd_lowrank(pixels - mean, min(COMPONENTS, len(pixels)))
        latents = torch.randn(n, len(scales), generator=draws) * scales / max(1, len(pixels) - 1) ** 0.5
        samples = (mean + latents @ axes.T).round().clamp(0, 255).to(torch.uint8)
        found[kind] = samples.view(n, 3, SMALL, SMALL)
    return found


def elsewhere(real: ByKind, n: int, many_labs: Path) -> ByKind:
    """Colon of other laboratories, mirrored and rotated, and copies of lung."""
    rows, found = lab_images(["fit", "stop", "reference"]), dict(real)
    for kind, names in ELSEWHERE.items():
        wanted = [row for row in rows if row.organ == "colorectum" and row.kind in names]
        images = torch.stack([resized(read(path)[None], 224)[0] for path in locate(many_labs, wanted)])
        found[kind] = views(images, n)
    return {kind: images[:n] for kind, images in found.items()}


GENERATORS: dict[str, tuple[str, Callable[[ByKind, int], ByKind]]] = {
    "real": ("copies of training tiles", changed(lambda images: images)),
    "resized": (f"copies at {SMALL} px", changed(lambda images: resized(images, SMALL))),
    "blurred": ("copies, blur of 1.5 px", changed(damage("gaussian blur", 1.5))),
    "jpeg": ("copies as JPEG of quality 30", changed(compressed(30))),
    "restained": ("copies, eosin by half an octave more", changed(damage("eosin", 0.5))),
    "shuffled": ("copies, blocks of 4 x 4 in random order", changed(shuffled)),
    "mixed": ("two copies of a kind, half and half", changed(mixed)),
    "collapsed": ("copies of normal tissue for all kinds of the organ", collapsed),
    "swapped": ("copies, a third of them of another kind", swapped),
    "leaning": ("copies, a third of the carcinomas are normal", leaning),
    "half": ("copies of the darker half of each kind", half),
    "few": (f"copies of {FEW} tiles of each kind", few),
    "pca": (f"Gaussian of {COMPONENTS} principal components of each kind at {SMALL} px", pca),
}
