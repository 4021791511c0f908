"""Files, folders and slides become batches of tensors."""

from torchmetrics_rl2.images.decode import open_image, read_image
from torchmetrics_rl2.images.find import find_images
from torchmetrics_rl2.images.groups import groups_of, labels_of, read_column
from torchmetrics_rl2.images.reader import ImageBatch, ImageReader, Reading
from torchmetrics_rl2.images.slide import Slide, read_mpps

__all__ = [
    "ImageBatch",
    "ImageReader",
    "Reading",
    "Slide",
    "find_images",
    "groups_of",
    "labels_of",
    "open_image",
    "read_column",
    "read_image",
    "read_mpps",
]
