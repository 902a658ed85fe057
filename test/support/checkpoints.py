"""Checkpoints as the networks' authors publish them, with random weights."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rt_segmentation.networks import build_network
from rt_segmentation.training.importers import (
    CheckpointError,
    import_checkpoint,
)

Arrays = dict[str, np.ndarray]


def random_weights(name: str, num_classes: int, **options: Any) -> Arrays:
    """A network's state dict with a different value in every place."""
    rng = np.random.default_rng(0)
    state = build_network(name, num_classes, **options).state_dict()
    return {
        key: rng.standard_normal(tuple(value.shape)).astype(np.float32)
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }


def respelled(weights: Arrays, *rules: tuple[str, str]) -> Arrays:
    """Our names to the authors': the first rule that matches a name's beginning applies."""

    def spelled(key: str) -> str:
        return next((re.sub(f"^{a}", b, key) for a, b in rules if re.match(a, key)), key)

    return {spelled(key): value for key, value in weights.items()}


DECODER = (
    (r"(decoder\d)\.full_conv", r"\1.tp_conv"),
    (r"head\.([01])", r"tp_conv1.\1"),
    (r"head\.3", "conv2.0"),
    (r"head\.4", "conv2.1"),
    (r"classifier", "tp_conv2"),
)


def linknet_authors(weights: Arrays) -> Arrays:
    first = (("conv1", "in_block.0"), ("bn1", "in_block.1"), (r"layer(\d)", r"encoder\1"))
    return respelled(weights, *first, *DECODER)


def linknet_base_authors(weights: Arrays) -> Arrays:
    return respelled(
        weights, (r"layer(\d)\.0", r"encoder\1.block1"), (r"layer(\d)\.1", r"encoder\1.block2"), *DECODER
    )


def lednet_authors(weights: Arrays) -> Arrays:
    rules = [
        (r"encoder\.layers\.0\.", "encoder.initial_block."),
        (r"encoder\.classifier", "encoder.output_conv"),
    ]
    for ours in range(1, 16):
        for side, letter, shapes in (("left", "l", ("3x1", "1x3")), ("right", "r", ("1x3", "3x1"))):
            names = {0: f"conv{shapes[0]}_1", 2: f"conv{shapes[1]}_1", 3: "bn1"}
            names.update({5: f"conv{shapes[0]}_2", 7: f"conv{shapes[1]}_2", 8: "bn2"})
            for position, name in names.items():
                rules.append(
                    (
                        rf"encoder\.layers\.{ours}\.{side}\.{position}\.",
                        f"encoder.layers.{ours - 1}.{name}_{letter}.",
                    )
                )
        rules.append((rf"encoder\.layers\.{ours}\.", f"encoder.layers.{ours - 1}."))
    rules += [
        (r"apn\.global_branch\.1", "decoder.apn.branch1.1.conv"),
        (r"apn\.middle", "decoder.apn.mid.0.conv"),
        (r"apn\.lateral([12])", r"decoder.apn.conv\1.conv"),
        (r"apn\.down3\.([01])", r"decoder.apn.down3.\1.conv"),
        (r"apn\.down([12])", r"decoder.apn.down\1.conv"),
    ]
    return respelled(weights, *rules)


def enet_authors(weights: Arrays) -> Arrays:
    """Torch7's paths, before the dropout is folded in."""
    numbers = {"encoder.down1": 5, "encoder.down2": 10, "up4": 27, "stage4.0": 28, "stage4.1": 29, "up5": 30}
    numbers.update({"stage5": 31, **{f"encoder.stage1.{i}": 6 + i for i in range(4)}})
    numbers.update({f"encoder.stage{2 + i // 8}.{i % 8}": 11 + i for i in range(16)})
    rules = [(r"encoder\.initial\.conv", "1.1"), ("classifier", "32")]
    rules += [(rf"encoder\.initial\.activation\.{i}", str(3 + i)) for i in (0, 1)]
    for ours, number in numbers.items():
        main = 4 if ours in {f"encoder.stage{s}.{i}" for s in (2, 3) for i in (2, 6)} else 3
        for part, start, count in (("project", 1, 3), ("main", 4, main), ("expand", 4 + main, 2)):
            for i in range(count):
                rules.append((rf"{re.escape(ours)}\.{part}\.{i}\.", f"{number}.1.1.{start + i}."))
        rules += [(rf"{re.escape(ours)}\.shortcut\.{i}\.", f"{number}.1.2.{2 + i}.") for i in (0, 1)]
        rules.append((rf"{re.escape(ours)}\.activation", f"{number}.3"))
    return respelled(weights, *rules)


def save_pytorch(path: Path, arrays: Arrays, prefix: str = "") -> Path:
    torch.save({prefix + key: torch.from_numpy(value) for key, value in arrays.items()}, path)
    return path


def save_npz(path: Path, arrays: Arrays) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in arrays.items():
            with archive.open(f"{key}.npy", "w") as file:
                np.lib.format.write_array(file, value, allow_pickle=False)


def refusal(path: Path, **arguments: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path, **arguments)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message
