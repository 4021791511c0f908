from .monitor import ResNetL2Monitor as ResNetL2Monitor
