"""Engines: all give torch's labels, from a cold and a warm cache, and the next one takes over."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rt_segmentation.cli import main
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.inference import cache
from rt_segmentation.inference.engines import Engine, EngineError, EngineUnavailable, build_engine, choosing
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelError, ModelManifest

HEIGHT, WIDTH = 120, 160
CACHED = ("openvino", "onnxruntime")
PATIENCE_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for this file: what the tests need is built once."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.stack([StreetScene(seed, WIDTH, HEIGHT).render(0.0)[0] for seed in (1, 2)])


@pytest.fixture(scope="module")
def expected(small_model: ModelManifest, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    return build_engine(small_model, "torch", "fp32").infer(frames, True)


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize("batch", [1, 2])
def test_labels_and_confidence_are_torchs(
    name: str,
    batch: int,
    small_model: ModelManifest,
    frames: np.ndarray,
    expected: tuple[np.ndarray, np.ndarray],
) -> None:
    pytest.importorskip(name)
    engine = build_engine(small_model, name, "fp32")
    assert (engine.name, engine.precision) == (name, "fp32") and engine.device
    labels, confidence = engine.infer(frames[:batch], True)
    assert confidence is not None
    assert labels.dtype == confidence.dtype == np.uint8
    assert labels.shape == confidence.shape == (batch, HEIGHT, WIDTH)
    assert (labels == expected[0][:batch]).mean() > 0.999
    assert np.abs(confidence.astype(int) - expected[1][:batch]).mean() < 1
    kept = labels.copy()
    alone, none = engine.infer(np.ascontiguousarray(frames[::-1][:batch]), False)
    assert none is None and (alone != kept).any()
    np.testing.assert_array_equal(labels, kept)
    np.testing.assert_array_equal(engine.infer(frames[:batch], False)[0], kept)


def test_an_engine_for_no_frames_is_refused(small_model: ModelManifest) -> None:
    with pytest.raises(EngineError, match="parallel is 0, it must be at least 1"):
        build_engine(small_model, "auto", "auto", parallel=0)


@pytest.mark.parametrize("name", (*CACHED, "torch"))
def test_frames_of_several_threads_do_not_mix(
    name: str, small_model: ModelManifest, frames: np.ndarray
) -> None:
    pytest.importorskip(name)
    singles = [np.ascontiguousarray(frames[i : i + 1]) for i in (0, 1)]
    one = build_engine(small_model, name, "fp32")
    expected = [one.infer(single, True) for single in singles]
    # Its first frames, which compile it, come concurrently as well.
    engine = build_engine(small_model, name, "fp32", parallel=2)
    together = threading.Barrier(4)

    def infer_often(number: int) -> None:
        together.wait(PATIENCE_S)
        for _ in range(20):
            for found, wanted in zip(engine.infer(singles[number % 2], True), expected[number % 2]):
                np.testing.assert_array_equal(found, wanted)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(infer_often, range(4)))


@pytest.mark.parametrize("name", CACHED)
def test_no_torch_from_a_warm_cache(name: str, small_model: ModelManifest, cache_home: Path) -> None:
    pytest.importorskip(name)
    build_engine(small_model, name, "fp32").prepare(1, HEIGHT, WIDTH)
    done = run_without_torch(small_model, name, cache_home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [name, f"(1,{HEIGHT},{WIDTH})"]


@pytest.mark.parametrize("name", CACHED)
def test_a_cold_cache_without_torch_gives_one_sentence(
    name: str, small_model: ModelManifest, tmp_path: Path
) -> None:
    pytest.importorskip(name)
    done = run_without_torch(small_model, name, tmp_path)
    assert done.returncode == 3
    assert "needs the Python package 'torch'" in done.stdout and "rt_seg export" in done.stdout


def run_without_torch(
    manifest: ModelManifest, name: str, cache_home: Path
) -> subprocess.CompletedProcess[str]:
    code = f"""
import sys
for blocked in ("torch", "onnx", "onnxscript"):
    sys.modules[blocked] = None
import numpy as np
from pathlib import Path
from rt_segmentation.inference.engines import EngineError, build_engine
from rt_segmentation.models import read_manifest
try:
    engine = build_engine(read_manifest(Path({str(manifest.path)!r})), {name!r}, "fp32")
    labels, _ = engine.infer(np.zeros((1, {HEIGHT}, {WIDTH}, 3), np.uint8), False)
except EngineError as error:
    print(error)
    sys.exit(3)
print(engine.name, str(labels.shape).replace(" ", ""))
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_cache_is_used_again_and_rebuilt_when_damaged(
    small_model: ModelManifest, frames: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    build_engine(small_model, "onnxruntime", "fp32").prepare(1, HEIGHT, WIDTH)
    (graph,) = [e for e in cache.entries() if e.key["kind"] == "graph" and e.key["identity"]["batch"] == 1]
    written = graph.file("weights.bin").stat().st_mtime_ns
    build_engine(small_model, "onnxruntime", "fp32").prepare(1, HEIGHT, WIDTH)
    assert graph.file("weights.bin").stat().st_mtime_ns == written
    graph.file("weights.bin").write_bytes(b"damaged")
    engine = build_engine(small_model, "onnxruntime", "fp32")
    assert engine.infer(frames[:1], False)[0].shape == (1, HEIGHT, WIDTH)
    assert "damaged" in caplog.text


@pytest.mark.parametrize("name", CACHED)
def test_an_engine_with_other_labels_is_refused_and_stays_refused(
    name: str, small_model: ModelManifest, frames: np.ndarray
) -> None:
    pytest.importorskip(name)
    engine = build_engine(small_model, name, "fp32", Gate(fp32=1.01))
    for _ in range(2):
        with pytest.raises(EngineError, match=f"'{name}' in fp32 gives .* at {WIDTH}x{HEIGHT} .* 101.0% is"):
            engine.infer(frames[:1], False)


def test_auto_takes_the_next_engine_and_says_why(
    small_model: ModelManifest,
    frames: np.ndarray,
    expected: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in CACHED:
        pytest.importorskip(name)
    monkeypatch.setattr(choosing, "_NVIDIA", ())
    caplog.set_level(logging.INFO)
    engine = build_engine(small_model, gate=Gate(fp32=1.01, half=1.01))
    assert engine.name == "openvino" and engine.warnings == ()
    labels, _ = engine.infer(frames, False)
    assert engine.name == "torch"
    np.testing.assert_array_equal(labels, expected[0])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("'openvino'" in line for line in warnings)
    assert any("'onnxruntime'" in line for line in warnings)
    assert "engine 'torch' in fp32" in caplog.messages[-1] and "default order" in caplog.messages[-1]
    assert engine.warnings and all("is needed" in sentence for sentence in engine.warnings)
    engine.infer(frames, False)
    assert engine.name == "torch"


def break_the_exporter(manifest: ModelManifest, images: Path, patched: pytest.MonkeyPatch) -> None:
    import torch

    def export(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such operator\nand a long story")

    patched.setattr(torch.onnx, "export", export)


def remove_the_images(manifest: ModelManifest, images: Path, patched: pytest.MonkeyPatch) -> None:
    (images / "street.png").unlink()


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (break_the_exporter, "no such operator"),
        (remove_the_images, "has no images"),
    ],
)
def test_whatever_keeps_engines_from_getting_ready_torch_takes_over(
    damage: Callable[[ModelManifest, Path, pytest.MonkeyPatch], None],
    cause: str,
    small_model: ModelManifest,
    frames: np.ndarray,
    expected: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in CACHED:
        pytest.importorskip(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choosing, "_NVIDIA", ())
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "street.png"), frames[0])
    engine = build_engine(small_model, precision="fp32", gate=Gate(frames=tmp_path / "images"))
    damage(small_model, tmp_path / "images", monkeypatch)
    np.testing.assert_array_equal(engine.infer(frames[:1], False)[0], expected[0][:1])
    assert engine.name == "torch" and len(engine.warnings) == 2
    for name, sentence in zip(CACHED, engine.warnings):
        start = f"engine '{name}' in fp32 cannot be made ready for {WIDTH}x{HEIGHT}: "
        assert re.fullmatch(f"{start}.*{cause}.*", sentence), sentence


def test_auto_skips_what_is_not_installed(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choosing, "_NVIDIA", ())
    monkeypatch.setitem(choosing.ENGINES, "openvino", "no_such_package.openvino:Engine")
    monkeypatch.setitem(choosing.ENGINES, "onnxruntime", "no_such_package.onnxruntime:Engine")
    caplog.set_level(logging.INFO)
    engine = build_engine(small_model)
    assert engine.name == "torch"
    assert "pip install openvino" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert engine.warnings == ()
    with pytest.raises(EngineUnavailable, match="pip install openvino"):
        build_engine(small_model, "openvino")


def test_when_none_works_all_reasons_are_given(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match=r"no engine works here: .*int7.*int7.*int7"):
        build_engine(small_model, "auto", "int7")
    with pytest.raises(EngineError, match="unknown engine 'tpu'; there are auto, openvino"):
        build_engine(small_model, "tpu")


@pytest.mark.parametrize("name", CACHED)
def test_too_small_a_size_is_an_engine_error(name: str, small_model: ModelManifest) -> None:
    pytest.importorskip(name)
    engine: Engine = build_engine(small_model, name, "fp32")
    with pytest.raises(EngineError, match="64 x 16, both must be 32 or more"):
        engine.prepare(1, 16, 64)


@pytest.mark.parametrize("name", CACHED)
def test_damaged_weights_are_refused_when_the_engine_is_built(
    name: str, small_model: ModelManifest, tmp_path: Path
) -> None:
    pytest.importorskip(name)
    from dataclasses import replace

    (tmp_path / small_model.weights).write_bytes(b"no weights")
    with pytest.raises(ModelError, match="sha256"):
        build_engine(replace(small_model, path=tmp_path / "small.yaml"), name, "fp32")


def test_the_commands(
    small_model: ModelManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = ["--engine", "onnxruntime", "--precision", "fp32", "--out", str(tmp_path / "out")]
    assert main(["export", "--model", str(small_model.path), *options]) == 0
    assert "small 160x120, batch 1: engine onnxruntime in fp32" in (said := capsys.readouterr().out)
    names = ("network.onnx", "labels.onnx", "weights.bin")
    assert all((tmp_path / "out" / name).is_file() and name in said for name in names)
    assert main(["cache", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["entries"]
    assert {row["kind"] for row in rows} == {"graph", "reference", "onnxruntime"}
    (verdict,) = (row["agreement"] for row in rows if row["kind"] == "onnxruntime")
    assert verdict == pytest.approx(1, abs=0.005)
    assert main(["cache", "list"]) == 0
    assert "160x120, batch 1" in capsys.readouterr().out
    assert main(["cache", "clear", "--yes"]) == 0
    assert "MB deleted" in capsys.readouterr().out
    assert main(["cache", "list"]) == 0
    assert "empty" in capsys.readouterr().out


@pytest.mark.parametrize("name", CACHED)
def test_two_threads_meet_in_the_first_inference_of_a_process(
    name: str, small_model: ModelManifest, cache_home: Path
) -> None:
    """From a warm cache no gate has run one before."""
    pytest.importorskip(name)
    build_engine(small_model, name, "fp32").prepare(1, HEIGHT, WIDTH)
    code = f"""
import faulthandler, threading
faulthandler.dump_traceback_later({PATIENCE_S}, exit=True)
import numpy as np
from pathlib import Path
from rt_segmentation.inference.engines import build_engine
from rt_segmentation.models import read_manifest
engine = build_engine(read_manifest(Path({str(small_model.path)!r})), {name!r}, "fp32", parallel=2)
together = threading.Barrier(2)
def infer():
    together.wait()
    for _ in range(10):
        engine.infer(np.zeros((1, {HEIGHT}, {WIDTH}, 3), np.uint8), False)
threads = [threading.Thread(target=infer, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home)}
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_the_first_run_of_a_graph_is_over_before_its_frames_come(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    from rt_segmentation.inference.engines import compiled
    from rt_segmentation.inference.engines.onnxruntime_engine import ONNXRuntimeEngine

    alone: list[bool] = []

    def compile_graph(
        self: ONNXRuntimeEngine, graph: Path, options: object
    ) -> Callable[[np.ndarray], list[np.ndarray]]:
        def run(images: np.ndarray) -> list[np.ndarray]:
            alone.append(compiled._FIRST_RUNS.locked())
            return [images[..., 0]]

        return run

    build_engine(small_model, "onnxruntime", "fp32").prepare(1, HEIGHT, WIDTH)
    monkeypatch.setattr(ONNXRuntimeEngine, "compile_graph", compile_graph)
    engine = build_engine(small_model, "onnxruntime", "fp32", parallel=2)
    engine.prepare(1, HEIGHT, WIDTH)
    assert alone == [True]
    engine.infer(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), False)
    assert alone == [True, False]


def test_only_so_many_shapes_stay_compiled(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rt_segmentation.inference.engines import compiled

    monkeypatch.setattr(compiled, "KEPT", 2)
    engine: Any = build_engine(small_model, "torch", "fp32")
    for width in (32, 64, 32, 96, 64):
        assert engine.infer(np.zeros((1, 32, width, 3), np.uint8), False)[0].shape == (1, 32, width)
        assert len(engine._runners) <= 2
    # When 96 came, 64 was the one not used for the longest time.
    assert [shape.width for shape in engine._runners] == [96, 64]


@pytest.mark.parametrize("name", (*CACHED, "torch"))
def test_what_was_made_for_a_size_is_let_go_and_made_again(
    name: str, small_model: ModelManifest, frames: np.ndarray
) -> None:
    pytest.importorskip(name)
    engine: Any = build_engine(small_model, name, "fp32")
    expected = engine.infer(frames[:1], False)[0]
    engine.prepare(1, 64, 96)
    engine.release(HEIGHT, WIDTH)
    assert [key[1:3] for key in engine._runners] == [(64, 96)]
    np.testing.assert_array_equal(engine.infer(frames[:1], False)[0], expected)
