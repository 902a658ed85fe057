"""What the papers print about the networks' size and cost, as printed."""

from __future__ import annotations

from dataclasses import dataclass

CONVENTION = (
    "a paper's GFLOPs count 2 per multiply-add, and biases, activations, pooling and additions on top;"
    " GMACs here are the multiply-adds of the convolutions alone"
)


@dataclass(frozen=True)
class Published:
    """One row of a paper's table.

    Attributes:
        network: name in `rt_segmentation.networks.NETWORKS`.
        source: the paper and its table.
        parameters_millions: as printed.
        gflops: 1e9 operations for one frame of width x height; None where the table has none.
        width, height: of that frame [px].
        model_size_mb: in half precision [MB].
        mean_iou: by class on Cityscapes' test set, as a fraction.
    """

    network: str
    source: str
    parameters_millions: float
    gflops: float | None = None
    width: int | None = None
    height: int | None = None
    model_size_mb: float | None = None
    mean_iou: float | None = None


_LINKNET = "LinkNet (arXiv:1707.03718), Table III"
_ENET = "ENet (arXiv:1606.02147), Table 3"
_LEDNET = "LEDNet (arXiv:1905.02423), Table 2"

# Table III says 640x360; its count of LinkNet fits 640x384, what the network pads that size to.
PUBLISHED: tuple[Published, ...] = (
    Published("linknet", _LINKNET, 11.5, 21.2, 640, 360, 22.0),
    Published("enet", _LINKNET, 0.4, 3.8, 640, 360, 0.7),
    Published("segnet", _LINKNET, 29.5, 286.0, 640, 360, 56.2),
    Published("enet", _ENET, 0.37, 3.83, 640, 360, 0.7),
    Published("segnet", _ENET, 29.46, 286.03, 640, 360, 56.2),
    Published("lednet", _LEDNET, 0.94, mean_iou=0.706),
    Published("enet", _LEDNET, 0.36, mean_iou=0.583),
    Published("segnet", _LEDNET, 29.5, mean_iou=0.570),
)


def published(network: str) -> tuple[Published, ...]:
    """The rows about a network, in the order of the papers above."""
    return tuple(row for row in PUBLISHED if row.network == network)
