"""An engine that is refused is replaced, and /diagnostics warn of it for as long as its stand-in runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")
pytest.importorskip("onnx", reason="onnx is not installed: no graph to make")
pytest.importorskip("openvino", reason="openvino is not installed: no engine to refuse")

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image
from support.node_under_test import Feeder, NodeUnderTest

from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.inference.engines import build_engine
from rt_segmentation.inference.engines.openvino_int8.ranges import QuantizationRanges, ranges_path
from rt_segmentation.inference.tuning import Timing, remember
from rt_segmentation.models import ModelManifest, read_manifest

WIDTH, HEIGHT = 160, 120


@pytest.fixture(scope="module")
def filled(small_model: ModelManifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with what a node needs PyTorch for: the graph, and what labels are compared with."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(folder))
        build_engine(small_model, "openvino", "fp32").prepare(1, HEIGHT, WIDTH)
    return folder


@pytest.fixture()
def cache_home(filled: Path, tmp_path: Path) -> Path:
    return shutil.copytree(filled, tmp_path / "cache")


@pytest.fixture()
def badly_quantised(small_model: ModelManifest, tmp_path: Path) -> ModelManifest:
    """A model whose ranges for int8 leave nothing of the image."""
    for path in (small_model.path, small_model.weights_path):
        shutil.copy(path, tmp_path)
    manifest = read_manifest(tmp_path / small_model.path.name)
    ranges = QuantizationRanges({"/Add_output_0": (-1e-3, 1e-3)}, {}, (), manifest.sha256)
    ranges_path(manifest).write_bytes(ranges.to_json())
    return manifest


def given_a_frame(
    stage: Any, listen: Any, name: str, model: ModelManifest, cache_home: Path, **parameters: str
) -> tuple[NodeUnderTest, list[Image], Feeder]:
    """A node, the labels that it publishes, and its camera, which has sent a frame."""
    node = NodeUnderTest(
        stage.spawn, stage.observer, name, model, {"XDG_CACHE_HOME": str(cache_home)}, **parameters
    )
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    pixels = StreetScene(3, WIDTH, HEIGHT).render(0.0)[0].tobytes()
    feeder.publish(Image(width=WIDTH, height=HEIGHT, encoding="rgb8", step=3 * WIDTH, data=pixels))
    return node, labels, feeder


def test_what_is_named_and_refused_is_not_replaced_and_says_so(
    stage: Any, listen: Any, badly_quantised: ModelManifest, cache_home: Path
) -> None:
    node, labels, feeder = given_a_frame(
        stage, listen, "/named", badly_quantised, cache_home, engine="openvino", precision="int8"
    )
    node.spin_until(lambda: node.count("frames dropped: failed") == 1)
    (told,) = (status for status in node.statuses if "failed" in status.message)
    assert told.level == DiagnosticStatus.WARN
    # The log has it a moment after the count.
    node.process.wait_for("97.0% is needed")
    for text in (told.message, node.process.output):
        assert re.search(
            r"engine 'openvino' in int8 gives \d+\.\d+% .* 97\.0% is needed; it was asked for", text
        )
        assert "with `engine` or `precision` auto another one takes its place" in text
    assert not labels
    feeder.close()


def test_diagnostics_warn_while_the_stand_in_runs(
    stage: Any, listen: Any, badly_quantised: ModelManifest, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    remember(badly_quantised, HEIGHT, WIDTH, [Timing("openvino", "int8", 1.0), Timing("torch", "fp32", 2.0)])
    node, labels, feeder = given_a_frame(
        stage, listen, "/fallback", badly_quantised, cache_home, engine="auto", precision="auto"
    )
    node.spin_until(lambda: bool(labels))
    sentence = "engine 'openvino' in int8 gives"
    assert sentence in node.process.output and "2.0 ms, measured here by `rt_seg tune`" in node.process.output
    for _ in range(2):
        status = node.fresh_status()
        assert status.level == DiagnosticStatus.WARN
        assert sentence in status.message and "97.0% is needed" in status.message
        assert (node.values()["engine"], node.values()["precision"]) == ("torch", "fp32")
    feeder.close()
