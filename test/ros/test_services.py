"""What strangers may ask of the node's services: each request has its answer, and none ends the node."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from support.node_under_test import CAMERA, NodeUnderTest, ros_args

from rt_segmentation.models import ModelManifest

ODD_NAMES = ["", " ", ".", "a" * 500, "ключ", "/", "qos_overrides.", "use_sim_time.", "a\nb", "%s%n"]
ODD_TYPES = [10, 77, 255]


@pytest.fixture(scope="module")
def node(stage: Any, small_model: ModelManifest) -> NodeUnderTest:
    """Unconfigured: it never needs an engine."""
    node = NodeUnderTest(stage.spawn, stage.observer, "/asked", small_model, autostart=False)
    node.process.wait_for("waiting for a lifecycle manager")
    return node


def lives(node: NodeUnderTest) -> bool:
    """Whether it still runs, answers, and has said nothing that a user could not read."""
    return (
        node.process.is_running()
        and node.state() == "unconfigured"
        and "Traceback" not in node.process.output
    )


def ask(node: NodeUnderTest, service_type: Any, name: str, **fields: Any) -> Any:
    return node.observer.call(service_type, f"{node.name}/{name}", service_type.Request(**fields))


def test_transitions_that_do_not_fit_are_refused(node: NodeUnderTest) -> None:
    for number in (0, *range(2, 10), 10, 30, 50, 60, 97, 255):
        if number == Transition.TRANSITION_UNCONFIGURED_SHUTDOWN:
            continue
        answer = ask(node, ChangeState, "change_state", transition=Transition(id=number))
        assert not answer.success, number
    for label in ("activate", "deactivate", "no such", "ключ", "a" * 500):
        assert not ask(node, ChangeState, "change_state", transition=Transition(label=label)).success, label
    assert lives(node)
    for service_type, name in (
        (GetState, "get_state"),
        (GetAvailableStates, "get_available_states"),
        (GetAvailableTransitions, "get_available_transitions"),
        (GetAvailableTransitions, "get_transition_graph"),
    ):
        ask(node, service_type, name)
    assert lives(node)


def test_odd_parameters_are_refused_and_the_others_served(node: NodeUnderTest) -> None:
    good = Parameter(name="overlay_opacity", value=ParameterValue(type=3, double_value=0.25))
    odd = [Parameter(name=name, value=ParameterValue(type=4, string_value="x")) for name in ODD_NAMES]
    known = ("overlay_opacity", "model", "use_sim_time", "parallel_frames")
    odd += [Parameter(name=name, value=ParameterValue(type=number)) for name in known for number in (0, 5, 9)]
    answer = ask(node, SetParameters, "set_parameters", parameters=[*odd, good, good])
    assert [result.successful for result in answer.results] == [False] * len(odd) + [True, True]
    assert all(result.reason for result in answer.results[: len(odd)])
    for number in ODD_TYPES:
        broken = Parameter(name="overlay_opacity", value=ParameterValue(type=number))
        answer = ask(node, SetParameters, "set_parameters", parameters=[good, broken, good])
        assert [result.successful for result in answer.results][:2] == [True, False]
        assert len(answer.results) == 3 and answer.results[1].reason
        answer = ask(node, SetParametersAtomically, "set_parameters_atomically", parameters=[broken, good])
        assert not answer.result.successful and answer.result.reason
    assert lives(node)


def test_odd_questions_about_parameters_are_answered(node: NodeUnderTest) -> None:
    for names in (ODD_NAMES, [], ["model"] * 100):
        for service_type, name in (
            (GetParameters, "get_parameters"),
            (GetParameterTypes, "get_parameter_types"),
            (DescribeParameters, "describe_parameters"),
        ):
            ask(node, service_type, name, names=names)
    for depth in (0, 1, 2**64 - 1):
        ask(node, ListParameters, "list_parameters", prefixes=ODD_NAMES, depth=depth)
    assert lives(node)


def test_the_description_of_a_type_that_is_not_there(node: NodeUnderTest) -> None:
    services = pytest.importorskip("type_description_interfaces.srv", reason="Humble has no such service")
    for name in ODD_NAMES:
        answer = ask(node, services.GetTypeDescription, "get_type_description", type_name=name, type_hash="x")
        assert not answer.successful
    assert lives(node)


def test_the_camera_node_answers_too(stage: Any, spawn_camera: Any) -> None:
    camera = spawn_camera
    broken = Parameter(name="rate_hz", value=ParameterValue(type=77))
    request = SetParameters.Request(parameters=[broken])
    answer = stage.observer.call(SetParameters, "/eye/camera_node/set_parameters", request)
    assert [result.successful for result in answer.results] == [False]
    assert camera.is_running() and "Traceback" not in camera.output


@pytest.fixture()
def spawn_camera(stage: Any) -> Any:
    camera = stage.spawn(CAMERA, *ros_args("/eye", width=64, height=48))
    camera.wait_for("publishing")
    return camera
