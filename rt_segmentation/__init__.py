"""Real-time semantic segmentation for ROS 2.

    import rt_segmentation as rt

    result = rt.Segmenter("lednet")(rgb)  # uint8 (H, W, 3) RGB
    result.labels, result.label_set.names, result.overlay()

Names are imported when they are first used: importing the package costs neither OpenCV nor PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rt_segmentation.api import Segmenter
    from rt_segmentation.imaging.frame import Frame
    from rt_segmentation.inference.segmenter import Segmentation
    from rt_segmentation.labels import LabelSet, load_label_set
    from rt_segmentation.models import ModelManifest, find_model, list_models
    from rt_segmentation.networks import register_network

__version__ = "0.1.0"

__all__ = [
    "Frame",
    "LabelSet",
    "ModelManifest",
    "Segmentation",
    "Segmenter",
    "__version__",
    "find_model",
    "list_models",
    "load_label_set",
    "register_network",
]

_MODULES = {
    "Frame": "imaging.frame",
    "LabelSet": "labels",
    "ModelManifest": "models",
    "Segmentation": "inference.segmenter",
    "Segmenter": "api",
    "find_model": "models",
    "list_models": "models",
    "load_label_set": "labels",
    "register_network": "networks",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'rt_segmentation' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"rt_segmentation.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
