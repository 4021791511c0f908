"""What metrics and classifiers need to know of images, each computed once and kept in files."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "paper"))
sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

import classifier
from inception import DIGEST, inception_features, load_inception

import lc25000
from lc25000 import KINDS
from torchmetrics_rl2 import LatentEncoder, RL2Error

PX = 224
BATCH = 32
MIN_IMAGES = 8
ENDS = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}
REAL = ("reference", "stop")
INCEPTION = "Inception"


@dataclass(frozen=True)
class Setting:
    """How to judge: options of the command line that all processes need."""

    lc25000: Path
    kept: Path
    weights: tuple[str, ...]
    inception: bool
    inception_file: str | None
    images: int
    seeds: int
    device: str

    @property
    def networks(self) -> list[str]:
        """Names of all networks that images go through."""
        return [*self.weights, *([INCEPTION] if self.inception else [])]


@dataclass(frozen=True)
class Evidence:
    """Of one set of images: features ``(N, d)`` by network, and the number of the kind of each of the N images.

    ``tested`` is what classifiers trained on the set see in the test tiles, ``seen`` what those trained on real tiles
    see in all images of the set, and ``asked`` the kinds of these.
    """

    features: dict[str, Tensor]
    kinds: Tensor
    tested: Tensor
    seen: Tensor
    asked: Tensor


def read_folder(folder: Path) -> tuple[Tensor, Tensor]:
    """Images of a generator, uint8 ``(N, 3, 224, 224)``, and the number of the kind that was asked for of each.

    Raises:
        RL2Error: If a kind has fewer than 8 images.

    """
    images, kinds = [], []
    for k, kind in enumerate(KINDS):
        paths = [path for path in (folder / kind).glob("*") if path.suffix.lower() in ENDS]
        if len(paths) < MIN_IMAGES:
            raise RL2Error(
                f"{folder / kind} has {len(paths)} images; expected at least {MIN_IMAGES} images of the kind that a "
                f"generator was asked for, in a folder for each of {', '.join(KINDS)}."
            )
        images += [_read(path) for path in sorted(paths, key=lambda path: (len(path.stem), path.stem))]
        kinds += [k] * len(paths)
    return torch.stack(images), torch.tensor(kinds)


def _read(path: Path) -> Tensor:
    with Image.open(path) as opened:
        image = opened.convert("RGB")
        return pil_to_tensor(image if image.size == (PX, PX) else image.resize((PX, PX), Image.Resampling.BICUBIC))


def read_real(setting: Setting, splits: Sequence[str], variants: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Real tiles, the number of the kind of each, and the number of the tile that it is a file of."""
    wanted = lc25000.tiles(splits, variants=variants)
    ids = sorted({tile.source_tile_id for tile in wanted})
    kinds, sources = (
        torch.tensor(column)
        for column in zip(*((KINDS.index(t.kind), ids.index(t.source_tile_id)) for t in wanted), strict=True)
    )
    return lc25000.read_all(setting.lc25000, wanted), kinds, sources


def kept(folder: Path, what: str, inputs: Sequence[Tensor], compute: Callable[[], Tensor]) -> Tensor:
    """Something computed, from a file if it was computed before from the same inputs."""
    key = sha256(what.encode())
    for one in inputs:
        key.update(one.contiguous().numpy().tobytes())
    file = folder / f"{key.hexdigest()[:32]}.pt"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        found = compute()
        part = file.with_suffix(".part")
        torch.save(found, part)
        part.replace(file)
    loaded: Tensor = torch.load(file)
    return loaded


@cache
def network_of(name: str, device: str, file: str | None) -> tuple[str, Callable[[Tensor], Tensor]]:
    """What a network is, and what maps images to its features."""
    on = torch.device(device)
    if name == INCEPTION:
        network = load_inception(file, on)
        return DIGEST, lambda images: inception_features(network, images, on, "images")
    encoder = LatentEncoder.load(name).to(on)
    return encoder.weights_id, lambda images: torch.cat([encoder(part.to(on)).cpu() for part in images.split(BATCH)])


def features_of(setting: Setting, images: Tensor) -> dict[str, Tensor]:
    """Features by network."""
    found = {}
    for name in setting.networks:
        identity, run = network_of(name, setting.device, setting.inception_file)
        found[name] = kept(setting.kept, identity, [images], lambda run=run: run(images))
    return found


def some_of_each(kinds: Tensor, count: int) -> Tensor:
    """Rows of so many images of each kind, spread evenly: a fault may be in the last ones alone."""
    rows = [(kinds == k).nonzero()[:, 0] for k in range(len(KINDS))]
    return torch.cat(
        [of_kind[torch.linspace(0, len(of_kind) - 1, min(count, len(of_kind))).round().long()] for of_kind in rows]
    )


def learned(setting: Setting, images: Tensor, kinds: Tensor, judged: Tensor) -> Tensor:
    """Kinds that classifiers trained on images see in others, ``(seeds, N)``; all images as ``small`` makes them."""
    device, found = torch.device(setting.device), []
    for seed in range(setting.seeds):

        def compute(seed: int = seed) -> Tensor:
            network = classifier.trained(images, kinds, len(KINDS), seed, device)
            return classifier.predicted(network, judged)

        found.append(kept(setting.kept, f"{classifier.DESCRIBED} {seed}", [images, kinds, judged], compute))
    return torch.stack(found)


@cache
def real_small(setting: Setting, split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Small real tiles, all files: of ``fit`` for training, of ``report`` for the test; kinds and source tiles."""
    images, kinds, sources = read_real(setting, [split], range(4))
    return classifier.small(images), kinds, sources


@cache
def real_classifiers(setting: Setting) -> list[classifier.Classifier]:
    """Classifiers trained on all real files of ``fit``, from files if they were trained before."""
    found = []
    for seed in range(setting.seeds):
        file = setting.kept / f"real {classifier.DESCRIBED} {seed}.pt"
        if file.exists():
            network = classifier.Classifier(len(KINDS)).to(setting.device)
            network.load_state_dict(torch.load(file, map_location=setting.device))
        else:
            images, kinds, _ = real_small(setting, "fit")
            network = classifier.trained(images, kinds, len(KINDS), seed, torch.device(setting.device))
            setting.kept.mkdir(parents=True, exist_ok=True)
            torch.save(network.state_dict(), file)
        found.append(network.eval())
    return found


def seen_by_real(setting: Setting, small: Tensor) -> Tensor:
    """Kinds that classifiers trained on real tiles see in small images, ``(seeds, N)``."""
    return torch.stack([classifier.predicted(network, small) for network in real_classifiers(setting)])


def evidence(setting: Setting, images: Tensor, kinds: Tensor) -> Evidence:
    """All that is to know of a set of images."""
    rows, small = some_of_each(kinds, setting.images), classifier.small(images)
    tested = learned(setting, small, kinds, real_small(setting, "report")[0])
    return Evidence(features_of(setting, images[rows]), kinds[rows], tested, seen_by_real(setting, small), kinds)


def of_folder(setting: Setting, folder: Path) -> Evidence:
    """All that is to know of a generator."""
    print(f"{folder.name} ...", file=sys.stderr, flush=True)
    return evidence(setting, *read_folder(folder))
