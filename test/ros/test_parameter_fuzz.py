"""Any value for any parameter, through the node's own services: it is taken or refused, and never half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no model to name")

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import parameter_value_to_python
from sensor_msgs.msg import Image
from support.node_under_test import Feeder, NodeUnderTest

from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.segmentation_parameters import PARAMETERS

NAMES = [parameter.name for parameter in PARAMETERS]
READ_ONLY = {parameter.name for parameter in PARAMETERS if parameter.read_only}
NUMBERS = [0, 1, -1, 2, 7, 31, 32, 64, 90, 180, 7680, 7681, 2**31, 2**63 - 1, -(2**63)]
FLOATS = [
    0.0,
    -0.0,
    0.5,
    1.0,
    1.0000001,
    -1e-9,
    1e-300,
    1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
    30.0,
]
TEXTS = [
    "",
    "auto",
    "raw",
    "input",
    "network",
    "64x48",
    "0x0",
    "99999999999x1",
    "torch",
    "enet",
    "ß\n",
    "x" * 5000,
]
TEXTS += ["/", "../..", "8", "12", "compressed", "front", "%s{0}"]


def value(random: np.random.Generator, like: ParameterValue | None) -> ParameterValue:
    """A value of any type, or none; half of them of the type that the parameter has."""
    number = [NUMBERS[random.integers(len(NUMBERS))] for _ in range(random.integers(0, 6))]
    real = [FLOATS[random.integers(len(FLOATS))] for _ in range(random.integers(0, 4))]
    text = [TEXTS[random.integers(len(TEXTS))] for _ in range(random.integers(0, 4))]
    kind = int(random.integers(0, 11)) if like is None or random.integers(2) else like.type
    return ParameterValue(
        # 10 is no type at all.
        type=200 if kind == 10 else kind,
        bool_value=bool(random.integers(2)),
        integer_value=(number or [0])[0],
        double_value=(real or [0.0])[0],
        string_value=(text or [""])[0],
        byte_array_value=[bytes([n % 256]) for n in number],
        bool_array_value=[n > 0 for n in number],
        integer_array_value=number,
        double_array_value=real,
        string_array_value=text,
    )


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.long)])
def test_parameters_are_taken_or_refused_as_a_whole(
    stage: Any, listen: Any, small_model: ModelManifest, tmp_path: Path, count: int
) -> None:
    random = np.random.default_rng(count)
    environment = {"FAULT": str(tmp_path / "never"), "XDG_CACHE_HOME": str(tmp_path)}
    node = NodeUnderTest(
        stage.spawn,
        stage.observer,
        "/fuzzed",
        small_model,
        environment,
        "support.faulty_engine_node",
        engine="faulty",
    )
    node.process.wait_for("active:")

    services = {
        name: stage.observer.node.create_client(kind, f"{node.name}/{name}")
        for name, kind in (
            ("get_parameters", GetParameters),
            ("set_parameters", SetParameters),
            ("set_parameters_atomically", SetParametersAtomically),
        )
    }

    def call(name: str, request: Any) -> Any:
        node.spin_until(services[name].service_is_ready)
        future = services[name].call_async(request)
        node.spin_until(future.done)
        return future.result()

    def current() -> dict[str, ParameterValue]:
        return dict(zip(NAMES, call("get_parameters", GetParameters.Request(names=NAMES)).values))

    start = current()
    taken = refused = 0
    # A model or engine that is asked for and cannot be loaded is set back later, and is another test's.
    fuzzed = [*(name for name in NAMES if name not in LOADED), "no_such_parameter", "use_sim_time"]
    for number in range(count):
        names = {str(name) for name in random.choice(fuzzed, int(random.integers(1, 4)))}
        before = current()
        asked = [ParameterMessage(name=n, value=value(random, before.get(n))) for n in sorted(names)]
        if number % 2:
            request = SetParametersAtomically.Request(parameters=asked)
            results = [call("set_parameters_atomically", request).result] * len(asked)
        else:
            results = call("set_parameters", SetParameters.Request(parameters=asked)).results
        after = current()
        for parameter, result in zip(asked, results):
            if parameter.name not in before:
                assert parameter.name == "use_sim_time" or not result.successful
                continue
            was, is_now = before[parameter.name], after[parameter.name]
            if result.successful:
                taken += 1
                check(parameter, is_now)
            else:
                refused += 1
                assert result.reason and len(result.reason.splitlines()) == 1, parameter
                assert is_now == was, (parameter, result.reason)
        # Nothing else moves.
        assert all(after[name] == before[name] for name in NAMES if name not in names)
    assert all(current()[name] == start[name] for name in READ_ONLY)
    assert node.process.is_running() and "Traceback" not in node.process.output

    # With what it had at the start it does what it did.
    back = [ParameterMessage(name=n, value=v) for n, v in start.items() if n not in READ_ONLY]
    back.append(
        ParameterMessage(name="use_sim_time", value=ParameterValue(type=ParameterType.PARAMETER_BOOL))
    )
    for result in call("set_parameters", SetParameters.Request(parameters=back)).results:
        assert result.successful, result.reason
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    feeder.segment(Image(width=64, height=48, encoding="mono8", step=64, data=bytes(64 * 48)), labels)
    feeder.close()
    print(f"{count} sets of parameters: {taken} values taken, {refused} refused, none half")


LOADED = ("model", "engine", "precision", "parallel_frames", "input_width", "input_height")


def check(asked: ParameterMessage, held: ParameterValue) -> None:
    """What was taken is what was asked for, in the parameter's type."""
    wanted: Any = parameter_value_to_python(asked.value)
    has: Any = parameter_value_to_python(held)
    if isinstance(has, (list, tuple)) or hasattr(has, "tolist"):
        given = list(wanted) if wanted is not None else []
        # Empty lists have a spelling of their own.
        assert list(has) == given or not any(given), (asked, held)
    else:
        # A whole number for one with a fraction: the nearest that there is.
        nearest = float(wanted) if isinstance(has, float) and isinstance(wanted, int) else wanted
        assert str(has) == str(wanted) or has == nearest, (asked, held)
