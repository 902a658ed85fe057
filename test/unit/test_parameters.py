"""Parameters as data, without ROS: what is accepted, what is said, and the files made from the table."""

from __future__ import annotations

import math

import pytest
import yaml

from rt_segmentation.ros.parameters import Parameter, ParameterError, accept, to_markdown, to_yaml

OPACITY = Parameter("overlay_opacity", 0.5, "How strongly the colours cover.", minimum=0.0, maximum=1.0)
TABLE = (
    OPACITY,
    Parameter("autostart", True, "Whether it starts by itself.", read_only=True),
    Parameter("threads", 2, "Threads of the engine.", minimum=1),
    Parameter("engine", "torch", "What runs the network.", choices=("torch", "openvino")),
    Parameter("diagnostics.max_latency_ms", 1e-6, "Above it the node warns.", "ms", maximum=1e16),
    Parameter("quoted", 'a "b" \\ c: #d | ü', "Anything | at all."),
    Parameter("cameras", [""], "Names of the cameras."),
    Parameter("weights", [0.5, 2.0], "One for each class.", minimum=0.0),
    Parameter("ids", [1, 2], "Class ids.", minimum=0, maximum=255),
    Parameter("flags", [True, False], "Some flags."),
)


def named(name: str) -> Parameter:
    return next(parameter for parameter in TABLE if parameter.name == name)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("overlay_opacity", 1.7, "parameter 'overlay_opacity' is 1.7, it must be from 0.0 to 1.0"),
        ("overlay_opacity", math.nan, "parameter 'overlay_opacity' is nan, it must be a finite number"),
        ("overlay_opacity", "high", "parameter 'overlay_opacity' is 'high', it must be a number"),
        ("overlay_opacity", True, "parameter 'overlay_opacity' is true, it must be a number"),
        ("overlay_opacity", None, "parameter 'overlay_opacity' has no value, it must be a number"),
        ("threads", 0, "parameter 'threads' is 0, it must be 1 or more"),
        ("threads", 2.0, "parameter 'threads' is 2.0, it must be an integer"),
        ("autostart", 1, "parameter 'autostart' is 1, it must be true or false"),
        ("engine", 5, "parameter 'engine' is 5, it must be a text; write it in quotes"),
        (
            "engine",
            "openvio",
            "parameter 'engine' is 'openvio', it must be one of torch, openvino; did you mean 'openvino'?",
        ),
        (
            "diagnostics.max_latency_ms",
            1e17,
            "parameter 'diagnostics.max_latency_ms' is 1e+17, it must be 1.0e+16 ms or less",
        ),
        ("cameras", "front", "parameter 'cameras' is 'front', it must be a list of strings"),
        ("weights", [1.0, -1.0], "parameter 'weights' holds -1.0, it must be 0.0 or more"),
        ("weights", [], "parameter 'weights' is an empty list, it must have at least one element"),
        ("ids", [1, 256], "parameter 'ids' holds 256, it must be from 0 to 255"),
    ],
)
def test_bad_value_gives_one_sentence(name: str, value: object, sentence: str) -> None:
    with pytest.raises(ParameterError) as error:
        accept(named(name), value)
    assert str(error.value) == sentence


def test_whole_numbers_pass_for_floats() -> None:
    accepted = accept(OPACITY, 1)
    assert accepted == 1.0
    assert type(accepted) is float
    assert [type(element) for element in accept(named("weights"), [1, 2.5])] == [float, float]


@pytest.mark.parametrize("value", [[""], [], None])
def test_no_strings_is_the_empty_list(value: object) -> None:
    assert accept(named("cameras"), value) == []


def test_an_empty_list_of_numbers_may_stand_for_something() -> None:
    corner = Parameter("corner", [0, 0], "A corner.", empty=[0, 0])
    for nothing in ([], None, [""]):
        assert accept(corner, nothing) == [0, 0]
    assert accept(corner, [1, 2]) == [1, 2]


def test_own_check_is_asked_with_the_converted_value() -> None:
    asked: list[object] = []

    def refuse_halves(value: float) -> str | None:
        asked.append(value)
        return "halves are not wanted" if value % 1 else None

    parameter = Parameter("size", 2.0, "A size.", check=refuse_halves)
    assert accept(parameter, 3) == 3.0
    assert type(asked[-1]) is float
    with pytest.raises(ParameterError, match=r"^parameter 'size' is 2\.5: halves are not wanted$"):
        accept(parameter, 2.5)


@pytest.mark.parametrize(
    "contradiction",
    [
        {"default": 3.0, "maximum": 1.0},
        {"default": "a", "choices": ("b", "c")},
        {"default": "a", "minimum": 1.0},
        {"default": 1, "choices": ("1",)},
        {"default": []},
        {"default": {}},
    ],
)
def test_contradicting_declaration_is_refused(contradiction: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="'wrong'"):
        Parameter("wrong", text="Something.", **contradiction)  # type: ignore[arg-type]


@pytest.mark.parametrize("node_name", ["/**", "segmentation_node"])
def test_yaml_parses_back_to_the_defaults(node_name: str) -> None:
    parsed = yaml.safe_load(to_yaml(node_name, TABLE))
    read = parsed[node_name]["ros__parameters"]
    assert read == {parameter.name: parameter.default for parameter in TABLE}
    assert [type(value) for value in read.values()] == [type(parameter.default) for parameter in TABLE]


def test_yaml_says_what_each_parameter_does() -> None:
    blocks = to_yaml("/**", TABLE).split("\n\n")
    assert blocks[1] == ("    # How strongly the colours cover. From 0.0 to 1.0.\n    overlay_opacity: 0.5")
    assert blocks[2] == "    # Whether it starts by itself. Read at the start only.\n    autostart: true"
    assert "# What runs the network. One of torch, openvino." in blocks[4]


def test_markdown_has_a_row_of_five_cells_for_each_parameter() -> None:
    lines = to_markdown(TABLE).splitlines()
    assert len(lines) == 2 + len(TABLE)
    cells = {len(line.replace("\\|", "").strip("|").split("|")) for line in lines}
    assert cells == {5}
    assert lines[2] == (
        "| `overlay_opacity` | float | `0.5` | from 0.0 to 1.0 | How strongly the colours cover. |"
    )
