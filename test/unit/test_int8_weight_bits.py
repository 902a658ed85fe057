"""Weights have 7 bits where sums of products of 8 overflow: labels do not depend on the processor."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

import onnx
from onnx import numpy_helper
from support.streets import street_scene

from rt_segmentation import cpu
from rt_segmentation.inference.engines import build_engine
from rt_segmentation.inference.engines.export import LABELS_ONLY, graph_entry, onnx_model
from rt_segmentation.inference.engines.onnx_int8 import with_bytes
from rt_segmentation.inference.engines.openvino_engine import OpenVINOEngine, compile_graph
from rt_segmentation.inference.engines.openvino_int8.ranges import load_ranges, weight_bits
from rt_segmentation.inference.options import INSTRUCTIONS
from rt_segmentation.inference.parity import Gate, parity_frames
from rt_segmentation.models import find_model

X86 = {"ssse3", "avx2"}


@pytest.mark.parametrize(
    ("words", "isa", "bits"),
    [
        (X86, "", 7),
        (X86 | {"avx512f"}, "", 7),
        (X86 | {"avx512f", "avx512_vnni"}, "", 8),
        (X86 | {"avx_vnni"}, "", 8),
        (X86 | {"avx512f", "avx512_vnni", "amx_int8"}, "avx2", 7),
        (X86 | {"avx512f", "avx512_vnni"}, "AVX512_CORE_VNNI", 8),
        (X86 | {"avx512f", "avx512_vnni"}, "AVX2_VNNI", 7),
        (X86 | {"avx512f", "avx512_vnni", "avx_vnni"}, "AVX2_VNNI_2", 8),
        ({"asimd", "asimddp"}, "", 8),
        (set(), "", 8),
    ],
)
def test_bits_by_processor(words: set[str], isa: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_words", lambda: words)
    assert weight_bits(isa) == bits
    engine = OpenVINOEngine(find_model("enet"), "int8", Gate(int8=0.0))
    monkeypatch.setenv(INSTRUCTIONS, isa)
    assert engine._hardware() == {"weight_bits": bits}
    # oneDNN's name before it was renamed, which it reads where the other says nothing.
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    assert engine._hardware() == {"weight_bits": bits if isa else weight_bits("AVX2")}
    monkeypatch.setenv(INSTRUCTIONS, "")
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", isa)
    assert engine._hardware() == {"weight_bits": bits}


@pytest.mark.parametrize(
    "name",
    [
        "enet",
        "lednet",
        "linknet",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("enet_town", "lednet_street")),
    ],
)
def test_labels_are_close_to_float32_with_the_bits_of_this_processor(name: str) -> None:
    """With 8 bits ENet and LinkNet keep 96.4 and 96.3 % of a frame's labels on a CPU with AVX2."""
    manifest = find_model(name)
    graph = onnx_model(graph_entry(manifest, 1, 360, 640), LABELS_ONLY)
    exact, rounded = (
        compile_graph(graph, manifest, precision, ranges)
        for precision, ranges in (("fp32", None), ("int8", load_ranges(manifest)))
    )
    for frame in parity_frames(360, 640):
        expected, labels = (compiled([frame[None]])[0] for compiled in (exact, rounded))
        assert (labels == expected).mean() > 0.97


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (7, 64)])
def test_integers_of_onnx_runtime_use_no_more_bits(bits: int, largest: int) -> None:
    manifest = find_model("lednet")
    graph = onnx_model(graph_entry(manifest, 1, 64, 96), LABELS_ONLY)
    model = onnx.load_model_from_string(with_bytes(graph, load_ranges(manifest), bits))
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.endswith("/integers")
    ]
    of_bytes = [values for values in weights if values.dtype == np.int8]
    assert len(of_bytes) > 50 and max(np.abs(values.astype(int)).max() for values in of_bytes) == largest


def test_onnx_runtime_agrees_with_openvino() -> None:
    pytest.importorskip("onnxruntime")
    manifest, gate = find_model("linknet"), Gate(int8=0.0)
    frame = street_scene(5, 320, 192).render(0.0)[0][None]
    labels, others = (
        build_engine(manifest, name, "int8", gate).infer(frame, False)[0]
        for name in ("onnxruntime", "openvino")
    )
    assert (labels == others).mean() > 0.97
