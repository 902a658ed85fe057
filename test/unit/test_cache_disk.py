"""Engines on disks that are full or read-only, real ones where this user may mount them."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: nothing to export")
pytest.importorskip("onnx", reason="onnx is not installed: nothing to export")

from rt_segmentation.cli import main
from rt_segmentation.commands.options import check_cache
from rt_segmentation.inference import cache
from rt_segmentation.inference.cache_contents import clear
from rt_segmentation.inference.engines import EngineError, build_engine
from rt_segmentation.models import ModelManifest

HEIGHT, WIDTH = 64, 64
FRAMES = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3)).astype(np.uint8)
ENGINES = ["openvino", "onnxruntime"]

Mount = Callable[[str], None]


@pytest.fixture()
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    """The cache's folder as a disk of its own: `disk(options)` mounts it, or changes its options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")

    yield mount
    while os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ENGINES)
def test_a_full_disk_does_not_take_the_engine_away(
    disk: Mount,
    small_model: ModelManifest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    pytest.importorskip(name)
    expected, _ = build_engine(small_model, "torch", "fp32").infer(FRAMES, False)
    disk("size=16k")
    # No other folder takes files either.
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")
    engine = build_engine(small_model, name, "fp32")
    with caplog.at_level(logging.INFO):
        labels, confidence = engine.infer(FRAMES, True)
        engine.infer(FRAMES, False)
        # A second engine of the process does not build it again.
        build_engine(small_model, name, "fp32").infer(FRAMES, False)
    assert (labels == expected).mean() > 0.999 and confidence is not None
    assert caplog.text.count("cannot be written (No space left on device)") == 1
    assert caplog.text.count("making the graph") == 1
    assert not list(cache.cache_root().glob(".new-*"))

    size = ["--width", str(WIDTH), "--height", str(HEIGHT), "--out", str(tmp_path / "out")]
    command = ["export", "--model", str(small_model.path), "--engine", name, "--precision", "fp32"]
    assert main([*command, *size]) != 0
    assert "could not be kept in" in capsys.readouterr().err
    # What was asked for beside the cache is there.
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["labels.onnx", "network.onnx", "weights.bin"]
    with pytest.raises(EngineError, match=r"what is built cannot be kept: .*No space left on device"):
        check_cache("what is built")


def test_a_warm_cache_that_is_read_only_is_read(
    disk: Mount, small_model: ModelManifest, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    disk("size=64m")
    expected, _ = build_engine(small_model, "onnxruntime", "fp32").infer(FRAMES, False)
    disk("remount,ro")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        labels, _ = build_engine(small_model, "onnxruntime", "fp32").infer(FRAMES, False)
        np.testing.assert_array_equal(labels, expected)
        assert not caplog.records
    size = ["--width", str(WIDTH), "--height", str(HEIGHT)]
    assert main(["export", "--model", str(small_model.path), "--engine", "onnxruntime", *size]) == 0
    key = cache.CacheKey("graph", {"model": "another"}, {})
    with cache.locked(key):
        assert cache.keep(key, {"a.bin": b"abc"}, {}).read("a.bin") == b"abc"
    assert caplog.text.count("cannot be written (Read-only file system)") == 1
    with pytest.raises(OSError, match="Read-only file system"):
        clear()
