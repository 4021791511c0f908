"""Features of images, computed once and kept on disk."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.distance.sums import rows_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.fitting.run_folder import kept_for_resume, remove_run
from torchmetrics_rl2.fitting.split import Split
from torchmetrics_rl2.images.duplicates import pixel_keys
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.networks.extractor import FeatureExtractor
from torchmetrics_rl2.networks.flow import means_of_groups
from torchmetrics_rl2.runtime import Progress, default_device

__all__ = ["Features", "feature_device", "features_of_split", "names_of"]

SHARD = 128
MIN_OF_GROUP = 8


@dataclass(frozen=True)
class Features:
    """Features of the patches of a split.

    Args:
        fit: Of those that fit the flow, ``(N, 512)``.
        stop: Of those that stop it.
        reference: Of the reference.
        fit_files: The file of each patch that fits the flow, resolved.
        stop_files: The same of those that stop it.
        reference_files: The same of the reference.
        px: Side of the patches in pixels; ``None`` if they differ.
        unreadable: Files that were left out, with the reason.
        shared: Patches that are in two parts of the split, pixel for pixel.

    """

    fit: Tensor
    stop: Tensor
    reference: Tensor
    fit_files: Sequence[str]
    stop_files: Sequence[str]
    reference_files: Sequence[str]
    px: int | None
    unreadable: list[str]
    shared: int

    def check_varies(self) -> None:
        """Refuse features that no flow fits.

        Raises:
            RL2Error: If those of the fit do not vary, or are not finite.

        """
        if not math.isfinite(float(self.fit.double().var(0).sum().log())):
            raise RL2Error(
                f"The features of the {len(self.fit)} patches that fit the flow do not vary or are not finite, and no "
                "flow fits them. Are the images all the same, and is the backbone sound?"
            )

    def within(self, groups: Mapping[Path, str]) -> "Features":
        """The same, but patches that fit or stop the flow without the differences between the means of their groups.

        Args:
            groups: Of each patch.

        Raises:
            RL2Error: If a group is too small to know its mean.

        """
        names, rows = rows_of(names_of([*self.fit_files, *self.stop_files], groups))
        fewest, smallest = min(zip(rows.bincount().tolist(), names, strict=True))
        if fewest < MIN_OF_GROUP:
            raise RL2Error(
                f"Within groups, each needs at least {MIN_OF_GROUP} patches that fit or stop the flow, and {smallest} "
                f"has {fewest}. Join it with another group, or fit without --within-groups."
            )
        both = torch.cat([self.fit, self.stop]).double()
        means = means_of_groups(both, rows)
        both = (both - means[rows] + means.mean(0)).float()
        return replace(self, fit=both[: len(self.fit)], stop=both[len(self.fit) :])

    @property
    def warnings(self) -> list[str]:
        """Sentences on the split."""
        if not self.shared:
            return []
        return [
            f"{self.shared} patches are in two parts of the split, pixel for pixel, which makes the held-out "
            "likelihood look too good. Leave copies out, or give groups that keep them together."
        ]


def names_of(files: Sequence[str], named: Mapping[Path, str] | None) -> list[str]:
    """The name of each file, resolved, such as its group; without names the file itself."""
    if named is None:
        return list(files)
    by_file = {str(path.resolve()): name for path, name in named.items()}
    return [by_file[file] for file in files]


def feature_device(accelerator: str) -> torch.device:
    """Where features are computed under a Trainer's accelerator."""
    return default_device({"auto": None, "gpu": "cuda"}.get(accelerator, accelerator))


def features_of_split(
    extractor: FeatureExtractor, split: Split, reader: ImageReader, run: Path, progress: Progress | None
) -> Features:
    """Features of all patches of a split, from the run where they are there already.

    Raises:
        RL2Error: If a file cannot be read, or fewer than two patches of a side can.

    """
    features, files, sizes, unreadable, seen, shared = {}, {}, set(), list[str](), set[str](), 0
    for side, paths in vars(split).items():
        with kept_for_resume(run, "*.pt", "computed"):
            shards = _shards(extractor, paths, reader, run / side, progress)
        features[side] = torch.cat([shard["features"] for shard in shards])
        sizes |= {px for shard in shards for px in shard["px"]}
        unreadable += [reason for shard in shards for reason in shard["unreadable"]]
        keys = {key for shard in shards for key in shard["keys"] if key}
        shared, seen = shared + len(keys & seen), seen | keys
        files[side] = [file for shard in shards for file in shard["files"]]
        if len(features[side]) < 2:
            remove_run(run)
            raise RL2Error(f"Only {len(features[side])} patches could be read for {side}; expected at least 2.")
    px = sizes.pop() if len(sizes) == 1 else None
    return Features(
        **features,
        fit_files=files["fit"],
        stop_files=files["stop"],
        reference_files=files["reference"],
        px=px,
        unreadable=unreadable,
        shared=shared,
    )


def _shards(
    extractor: FeatureExtractor,
    paths: Sequence[Path],
    reader: ImageReader,
    shards: Path,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Features ``(N, 512)``, their files, px (``None`` if not square) and unreadable files, in shards on disk."""
    found = []
    for start in range(0, len(paths), SHARD):
        shard = shards.with_name(f"{shards.name}-{start // SHARD:05}.pt")
        if not shard.exists():
            features, files, px, keys = [torch.empty(0, 512)], [], set(), []
            if progress:
                progress(f"features to {shards.name}", start, len(paths), 0)
            for batch in (reading := reader.read(paths[start : start + SHARD])):
                height, width = batch.images.shape[-2:]
                px.add(width if height == width else None)
                files += [str(path.resolve()) for path in batch.paths]
                keys += pixel_keys(batch.images)
                features.append(extractor(batch.images.to(extractor.device)).cpu())
                if progress:
                    progress(f"features to {shards.name}", start + reading.done, len(paths), len(batch.images))
            part = shard.with_suffix(f".{os.getpid()}")
            kept = {"features": torch.cat(features), "files": files, "px": list(px)}
            kept |= {"unreadable": reading.unreadable, "keys": keys}
            torch.save(kept, part)
            part.replace(shard)
        found.append(torch.load(shard, weights_only=True))
    return found
