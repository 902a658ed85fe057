"""Node parameters over their services: what is refused, converted and described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from rt_segmentation.ros.declaring import declare, refuse_unknown, values
from rt_segmentation.ros.parameters import Parameter, ParameterError

CAMERA = "rt_segmentation.ros.camera_node"


def set_parameter(observer: Any, node: str, name: str, value: ParameterValue) -> Any:
    request = SetParameters.Request(parameters=[ParameterMessage(name=name, value=value)])
    return observer.call(SetParameters, f"/{node}/set_parameters", request).results[0]


def test_camera_refuses_changes_after_the_start(spawn: Any, observer: Any) -> None:
    spawn(CAMERA, "--ros-args", "-p", "width:=128", "-p", "height:=72")
    value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=20)
    result = set_parameter(observer, "camera_node", "rate_hz", value)
    assert not result.successful
    assert result.reason == (
        "parameter 'rate_hz' is read at the start only; start the node again with rate_hz:=20.0"
    )


TABLE = (
    Parameter("overlay_opacity", 0.5, "How strongly colours cover.", minimum=0.0, maximum=1.0),
    Parameter("engine", "torch", "What runs the network.", choices=("torch", "openvino")),
    Parameter("limits.latency", 100, "Above it the node warns.", "ms", minimum=1),
    Parameter("cameras", [""], "Names of the cameras."),
    Parameter("model", "lednet", "What the network is.", read_only=True),
)
DOUBLE, INTEGER, STRING = (
    ParameterType.PARAMETER_DOUBLE,
    ParameterType.PARAMETER_INTEGER,
    ParameterType.PARAMETER_STRING,
)


@pytest.fixture(params=[Node, LifecycleNode])
def declared(request: pytest.FixtureRequest, context: Any, observer: Any) -> Iterator[Node]:
    overrides = [RosParameter("limits.latency", value=70)]
    node = request.param("declared", context=context, parameter_overrides=overrides)
    declare(node, TABLE)
    observer.executor.add_node(node)
    yield node
    node.destroy_node()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (
            "overlay_opacity",
            ParameterValue(type=DOUBLE, double_value=1.7),
            "parameter 'overlay_opacity' is 1.7, it must be from 0.0 to 1.0",
        ),
        (
            "overlay_opacity",
            ParameterValue(type=STRING, string_value="high"),
            "parameter 'overlay_opacity' is 'high', it must be a number",
        ),
        (
            "overlay_opacity",
            ParameterValue(),
            "parameter 'overlay_opacity' has no value, it must be a number",
        ),
        (
            "engine",
            ParameterValue(type=STRING, string_value="openvio"),
            "parameter 'engine' is 'openvio', it must be one of torch, openvino; did you mean 'openvino'?",
        ),
        (
            "limits.latency",
            ParameterValue(type=INTEGER, integer_value=0),
            "parameter 'limits.latency' is 0, it must be 1 ms or more",
        ),
        (
            "model",
            ParameterValue(type=STRING, string_value="enet"),
            "parameter 'model' is read at the start only; start the node again with model:=\"enet\"",
        ),
        (
            "overlay_opacty",
            ParameterValue(type=DOUBLE, double_value=0.1),
            "unknown parameter 'overlay_opacty'; did you mean 'overlay_opacity'?",
        ),
    ],
)
def test_service_refuses_with_one_sentence(
    declared: Node, observer: Any, name: str, value: ParameterValue, reason: str
) -> None:
    before = values(declared, TABLE)
    result = set_parameter(observer, "declared", name, value)
    assert (result.successful, result.reason) == (False, reason)
    assert values(declared, TABLE) == before


def test_service_sets_and_converts(declared: Node, observer: Any) -> None:
    one = ParameterValue(type=INTEGER, integer_value=1)
    assert set_parameter(observer, "declared", "overlay_opacity", one).successful
    names = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=["front", "rear"])
    assert set_parameter(observer, "declared", "cameras", names).successful
    switch = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=False)
    assert set_parameter(observer, "declared", "use_sim_time", switch).successful
    now = values(declared, TABLE)
    assert (now["overlay_opacity"], type(now["overlay_opacity"])) == (1.0, float)
    assert now["cameras"] == ["front", "rear"]
    assert now["limits.latency"] == 70


def test_descriptions_are_there_for_everybody(declared: Node, observer: Any) -> None:
    request = DescribeParameters.Request(names=[parameter.name for parameter in TABLE])
    response = observer.call(DescribeParameters, "/declared/describe_parameters", request)
    opacity, engine, latency, cameras, model = response.descriptors
    assert opacity.description == "How strongly colours cover."
    bounds = opacity.floating_point_range[0]
    assert (opacity.type, bounds.from_value, bounds.to_value) == (DOUBLE, 0.0, 1.0)
    assert engine.additional_constraints == "one of torch, openvino"
    assert latency.description == "Above it the node warns. [ms]"
    assert latency.integer_range[0].from_value == 1
    assert cameras.type == ParameterType.PARAMETER_STRING_ARRAY
    assert model.read_only
    assert not engine.read_only


def test_overrides_are_checked_at_the_start(context: Any) -> None:
    overrides: list[RosParameter[Any]] = [
        RosParameter("overlay_opacity", value=1),
        RosParameter("qos_overrides./tf.publisher.depth", value=3),
        RosParameter("use_sim_time", value=False),
    ]
    node = Node("good", context=context, parameter_overrides=overrides)
    refuse_unknown(node, TABLE)
    declare(node, TABLE)
    assert values(node, TABLE) == {
        "overlay_opacity": 1.0,
        "engine": "torch",
        "limits.latency": 100,
        "cameras": [],
        "model": "lednet",
    }
    node.destroy_node()

    unknown = Node("bad", context=context, parameter_overrides=[RosParameter("limits.latenzy", value=3)])
    with pytest.raises(
        ParameterError, match=r"unknown parameter 'limits\.latenzy'; did you mean 'limits\.lat"
    ):
        refuse_unknown(unknown, TABLE)
    unknown.destroy_node()
