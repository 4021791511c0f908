"""Files, folders and slides become batches of tensors."""

from torchmetrics_rl2.images.decode import read_image
from torchmetrics_rl2.images.find import find_images
from torchmetrics_rl2.images.groups import groups_of
from torchmetrics_rl2.images.reader import ImageBatch, ImageReader
from torchmetrics_rl2.images.slide import Slide, read_mpps

__all__ = ["ImageBatch", "ImageReader", "Slide", "find_images", "groups_of", "read_image", "read_mpps"]
