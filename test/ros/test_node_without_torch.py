"""A robot without PyTorch: the node segments from a cache that another computer filled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no cache to fill")
pytest.importorskip("onnx", reason="onnx is not installed: no graph to make")

from sensor_msgs.msg import Image
from support.node_under_test import NODE, Feeder, NodeUnderTest, ros_args

from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.inference.engines import build_engine, choosing
from rt_segmentation.models import ModelManifest

WIDTH, HEIGHT = 160, 120
# Python runs this before the node's own modules.
BLOCK = "import sys\nfor name in ('torch', 'onnx', 'onnxscript'):\n    sys.modules[name] = None\n"


@pytest.fixture()
def without_torch(ros_environment: None, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that cannot import torch, with a cache of its own."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(BLOCK)
    path = os.pathsep.join((str(tmp_path / "blocked"), os.environ["PYTHONPATH"]))
    return {"PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.parametrize(
    ("engine", "precision"), [("openvino", "fp32"), ("onnxruntime", "fp32"), ("auto", "auto")]
)
def test_masks_come_from_a_warm_cache(
    spawn: Any,
    observer: Any,
    without_torch: dict[str, str],
    small_model: ModelManifest,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    precision: str,
) -> None:
    pytest.importorskip("openvino" if engine == "auto" else engine)
    rgb = StreetScene(3, WIDTH, HEIGHT).render(0.0)[0]
    monkeypatch.setenv("XDG_CACHE_HOME", without_torch["XDG_CACHE_HOME"])
    # The node cannot ask torch for a GPU.
    monkeypatch.setattr(choosing, "_NVIDIA", ())
    here = build_engine(small_model, engine, precision)
    expected = here.infer(rgb[None], False)[0][0]
    node = NodeUnderTest(
        spawn, observer, "/bare", small_model, without_torch, engine=engine, precision=precision
    )
    labels = observer.subscribe(Image, node.topic("label"), 5)
    feeder = Feeder(node)
    message = Image(width=WIDTH, height=HEIGHT, encoding="rgb8", step=3 * WIDTH, data=rgb.tobytes())
    np.testing.assert_array_equal(feeder.segment(message, labels), expected)
    node.fresh_status()
    assert (node.values()["engine"], node.values()["precision"]) == (here.name, here.precision)
    feeder.close()


def test_a_cold_cache_stops_the_start_with_a_sentence(
    spawn: Any, without_torch: dict[str, str], small_model: ModelManifest
) -> None:
    pytest.importorskip("openvino")
    arguments = ros_args("/bare", model=small_model.path, engine="openvino", precision="fp32")
    process = spawn(NODE, *arguments, **without_torch)
    assert process.finish() == 2
    assert "needs the Python package 'torch'" in process.output and "rt_seg export" in process.output
