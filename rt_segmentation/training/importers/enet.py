"""The ENet authors' release: a Torch7 network, or its tensors as .npz."""

from __future__ import annotations

import numpy as np

from rt_segmentation.training.importers.source import Source, Tensors

CLASSIFIER = "32"

# Number in the outer nn.Sequential to our name.
BOTTLENECKS: dict[int, str] = {
    5: "encoder.down1",
    **{6 + i: f"encoder.stage1.{i}" for i in range(4)},
    10: "encoder.down2",
    **{11 + i: f"encoder.stage2.{i}" for i in range(8)},
    **{19 + i: f"encoder.stage3.{i}" for i in range(8)},
    27: "up4",
    28: "stage4.0",
    29: "stage4.1",
    30: "up5",
    31: "stage5",
}


def dropout(bottleneck: int) -> float:
    """Probability p of the spatial dropout that ends a bottleneck's convolutions; the decoder's have none."""
    return 0.01 if bottleneck < 10 else 0.1 if bottleneck < 27 else 0.0


def convert(tensors: Tensors) -> Tensors:
    """Rename, and fold each dropout into the batch norm before it.

    Torch7's SpatialDropout multiplies by 1 - p in evaluation, PyTorch's Dropout2d does nothing then.
    """
    names = {
        "1.1": "encoder.initial.conv",
        "3": "encoder.initial.activation.0",
        "4": "encoder.initial.activation.1",
        CLASSIFIER: "classifier",
    }
    factors: dict[str, float] = {}
    for number, name in BOTTLENECKS.items():
        # Between projection and expansion: convolution, batch norm and PReLU, or two convolutions first.
        second = tensors.get(f"{number}.1.1.5.weight")
        main = 4 if second is not None and second.ndim == 4 else 3
        parts = (("project", 3), ("main", main), ("expand", 2))
        targets = [f"{part}.{i}" for part, count in parts for i in range(count)]
        names.update({f"{number}.1.1.{i}": f"{name}.{target}" for i, target in enumerate(targets, 1)})
        names.update({f"{number}.1.2.{i}": f"{name}.shortcut.{i - 2}" for i in (2, 3)})
        names[f"{number}.3"] = f"{name}.activation"
        for parameter in ("weight", "bias"):
            factors[f"{name}.expand.1.{parameter}"] = 1.0 - dropout(number)
    converted: Tensors = {}
    for key, value in tensors.items():
        module, _, parameter = key.rpartition(".")
        name = f"{names.get(module, module)}.{parameter}"
        converted[name] = value * np.float32(factors.get(name, 1.0))
    return converted


ENET_AUTHORS = Source(
    name="the ENet authors' Torch7 release",
    network="enet",
    marks=("1.1.weight", "5.1.1.1.weight", "31.1.1.1.weight", f"{CLASSIFIER}.bias"),
    convert=convert,
    num_classes=lambda tensors: len(tensors[f"{CLASSIFIER}.bias"]),
    label_sets={20: "cityscapes20"},
    license="CC BY-NC 4.0",
)
