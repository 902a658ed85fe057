"""The slopes of a network's PReLUs by depth, as Fig. 2 of the ENet paper draws them.

`python -m research.slopes enet --out slopes.png`
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rt_segmentation.models import ModelError, ModelManifest, find_model
from rt_segmentation.weights import load_weights
from tools.running import run_tool


@dataclass(frozen=True)
class Slopes:
    """The learned negative slopes of one PReLU.

    Attributes:
        layer: its name in the network.
        main_branch: whether it ends a block, where both branches have been added.
        values: one a channel, float32 (channels,).
    """

    layer: str
    main_branch: bool
    values: np.ndarray


def slopes(manifest: ModelManifest) -> list[Slopes]:
    """The PReLUs of an ENet, in the order in which a frame passes them.

    Raises:
        ModelError: the network is none, or its weights cannot be read.
    """
    from torch import nn

    from rt_segmentation.networks import build_network

    network = build_network(manifest.network, len(manifest.labels().classes), **manifest.options)
    # Modules are registered in the order in which a frame passes them.
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.PReLU)]
    if not layers:
        raise ModelError(f"model '{manifest.name}' is {manifest.network}, which has no PReLU; ENet has them")
    weights = load_weights(manifest)
    return [
        Slopes(layer, ".activation" in layer, np.asarray(weights[f"{layer}.weight"], np.float32))
        for layer in layers
    ]


def draw(found: list[Slopes], title: str, path: Path) -> None:
    """Draw mean, minimum and maximum by depth, with the blocks' ends and the decoder's begin.

    Args:
        found: of `slopes`.
        title: above the drawing.
        path: of the picture; its suffix says as what.
    """
    from matplotlib.figure import Figure

    depth = range(1, len(found) + 1)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(
        depth,
        [s.values.min() for s in found],
        [s.values.max() for s in found],
        color="0.85",
        label="minimum to maximum",
    )
    axes.plot(depth, [s.values.mean() for s in found], color="tab:blue", label="mean")
    for place, one in zip(depth, found):
        if one.main_branch:
            axes.axvline(place, color="0.6", linewidth=0.5, linestyle=":")
    decoder = next((place for place, s in zip(depth, found) if not s.layer.startswith("encoder.")), None)
    if decoder is not None:
        axes.axvline(decoder - 0.5, color="0.3", linewidth=1.2, label="encoder | decoder")
    axes.set(xlabel="PReLU, by depth", ylabel="slope", title=title, xlim=(1, len(found)))
    axes.legend(loc="upper left", fontsize="small")
    figure.savefig(path, dpi=120)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("name", help="a model, or the path of a manifest")
    parser.add_argument("--out", type=Path, default=Path("slopes.png"), help="the picture (slopes.png)")


def main(arguments: argparse.Namespace) -> None:
    """Draw the slopes of an ENet.

    Raises:
        ModelError: the model is none, or has no PReLU.
    """
    manifest = find_model(arguments.name)
    draw(slopes(manifest), f"{manifest.name}: slopes of the PReLUs", arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    run_tool(__doc__, add_arguments, main)
