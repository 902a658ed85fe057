"""Params files as robots have them: values for other nodes, headings that do not reach, dumps loaded back."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from support.node_under_test import CAMERA, NODE, ros_args

from rt_segmentation.resources import share_dir
from rt_segmentation.ros.camera_parameters import PARAMETERS as CAMERA_TABLE
from rt_segmentation.ros.declaring import declare, refuse_unknown, values
from rt_segmentation.ros.parameters import Parameter, ParameterError
from rt_segmentation.ros.segmentation_parameters import PARAMETERS as TABLE
from rt_segmentation.ros.segmentation_parameters import camera_parameters, of_another_camera

SMALL = {"count": 1, "width": 128, "height": 72}


def start_with(context: Any, table: tuple[Parameter, ...], **overrides: Any) -> Node:
    given = [RosParameter(name.replace("__", "."), value=value) for name, value in overrides.items()]
    node = Node("of_a_robot", context=context, parameter_overrides=given)
    refuse_unknown(node, table)
    declare(node, table)
    return node


FOREIGN = {
    "robot_name": "r2",
    "base_frame_id": "base_link",
    "map__resolution": 0.05,
    "update_rate": 10,
    "weights_file": "x",
    "qos_overrides__/image__subscription__depth": 3,
    "qos_overrides__/tf__publisher__depth": 3,
}


def test_names_for_other_nodes_are_ignored_with_one_warning(
    context: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    node = start_with(context, TABLE, **FOREIGN, jpeg_quality=80)
    assert values(node, TABLE)["jpeg_quality"] == 80
    node.destroy_node()
    names, overrides = capfd.readouterr().err.splitlines()
    assert names.endswith(
        "ignored, as this node has no such parameters: base_frame_id, map.resolution, robot_name,"
        " update_rate, weights_file"
    )
    assert "take no overrides: qos_overrides./image.subscription.depth, qos_overrides./tf.pub" in overrides


@pytest.mark.parametrize(("table", "others"), [(TABLE, CAMERA_TABLE), (CAMERA_TABLE, TABLE)])
def test_each_node_takes_the_values_of_the_other_for_foreign(
    context: Any, table: tuple[Parameter, ...], others: tuple[Parameter, ...]
) -> None:
    given = {p.name.replace(".", "__"): p.default for p in others}
    node = start_with(context, table, **given)
    node.destroy_node()


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("modle", "model"),
        ("engin", "engine"),
        ("overlay_opacty", "overlay_opacity"),
        ("image-transport", "image_transport"),
        ("diagnostics__max_latency", "diagnostics.max_latency_ms"),
        ("max_latency_ms", "diagnostics.max_latency_ms"),
        ("Model", "model"),
        ("max_rate", "max_rate_hz"),
    ],
)
def test_a_slip_stops_the_start(context: Any, slip: str, meant: str) -> None:
    with pytest.raises(ParameterError, match=f"did you mean '{meant}'"):
        start_with(context, TABLE, **FOREIGN, **{slip: "x"})


@pytest.mark.parametrize(
    ("head", "is_theirs"), [("/**", True), ("/**/of_a_robot", False), ("/of_a_robot", False)]
)
def test_what_is_nearly_a_name_of_the_node_may_be_another_node_s_in_a_section_for_all(
    context: Any,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    head: str,
    is_theirs: bool,
) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text(f"{head}: {{ros__parameters: {{image_width: 640}}}}")
    monkeypatch.setattr(sys, "argv", ["node", "--ros-args", "--params-file", str(file)])
    if is_theirs:
        start_with(context, TABLE, image_width=640).destroy_node()
        assert "this node has no such parameters: image_width" in capfd.readouterr().err
    else:
        with pytest.raises(ParameterError, match="unknown parameter 'image_width'"):
            start_with(context, TABLE, image_width=640)


@pytest.mark.parametrize(
    ("cameras", "foreign"),
    [
        ([""], ["top.rotation", "a.output_resolution"]),
        (["front", "left"], ["rear.max_rate_hz", "top.rotation", "right.image_transport"]),
        (["front_left", "camera_1"], ["front_right.rotation", "camera_2.max_rate_hz"]),
    ],
)
def test_a_camera_that_the_node_has_not_is_another_nodes(cameras: list[str], foreign: list[str]) -> None:
    assert [name for name in foreign if not of_another_camera(cameras, name)] == []


def test_a_misspelt_camera_or_parameter_of_it_is_no_other_camera() -> None:
    for slip in ("frnt.rotation", "Front.rotation", "front.rotaton", "fronts.roi", "max_rate_hz"):
        assert not of_another_camera(["front", "left"], slip)


def test_a_file_with_other_cameras_starts_a_node(context: Any, capfd: pytest.CaptureFixture[str]) -> None:
    cameras = ["front", "left"]
    table = [*TABLE, *camera_parameters(cameras, lambda parameter: parameter.default)]

    def start(name: str) -> None:
        node = Node("of_a_robot", context=context, parameter_overrides=[RosParameter(name, value=5.0)])
        try:
            refuse_unknown(node, table, elsewhere=partial(of_another_camera, cameras))
        finally:
            node.destroy_node()

    start("rear.max_rate_hz")
    assert "this node has no such parameters: rear.max_rate_hz" in capfd.readouterr().err
    with pytest.raises(ParameterError, match=r"did you mean 'front\.max_rate_hz'"):
        start("frnt.max_rate_hz")


def test_what_was_given_is_not_repeated_whole(context: Any) -> None:
    long = "x" * 100_000
    for given in (
        {"image_transport": long},
        {"jpeg_quality": [1] * 100_000},
        {f"model{long}": 1},
        {"model": long},
        {"parity.frames": "/tmp/" + long},
    ):
        node = Node("of_a_robot", context=context)
        declare(node, TABLE)
        ((name, value),) = given.items()
        result = node.set_parameters([RosParameter(name, value=value)])[0]
        assert not result.successful
        assert len(result.reason) < 400
        assert "characters)" in result.reason
        node.destroy_node()


def test_a_robots_file_starts_the_camera_and_says_once_what_it_ignored(spawn: Any, tmp_path: Path) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text("/**:\n  ros__parameters:\n    robot_name: r2\n    waypoints: []\n")
    camera = spawn(CAMERA, *ros_args("/robot", **SMALL), "--params-file", str(file))
    assert camera.finish() == 0, camera.output
    assert camera.output.count("ignored") == 1
    assert "no such parameters: robot_name, waypoints" in camera.output


def test_the_packages_own_file_is_for_every_node_in_every_namespace(
    spawn: Any, observer: Any, tmp_path: Path
) -> None:
    packages = share_dir() / "config" / "seg.yaml"
    own = yaml.safe_load(packages.read_text())
    own["/**"]["ros__parameters"].update(autostart=False, jpeg_quality=70, rate_hz=3.0, width=128, height=72)
    copy = tmp_path / "mine.yaml"
    copy.write_text(yaml.safe_dump(own, sort_keys=False))
    for namespace, files in (("/", [packages, copy]), ("/a/b", [copy])):
        given = [part for file in files for part in ("--params-file", str(file))]
        camera = spawn(CAMERA, *ros_args(namespace), *given)
        camera.wait_for("at 3 Hz")
        node = spawn(NODE, *ros_args(namespace), *given)
        node.wait_for("waiting for a lifecycle manager")
        prefix = namespace.rstrip("/")
        request = GetParameters.Request(names=["jpeg_quality"])
        response = observer.call(GetParameters, f"{prefix}/segmentation_node/get_parameters", request)
        assert response.values[0].integer_value == 70
        for process in (camera, node):
            assert "ignored" not in process.output
            process.kill()


@pytest.mark.parametrize("heading", ["/**", "/**/camera_node", "camera_node", "/*/camera_node"])
def test_a_users_file_beats_the_packages_and_so_does_an_argument(
    spawn: Any, tmp_path: Path, heading: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "/**: {ros__parameters: {rate_hz: 7.0}}\n"
        f"{heading}: {{ros__parameters: {{rate_hz: 9.0, count: 7}}}}\n"
    )
    packages = str(share_dir() / "config" / "seg.yaml")
    namespace = "/" if heading == "camera_node" else "/a"
    arguments = ["--params-file", packages, "--params-file", str(file), "-p", "encoding:=bgr8"]
    camera = spawn(CAMERA, *ros_args(namespace), *arguments)
    assert camera.finish() == 0
    assert "at 9 Hz" in camera.output
    assert "raw bgr8" in camera.output
    assert "published 7 frames" in camera.output


@pytest.mark.parametrize(
    ("heading", "name", "sentence"),
    [
        ("camera_node", "camera_node", "its section is for '/camera_node', and this node is /a/camera_node"),
        ("/b/camera_node", "camera_node", "its section is for '/b/camera_node'"),
        ("/**/camera_node", "front", "this node is /a/front; write '/**/front:' over it"),
        ("a:\n camera_node", "camera_node", ""),
        ("/*/camera_node", "camera_node", ""),
        ("other_node", "camera_node", ""),
    ],
)
def test_a_file_that_does_not_reach_the_node_is_named(
    spawn: Any, tmp_path: Path, heading: str, name: str, sentence: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"{heading}:\n  ros__parameters:\n    rate_hz: 9.0\n")
    arguments = [*ros_args("/a", **SMALL), "-r", f"__node:={name}", "--params-file", str(file)]
    camera = spawn(CAMERA, *arguments)
    assert camera.finish() == 0
    if sentence:
        assert f"params file {file} is not used: " in camera.output
        assert sentence in camera.output
    else:
        assert "is not used" not in camera.output
        # rcl agrees about which sections reach a node.
        assert ("at 9 Hz" in camera.output) == (heading != "other_node")


def test_a_dump_is_loaded_back(spawn: Any, observer: Any) -> None:
    spawn(CAMERA, *ros_args("/dump", width=128, height=72))
    names = observer.call(ListParameters, "/dump/camera_node/list_parameters", ListParameters.Request())
    assert "source" in names.result.names
    request = GetParameters.Request(names=names.result.names)
    dump = observer.call(GetParameters, "/dump/camera_node/get_parameters", request).values
    back = [ParameterMessage(name=n, value=v) for n, v in zip(names.result.names, dump)]
    request = SetParameters.Request(parameters=back)
    results = observer.call(SetParameters, "/dump/camera_node/set_parameters", request).results
    assert [result.reason for result in results if not result.successful] == []


@pytest.mark.parametrize("module", [CAMERA, NODE])
def test_help_is_printed_and_starts_nothing(spawn: Any, module: str) -> None:
    for arguments in (["--help"], ["-h", *ros_args("/x")]):
        process = spawn(module, *arguments)
        assert process.finish() == 0
        assert process.output.startswith("usage: ")
        table = CAMERA_TABLE if module == CAMERA else TABLE
        assert all(f"  {parameter.name} (" in process.output for parameter in table)


def test_help_that_nobody_reads_is_no_traceback() -> None:
    """As of `--help | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", CAMERA, "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("argument", ["model:=enet", "--model", "enet"])
def test_an_argument_that_ros_does_not_read_is_refused(spawn: Any, argument: str) -> None:
    process = spawn(NODE, argument, *ros_args("/x"))
    assert process.finish() == 2
    (line,) = process.output.splitlines()
    assert f"the argument '{argument}' is not understood; parameters are given as --ros-args -p" in line
