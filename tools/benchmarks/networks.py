"""What is benchmarked: networks with their size and cost (LinkNet, Table III), and SegNet beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rt_segmentation.models import ModelManifest, find_model
from rt_segmentation.networks.published import published
from rt_segmentation.weights import save_model

SEGNET = "segnet"
"""The papers' yardstick. Nobody ships it: it is timed with random weights."""

SIZES = ((480, 320), (640, 360), (1280, 720), (1920, 1080))
LEDNET_SIZES = (*SIZES, (1024, 512))
SEGNET_ON_CPU = (640, 360)
"""Larger frames take it seconds each on a CPU."""


@dataclass(frozen=True)
class NetworkCost:
    """A row of LinkNet's Table III.

    Attributes:
        network, model: names.
        width, height: of the frame that is counted [px].
        gmacs: 1e9 multiply-adds of the convolutions for it.
        parameters: trainable values.
        fp16_mib: of the parameters in half precision [MiB], as the papers print it.
        paper_gflops: as LinkNet's paper prints it; None where it has none.
        mean_iou: on CamVid val in torch fp32, measured or from the manifest; None without either.
    """

    network: str
    model: str
    width: int
    height: int
    gmacs: float
    parameters: int
    fp16_mib: float
    paper_gflops: float | None
    mean_iou: float | None = None


def benchmarked_model(name: str, folder: Path) -> ModelManifest:
    """A model by name or path; 'segnet' is made with random weights.

    Args:
        name: as for `find_model`, or `SEGNET`.
        folder: for the made one's files; it must stay while the model is in use.

    Raises:
        ModelError: there is none.
    """
    if name != SEGNET:
        return find_model(name)
    import torch

    from rt_segmentation.labels import load_label_set
    from rt_segmentation.networks import build_network
    from rt_segmentation.networks.complexity import count_gmacs, count_parameters

    torch.manual_seed(0)
    network = build_network(SEGNET, len(load_label_set("camvid11").classes)).eval()
    width, height = SEGNET_ON_CPU
    manifest = ModelManifest(
        path=folder / f"{SEGNET}.yaml",
        name=SEGNET,
        network=SEGNET,
        label_set="camvid11",
        width=width,
        height=height,
        weights=f"{SEGNET}.safetensors",
        sha256="",
        parameters=count_parameters(network),
        gmacs=count_gmacs(network, width, height),
        license="none: random weights",
    )
    arrays = {
        key: value.numpy()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    return save_model(manifest, arrays)


def network_cost(manifest: ModelManifest, model: str, width: int, height: int) -> NetworkCost:
    """Count a model's network for frames of width x height [px]; of an ONNX graph its manifest says it."""
    if manifest.onnx is not None:
        parameters = manifest.parameters
        gmacs = manifest.gmacs * width * height / (manifest.width * manifest.height)
    else:
        from rt_segmentation.networks import build_network
        from rt_segmentation.networks.complexity import count_gmacs, count_parameters

        network = build_network(manifest.network, len(manifest.labels().classes), **manifest.options)
        parameters, gmacs = count_parameters(network), count_gmacs(network, width, height)
    scores = (
        s.value for s in manifest.scores if (s.metric, s.dataset, s.split) == ("mean_iou", "camvid", "val")
    )
    printed = (row.gflops for row in published(manifest.network) if row.gflops is not None)
    return NetworkCost(
        manifest.architecture,
        model,
        width,
        height,
        round(gmacs, 3),
        parameters,
        round(parameters * 2 / 2**20, 2),
        next(printed, None),
        next(scores, None),
    )


def sizes_for(network: str, full: bool, cuda: bool) -> tuple[tuple[int, int], ...]:
    """(width, height) of the frames a network is timed with [px]: 640x360, or all of the papers'."""
    if network == SEGNET and not cuda:
        return tuple(size for size in SIZES if size <= SEGNET_ON_CPU) if full else (SEGNET_ON_CPU,)
    if not full:
        return ((640, 360),)
    return LEDNET_SIZES if network == "lednet" else SIZES
