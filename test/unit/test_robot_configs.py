"""What the package has for Nav2 and Foxglove against the nodes' own tables: topics, names, values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rt_segmentation.groups import load_groups
from rt_segmentation.labels import load_label_set
from rt_segmentation.ros.topics import TOPICS

CONFIG = Path(__file__).resolve().parents[2] / "config"
OUTPUTS = {
    topic.name.replace("~", f"/{node}"): topic
    for node, topics in TOPICS.items()
    for topic in topics
    if not topic.is_input
}
# What the layer declares, by its source.
LAYER = {"plugin", "enabled", "combination_method", "use_approximate_time_sync", "observation_sources"}
SOURCE = {
    "segmentation_topic": ("sensor_msgs/msg/Image", "mono8", False),
    "confidence_topic": ("sensor_msgs/msg/Image", "mono8", False),
    "labels_topic": ("vision_msgs/msg/LabelInfo", "", True),
    "pointcloud_topic": ("sensor_msgs/msg/PointCloud2", "", False),
}
OTHERS = {
    "min_obstacle_distance": float,
    "max_obstacle_distance": float,
    "tile_map_decay_time": float,
    "use_cost_selection": bool,
    "class_types": list,
}
CLASS = {
    "classes": list,
    "base_cost": int,
    "max_cost": int,
    "mark_confidence": int,
    "samples_to_max_cost": int,
    "dominant_priority": bool,
}


@pytest.fixture(scope="module")
def layer() -> dict[str, Any]:
    content = yaml.safe_load((CONFIG / "nav2" / "semantic_layer.yaml").read_text(encoding="utf-8"))
    costmap = content["local_costmap"]["local_costmap"]["ros__parameters"]
    assert costmap["plugins"].index("semantic_layer") < costmap["plugins"].index("inflation_layer")
    result: dict[str, Any] = costmap["semantic_layer"]
    return result


def test_the_layer_is_given_what_it_declares_in_its_types(layer: dict[str, Any]) -> None:
    source = layer[layer["observation_sources"]]
    assert set(layer) == {*LAYER, layer["observation_sources"]}
    assert set(source) == {*SOURCE, *OTHERS, *source["class_types"]}
    for name, kind in OTHERS.items():
        # ROS takes no integer for a double.
        assert type(source[name]) is kind, name
    for name in source["class_types"]:
        assert {key: type(value) for key, value in source[name].items()} == CLASS, name
        assert 0 <= source[name]["base_cost"] <= source[name]["max_cost"] <= 254


def test_the_layer_s_topics_are_the_nodes(layer: dict[str, Any]) -> None:
    source = layer[layer["observation_sources"]]
    for name, (kind, encoding, latched) in SOURCE.items():
        topic = OUTPUTS[source[name]]
        assert (topic.type, topic.encoding) == (kind, encoding)
        assert getattr(topic.qos, "latched", False) == latched


@pytest.mark.parametrize("label_set", ["camvid11", "cityscapes19"])
def test_the_layer_has_a_cost_for_each_group_that_label_info_names(
    layer: dict[str, Any], label_set: str
) -> None:
    source = layer[layer["observation_sources"]]
    named = [name for kind in source["class_types"] for name in source[kind]["classes"]]
    assert sorted(named) == sorted(load_groups("driving").of(load_label_set(label_set)).label_set.names)


def leaves(layout: Any) -> Iterator[str]:
    """The panels of a layout, each split having a direction, a share and two sides."""
    if isinstance(layout, str):
        yield layout
        return
    assert layout["direction"] in ("row", "column") and 0 < layout["splitPercentage"] < 100
    for side in ("first", "second"):
        yield from leaves(layout[side])


def test_foxglove_s_layout_shows_the_topics_of_the_nodes() -> None:
    content = json.loads((CONFIG / "foxglove" / "seg.json").read_text(encoding="utf-8"))
    panels = content["configById"]
    assert sorted(leaves(content["layout"])) == sorted(panels)
    shown: dict[str, set[str]] = {"Image": set(), "3D": set(), "Plot": set(), "DiagnosticSummary": set()}
    for name, panel in panels.items():
        kind = name.partition("!")[0]
        if kind == "Image":
            shown[kind].add(panel["imageMode"]["imageTopic"])
        elif kind == "3D":
            shown[kind] |= set(panel["topics"])
        elif kind == "DiagnosticSummary":
            shown[kind].add(panel["topicToRender"])
        else:
            # A path that is not enabled draws nothing.
            assert all(path["enabled"] for path in panel["paths"])
            shown[kind] |= {path["value"] for path in panel["paths"]}
    assert shown["Image"] == {"/image", "/segmentation_node/overlay", "/segmentation_node/legend"}
    assert shown["3D"] == {"/semantic_cloud_node/points"}
    assert shown["DiagnosticSummary"] == {"/diagnostics"}
    assert {*shown["Image"], *shown["3D"]} - {"/image"} <= set(OUTPUTS)
    keys = {match[1] for value in shown["Plot"] if (match := re.search(r'key=="([^"]+)"', value))}
    assert keys == {"input rate [Hz]", "output rate [Hz]", "latency p95 [ms]"}
    assert "/segmentation_node/latency_ms.data" in shown["Plot"]
