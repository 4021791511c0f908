from .checkpoint import ResNetL2Checkpoint as ResNetL2Checkpoint
from .monitor import ResNetL2Monitor as ResNetL2Monitor
