"""The node runs anybody's ONNX graph, and imports no PyTorch for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: nothing to export a network with")
pytest.importorskip("onnx", reason="onnx is not installed: no graph to make")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")

from sensor_msgs.msg import Image
from support import foreign
from support.node_under_test import Feeder, NodeUnderTest

from rt_segmentation.cli import main
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.models import find_model

SIZE = (96, 64)


def test_masks_are_those_of_its_own_pipeline(
    spawn: Any, observer: Any, ros_environment: None, tmp_path: Path
) -> None:
    network = foreign.seeded(foreign.LRASPP())
    graph = foreign.export(network, tmp_path / "net.onnx", SIZE, free=False)
    normalised = ["--mean", *map(str, foreign.MEAN), "--std", *map(str, foreign.STD)]
    options = ["--name", "theirs", "--out", str(tmp_path), "--label-set", "camvid11", *normalised]
    assert main(["models", "import", str(graph), *options]) == 0
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    path = os.pathsep.join((str(tmp_path / "blocked"), os.environ["PYTHONPATH"]))
    environment = {"PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    model = find_model(tmp_path / "theirs.yaml")
    node = NodeUnderTest(spawn, observer, "/theirs", model, environment, engine="onnxruntime")
    labels = observer.subscribe(Image, node.topic("label"), 5)
    rgb = StreetScene(3, *SIZE).render(0.0)[0]
    feeder = Feeder(node)
    message = Image(width=SIZE[0], height=SIZE[1], encoding="rgb8", step=3 * SIZE[0], data=rgb.tobytes())
    mask = feeder.segment(message, labels)
    assert np.mean(mask == foreign.expected(network, rgb[None])[0]) >= 0.999
    # A wider image is squeezed into the only size that the graph takes.
    wide = np.ascontiguousarray(np.repeat(rgb, 2, axis=1))
    message = Image(width=2 * SIZE[0], height=SIZE[1], encoding="rgb8", step=6 * SIZE[0], data=wide.tobytes())
    squeezed = feeder.segment(message, labels)
    assert squeezed.shape == wide.shape[:2] and np.mean(squeezed[:, ::2] == mask) > 0.95
    node.fresh_status()
    assert node.values()["engine"] == "onnxruntime"
    feeder.close()
