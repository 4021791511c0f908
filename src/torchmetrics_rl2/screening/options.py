"""What a screen is asked for, in small groups."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.quality.calibration import Calibration

__all__ = ["GoodPatches", "Outputs", "Tiling"]

DEFAULT_PX, DEFAULT_MPP, SAME_MPP = 224, 0.5, 1.05


@dataclass(frozen=True)
class GoodPatches:
    """Good patches of your own, to calibrate with.

    Args:
        patches: A folder, a glob, a text file of paths, or paths; 64 to 128 patches of 20 slides or more.
        groups: Which slide or patient each is of: ``"parent"`` for its folder, ``"file"``, or a CSV with the columns
            ``path`` and ``group``. ``None`` takes all patches as independent, which patches of one slide are not.

    """

    patches: str | Path | Sequence[Path]
    groups: str | Path | Mapping[Path, str] | None = None


@dataclass(frozen=True)
class Outputs:
    """What is written for each slide, in addition to tables and pictures.

    Args:
        tiles: GeoJSON has a polygon for each patch instead of one for each region.
        export_patches: Kept patches are written as PNG files.

    """

    tiles: bool = False
    export_patches: bool = False


@dataclass(frozen=True)
class Tiling:
    """Size and resolution of patches.

    Args:
        px: Side of a patch in pixels; by default that of the calibration. Patches from files are cut to it only if it
            is given.
        scale: Patches from files are resized by this factor first, antialiased.
        mpp: Resolution of slides in um/px, instead of what their files say; of patches from files, for the record.
        mpps: The same for single slides, by name, stem or path.
        target_mpp: Resolution to read slides at, in um/px; by default that of the calibration, else that of the
            weights, else 0.5.

    Raises:
        RL2Error: If a resolution is not above 0.

    """

    px: int | None = None
    scale: float | None = None
    mpp: float | None = None
    mpps: Mapping[str, float] = field(default_factory=dict)
    target_mpp: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("mpp", self.mpp), ("target_mpp", self.target_mpp)):
            if value is not None and not 0 < value < math.inf:
                raise RL2Error(f"The {name} is a resolution above 0 um/px, but got {value}.")

    def px_of(self, calibration: Calibration, encoder: LatentEncoder) -> int:
        """Side of the tiles of slides.

        Raises:
            RL2Error: If the good patches have another.

        """
        if self.px and calibration.px and self.px != calibration.px:
            raise RL2Error(
                f"The good patches have {calibration.px} px and tiles would have {self.px}; percentiles compare only "
                "patches of one size. Calibrate with patches of that size, or leave out --tile."
            )
        return self.px or calibration.px or encoder.features.preprocessing.px or DEFAULT_PX

    def mpp_of(self, calibration: Calibration, encoder: LatentEncoder) -> float:
        """Resolution of the tiles of slides.

        Raises:
            RL2Error: If the good patches have another.

        """
        target, known = self.target_mpp, calibration.mpp
        if target and known and abs(math.log(target / known)) > math.log(SAME_MPP):
            raise RL2Error(
                f"The good patches have {known:g} um/px and tiles would have {target:g}; percentiles compare only "
                "patches of one resolution. Calibrate with patches of that resolution, or leave out --target-mpp."
            )
        return target or known or encoder.features.preprocessing.mpp or DEFAULT_MPP
