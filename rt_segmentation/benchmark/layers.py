"""Where a network's time goes: OpenVINO's own clock of every layer, by kind."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from rt_segmentation.benchmark.networks import NetworkCost
from rt_segmentation.inference.engines import build_engine
from rt_segmentation.inference.engines.export import LABELS_ONLY, graph_entry, onnx_model
from rt_segmentation.inference.engines.openvino_engine import compile_graph
from rt_segmentation.inference.engines.openvino_int8.ranges import load_ranges
from rt_segmentation.inference.parity import parity_frames
from rt_segmentation.models import ModelManifest

WARM_UP_FRAMES = 5
FRAMES = 50


@dataclass(frozen=True)
class LayerKind:
    """All layers of one kind in one frame.

    Attributes:
        kind: OpenVINO's name of the operation.
        kernel: its name of what executes it, with the type of its input.
        count: how many there are.
        ms: their time together, the mean of the frames.
    """

    kind: str
    kernel: str
    count: int
    ms: float


def measure_layers(manifest: ModelManifest, precision: str, width: int, height: int) -> list[LayerKind]:
    """Time the layers of a model on frames of width x height [px], the longest kind first.

    A clock around every layer takes time as well: the sum is some percent above that of a frame without it.

    Raises:
        EngineError: OpenVINO, or the precision, is not to be had here.
    """
    # Says what is missing, and passes the gate.
    build_engine(manifest, "openvino", precision).prepare(1, height, width)
    graph = onnx_model(graph_entry(manifest, 1, height, width), LABELS_ONLY)
    ranges = load_ranges(manifest) if precision == "int8" else None
    compiled = compile_graph(graph, manifest, precision, ranges, options={"PERF_COUNT": True})
    request = compiled.create_infer_request()
    frame = parity_frames(height, width)[:1]
    total_ms: dict[tuple[str, str], float] = defaultdict(float)
    layers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for number in range(WARM_UP_FRAMES + FRAMES):
        request.infer([frame], share_inputs=True)
        if number < WARM_UP_FRAMES:
            continue
        for layer in request.profiling_info:
            # What is left out, or done by another layer, has no time.
            if layer.real_time.total_seconds() > 0:
                kind = (layer.node_type, layer.exec_type)
                total_ms[kind] += layer.real_time.total_seconds() * 1e3 / FRAMES
                layers[kind].add(layer.node_name)
    kinds = [LayerKind(*kind, len(layers[kind]), round(ms, 3)) for kind, ms in total_ms.items()]
    return sorted(kinds, key=lambda kind: -kind.ms)


def arithmetic_ms(cost: NetworkCost, peak_gops: float) -> float:
    """What the convolutions of a frame would take at a peak of 1e9 operations a second [ms]."""
    return 2 * cost.gmacs / peak_gops * 1e3
