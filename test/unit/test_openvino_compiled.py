"""What OpenVINO compiled is kept in the cache: the next start reads it."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino", reason="openvino is not installed")
pytest.importorskip("torch", reason="torch is not installed: no graph to make")
pytest.importorskip("onnx", reason="onnx is not installed: no graph to make")

from rt_segmentation.inference import cache
from rt_segmentation.inference.engines import EngineError, openvino_engine
from rt_segmentation.inference.engines.export import LABELS_ONLY, WEIGHTS, WITH_CONFIDENCE
from rt_segmentation.inference.engines.openvino_engine import COMPILED, OpenVINOEngine
from rt_segmentation.models import ModelManifest

IMAGES = np.random.RandomState(0).randint(0, 256, (1, 48, 64, 3), np.uint8)


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it is compiled again")


def test_the_next_start_reads_what_was_compiled_and_makes_anew_what_is_damaged(
    small_model: ModelManifest, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    labels, _ = OpenVINOEngine(small_model, "fp32").infer(IMAGES, False)
    with monkeypatch.context() as patch:
        patch.setattr(openvino_engine, "compile_graph", never)
        np.testing.assert_array_equal(OpenVINOEngine(small_model, "fp32").infer(IMAGES, False)[0], labels)
        # Another number of streams is another one.
        with pytest.raises(Exception, match="it is compiled again"):
            OpenVINOEngine(small_model, "fp32", parallel=2).infer(IMAGES, False)

    kept = [entry for entry in cache.entries() if entry.key["kind"] == "openvino-compiled"]
    for entry in kept:
        key = cache.CacheKey(entry.key["kind"], entry.key["identity"], entry.key["made_with"])
        cache.store(key, {COMPILED: b"no blob"}, {})
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(OpenVINOEngine(small_model, "fp32").infer(IMAGES, False)[0], labels)
    assert "cannot be read" in caplog.text and "is made again" in caplog.text
    monkeypatch.setattr(openvino_engine, "compile_graph", never)
    np.testing.assert_array_equal(OpenVINOEngine(small_model, "fp32").infer(IMAGES, False)[0], labels)


def test_a_graph_that_has_other_weights_is_compiled_anew(
    small_model: ModelManifest, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    OpenVINOEngine(small_model, "fp32").infer(IMAGES, False)
    (graph,) = [entry for entry in cache.entries() if entry.key["kind"] == "graph"]
    files = {name: graph.read(name) for name in (WITH_CONFIDENCE, LABELS_ONLY, WEIGHTS)}
    # As where a later version of this package folds them otherwise.
    files[WEIGHTS] = (np.frombuffer(files[WEIGHTS], np.float32) * np.float32(0.5)).tobytes()
    cache.store(cache.CacheKey(**graph.key), files, graph.data)
    monkeypatch.setattr(openvino_engine, "compile_graph", never)
    with pytest.raises(EngineError, match="it is compiled again"):
        OpenVINOEngine(small_model, "fp32").infer(IMAGES, False)
