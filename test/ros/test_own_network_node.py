"""A network of the user's in the node: allowed by the environment, its masks over DDS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support.models import save_untrained
from support.node_under_test import TORCH, Feeder, NodeUnderTest

import rt_segmentation as rt
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.ros.messages import image_message

PLACE = "support.depthwise_network:Depthwise"


def test_its_masks_are_those_made_offline(
    stage: Any, listen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("RT_SEG_NETWORKS", PLACE)
    from rt_segmentation.networks import build_network

    torch.manual_seed(1)
    manifest = save_untrained(tmp_path / "own.yaml", build_network(PLACE, 11), PLACE, (160, 120))
    node = NodeUnderTest(stage.spawn, stage.observer, "/own", manifest, **TORCH)
    labels = listen(Image, node.topic("label"))
    image = StreetScene(0, 160, 120).render(0.0)[0]
    mask = Feeder(node, Image).segment(image_message(Header(), image, "rgb8"), labels)
    assert len(np.unique(mask)) > 1
    assert (mask == rt.Segmenter(manifest, **TORCH)(image).labels).all()
