"""The LinkNet authors' PyTorch port in its two spellings, and torchvision's ResNet-18 for the encoder."""

from __future__ import annotations

import re

from rt_segmentation.training.importers.source import Source, Tensors

# Tried in this order; the first match renames. `LinkNet` has `in_block` and numbers its encoder's blocks,
# `LinkNetBase` has torchvision's conv1 and bn1 and calls them block1 and block2.
RENAMES: tuple[tuple[str, str], ...] = (
    (r"in_block\.0\.", "conv1."),
    (r"in_block\.1\.", "bn1."),
    (r"encoder(\d)\.block1\.", r"layer\1.0."),
    (r"encoder(\d)\.block2\.", r"layer\1.1."),
    (r"encoder(\d)\.(\d)\.", r"layer\1.\2."),
    (r"(decoder\d)\.tp_conv\.", r"\1.full_conv."),
    (r"tp_conv1\.([01])\.", r"head.\1."),
    (r"conv2\.0\.", "head.3."),
    (r"conv2\.1\.", "head.4."),
    (r"tp_conv2\.", "classifier."),
)


def rename(key: str) -> str:
    """Our name of a tensor; an unknown one stays as it is."""
    for pattern, replacement in RENAMES:
        name, count = re.subn(f"^{pattern}", replacement, key)
        if count:
            return name
    return key


def convert(tensors: Tensors) -> Tensors:
    """Rename; both networks have the same layers."""
    return {rename(key): value for key, value in tensors.items()}


def without_classifier(tensors: Tensors) -> Tensors:
    """ResNet's tensors but its classifier's: LinkNet's encoder has torchvision's names."""
    return {key: value for key, value in tensors.items() if not key.startswith("fc.")}


LINKNET_AUTHORS = Source(
    name="the LinkNet authors' PyTorch port",
    network="linknet",
    marks=("tp_conv2.bias", "decoder4.tp_conv.0.weight"),
    convert=convert,
    num_classes=lambda tensors: len(tensors["tp_conv2.bias"]),
    label_sets={20: "cityscapes20"},
    # ImageNet's statistics, blue first although the images are RGB: so its training code has them.
    mean=(0.406, 0.456, 0.485),
    std=(0.225, 0.224, 0.229),
)

RESNET18 = Source(
    name="torchvision's ResNet-18",
    network="linknet",
    marks=("conv1.weight", "layer1.0.conv1.weight", "layer4.1.bn2.weight", "fc.weight"),
    convert=without_classifier,
    num_classes=None,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    complete=False,
)
