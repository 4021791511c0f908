"""What the weights make of images, measured batch by batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.pixels.handcrafted import handcrafted_statistics
from torchmetrics_rl2.runtime import Progress, exact_arithmetic

__all__ = ["Measured", "Meter"]

BATCH = 32


@dataclass(frozen=True)
class Measured:
    """What is known of images, one row an image.

    Args:
        features: ``(N, 512)``.
        handcrafted: Fifteen statistics, ``(N, 15)``.
        latents: ``(N, 512)``.
        likelihood: Log-likelihood under the flow, ``(N,)``, in nats; NaN if there is none.

    """

    features: Tensor
    handcrafted: Tensor
    latents: Tensor
    likelihood: Tensor


class Meter:
    """Encodes images, and tells how far the audit is.

    Args:
        encoder: The weights.
        progress: Whom to tell, if anybody.
        total: Steps in all.

    Attributes:
        done: Steps that are done.

    """

    def __init__(self, encoder: LatentEncoder | OwnEncoder, progress: Progress | None = None, total: int = 0) -> None:
        self.encoder, self.progress, self.done, self.total = encoder, progress, 0, total

    def measure(self, images: Tensor) -> Measured:
        """All that is to be known of uint8 images ``(N, 3, H, W)``."""
        parts = []
        for batch in torch.split(images, BATCH):
            on_device = batch.to(self.encoder.device)
            encoder = self.encoder
            features = encoder.features(on_device) if isinstance(encoder, LatentEncoder) else encoder(on_device)
            with exact_arithmetic(encoder.device):
                latents, likelihood = features, features.new_full((len(features),), torch.nan)
                if isinstance(encoder, LatentEncoder):
                    latents, log_det = encoder.flow(features)
                    likelihood = encoder.flow.log_likelihood(latents, log_det)
                values = features, handcrafted_statistics(on_device.float() / 255), latents, likelihood
            parts.append([value.cpu() for value in values])
            self._tell(len(batch))
        return Measured(*map(torch.cat, zip(*parts, strict=True)))

    def reach(self, done: int) -> None:
        """So many steps are done."""
        self.done = done
        self._tell(0)

    def _tell(self, images: int) -> None:
        if self.progress:
            self.progress("audit", self.done, self.total, images)
