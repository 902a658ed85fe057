"""Weights and images that follow from names and seeds alone, and what the networks make of them.

`python test/support/seeded.py` writes the networks' outputs anew, into test/golden/seeded.npz: needed when a
variant comes, and when a network is meant to compute something else.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rt_segmentation.networks import build_network

OUTPUTS = Path(__file__).resolve().parents[1] / "golden" / "seeded.npz"
CLASSES, HEIGHT, WIDTH = 5, 64, 96
STEP = 3
"""Every third logit is kept: upsampling goes in steps of 2, of which this meets each."""
GAINS = {"lednet": 1.0}
"""Neither do activations vanish on the way to the logits, nor do they explode."""
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("linknet", {}),
    ("linknet", {"bypass": False}),
    ("linknet", {"upsampling": "sub_pixel"}),
    ("linknet", {"upsampling": "sub_pixel", "bypass": False}),
    ("enet", {}),
    ("enet_encoder", {}),
    *(
        ("lednet", {"decoder": d, "apn": a})
        for d in ("light", "heavy")
        for a in ("code", "paper", "factorized")
    ),
    ("segnet", {}),
]
"""Names and options of all networks of the package."""


def variant_id(name: str, options: dict[str, Any]) -> str:
    """A variant as one word."""
    return "-".join((name, *map(str, options.values())))


def seeded_array(key: str, shape: tuple[int, ...], gain: float = 0.5) -> np.ndarray:
    """An entry of a state dict, float32; `gain` is the mean scale of batch norms."""
    a = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("running_var"):
        a = 1 + 0.1 * np.abs(a)
    elif key.endswith("running_mean"):
        a = 0.1 * a
    elif len(shape) == 4:
        a = a * np.sqrt(2 / (shape[1] * shape[2] * shape[3]))
    elif key.endswith(".bias"):
        a = 0.1 * a
    else:
        a = gain + 0.1 * a
    return a.astype(np.float32)


def seeded_image(height: int, width: int) -> torch.Tensor:
    """An image of noise, float32 (1, 3, height, width) in [0, 1]."""
    values = np.random.RandomState(1234).uniform(0, 1, (1, 3, height, width))
    return torch.from_numpy(values.astype(np.float32))


def seeded_network(name: str, options: dict[str, Any]) -> nn.Module:
    """A network of `CLASSES` classes in eval mode whose weights follow from their names and shapes."""
    network = build_network(name, CLASSES, **options).eval()
    state, gain = network.state_dict(), GAINS.get(name, 0.5)
    network.load_state_dict(
        {
            key: torch.from_numpy(seeded_array(key, tuple(value.shape), gain))
            if value.is_floating_point()
            else torch.zeros_like(value)
            for key, value in state.items()
        }
    )
    return network


def kept_logits(network: nn.Module) -> np.ndarray:
    """What is kept of the logits of the seeded image, float32 (CLASSES, HEIGHT / STEP, WIDTH / STEP)."""
    with torch.inference_mode():
        logits: np.ndarray = network(seeded_image(HEIGHT, WIDTH))[0, :, ::STEP, ::STEP].numpy()
    return logits


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {variant_id(*variant): kept_logits(seeded_network(*variant)) for variant in VARIANTS}
    np.savez_compressed(OUTPUTS, **found)  # type: ignore[arg-type]
    print(f"{OUTPUTS}: {len(found)} outputs, {OUTPUTS.stat().st_size} bytes")
