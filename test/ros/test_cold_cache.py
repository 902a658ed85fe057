"""A node whose graph is not in the cache: another process makes it with PyTorch, and ends with the node."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no graph to make")
pytest.importorskip("onnx", reason="onnx is not installed: no graph to make")

from sensor_msgs.msg import Image
from support.models import save_untrained
from support.node_under_test import NODE, Feeder, NodeUnderTest, ros_args
from support.processes import is_running

from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.inference.engines import build_engine
from rt_segmentation.models import ModelManifest
from rt_segmentation.networks import build_network

WIDTH, HEIGHT = 160, 120
OWN = "support.depthwise_network:Depthwise"
# Python runs this before a process's own modules. Whoever imports torch in the other process says its number,
# and keeps Python's lock in native code; the node merely asks whether there is a torch.
FREEZE = """
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch" and sys.argv[0] == "-c":
            import ctypes, os
            print(f"process {os.getpid()} has the moment", flush=True)
            ctypes.PyDLL(None).sleep(600)

sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize(
    ("engine", "network"), [("openvino", "enet"), pytest.param("onnxruntime", OWN, marks=pytest.mark.long)]
)
def test_masks_come_and_the_node_has_no_torch(
    spawn: Any,
    observer: Any,
    small_model: ModelManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    network: str,
) -> None:
    pytest.importorskip(engine)
    monkeypatch.setenv("RT_SEG_NETWORKS", OWN)
    manifest = small_model
    if network == OWN:
        import torch

        torch.manual_seed(1)
        manifest = save_untrained(tmp_path / "own.yaml", build_network(OWN, 11), OWN, (WIDTH, HEIGHT))
    cold = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    node = NodeUnderTest(spawn, observer, "/cold", manifest, cold, engine=engine, precision="fp32")
    labels = observer.subscribe(Image, node.topic("label"), 5)
    rgb = StreetScene(3, WIDTH, HEIGHT).render(0.0)[0]
    message = Image(width=WIDTH, height=HEIGHT, encoding="rgb8", step=3 * WIDTH, data=rgb.tobytes())
    feeder = Feeder(node)
    mask = feeder.segment(message, labels)
    assert f"making the graph of {manifest.name}" in node.process.output
    assert "libtorch" not in Path(f"/proc/{node.process.pid}/maps").read_text()
    assert sorted(path.suffix for path in (tmp_path / "cache").rglob("*.onnx")) == [".onnx", ".onnx"]
    np.testing.assert_array_equal(mask, build_engine(manifest, engine, "fp32").infer(rgb[None], False)[0][0])
    feeder.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_both_end_by_a_signal(
    spawn: Any, small_model: ModelManifest, tmp_path: Path, number: signal.Signals
) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "sitecustomize.py").write_text(FREEZE)
    environment = {
        "PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ["PYTHONPATH"])),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    arguments = ros_args("/cold", model=small_model.path, engine="openvino", precision="fp32")
    process = spawn(NODE, *arguments, **environment)
    process.wait_for("has the moment")
    (child,) = [int(line.split()[1]) for line in process.output.splitlines() if "has the moment" in line]
    assert child != process.pid
    began = time.monotonic()
    process.send(number)
    assert process.finish() == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    while is_running(child):
        assert time.monotonic() - began < 30
        time.sleep(0.01)
    print(f"{number.name}: both over after {time.monotonic() - began:.2f} s")
    assert "Traceback" not in process.output and "[FATAL]" not in process.output
