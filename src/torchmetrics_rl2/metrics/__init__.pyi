from .patch_quality import PatchQuality as PatchQuality
from .resnet_l2 import ResNetL2 as ResNetL2
