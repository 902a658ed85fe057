"""Files as dataclasses: what is right is converted, what is wrong is named."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import rt_segmentation
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.settings import SettingsError, load_yaml, read_file, read_mapping, read_settings

ROOT = Path(rt_segmentation.__file__).parent


class BrokenError(RtSegmentationError, ValueError):
    pass


@dataclass(frozen=True)
class Inner:
    low: float
    high: float | None = None


@dataclass(frozen=True)
class Outer:
    path: Path
    name: str
    inner: Inner
    parts: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    anything: Any = None


GOOD = {"name": "a", "inner": {"low": 1}}


def test_nested_values_are_converted() -> None:
    content = {
        **GOOD,
        "parts": [{"low": 1, "high": None}],
        "by_name": {"x": {"low": 2, "high": 3}},
        "counts": {"y": 4},
        "anything": [1, "two"],
    }
    path = Path("file")
    read = read_settings(Outer, content, given={"path": path})
    by_name = {"x": Inner(2.0, 3.0)}
    assert read == Outer(path, "a", Inner(1.0), (Inner(1.0),), by_name, {"y": 4}, [1, "two"])
    assert type(read.inner.low) is float


def test_a_date_is_a_text_and_other_types_are_not_made() -> None:
    assert load_yaml("{split: 2024-05-01, at: 2024-05-01 12:00:00}") == {
        "split": "2024-05-01",
        "at": "2024-05-01 12:00:00",
    }
    for text in ("!!timestamp 2024-05-01", "!!binary aGk=", "!!set {a}", "!!python/tuple [1]"):
        with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
            load_yaml(text)


# Each line ten times the one before it.
MULTIPLIED = "a0: &a0 [0]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "x"}, "unknown key 'path'; there are name, inner"),
        ({"inner": {}}, "key 'inner.low' is missing"),
        ({"by_name": {"x": {"low": "1"}}}, "'by_name.x.low' is '1', it must be a number"),
        ({"counts": {"y": True}}, "'counts.y' is True, it must be an integer"),
        ({"counts": [1]}, "'counts' is \\[1\\], it must be a mapping"),
        ({"parts": [1]}, "'parts\\[0\\]' is 1, it must be a mapping"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_settings(Outer, {**GOOD, **changes}, given={"path": Path()})


def test_what_is_merged_may_be_said_otherwise_before_and_after(tmp_path: Path) -> None:
    # What is merged has a merge itself, which YAML's library makes keys of before it constructs it.
    path = tmp_path / "a.yaml"
    path.write_text("b: &b {low: 1, high: 9}\nouter: {a: &a {<<: *b, low: 2}}\nc: {<<: *a}\n")
    expected = {"low": 2, "high": 9}
    assert read_mapping(path, "thing", BrokenError)["c"] == expected
    assert read_mapping(path, "thing", BrokenError)["outer"]["a"] == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "thing .*a.json cannot be read: Expecting"),
        ("a.yaml", "a: [", "thing .*a.yaml cannot be read"),
        ("a.yaml", "- 1", "thing .*a.yaml is not a mapping of keys to values"),
        ("a.yaml", "low: x", "thing .*a.yaml: 'low' is 'x', it must be a number"),
        ("a.yaml", "low: 1\nlow: 2", "thing .*a.yaml cannot be read: key 'low' stands in it twice"),
        ("a.yaml", "low: {x: 1, x: 2}", "cannot be read: key 'x' stands in it twice"),
        ("a.json", '{"low": 1, "low": 2}', "thing .*a.json cannot be read: key 'low' stands in it twice"),
        ("a.yaml", "low: " + "[" * 50000, "cannot be read: its lists and .* more than 64 deep, at line 1"),
        ("a.yaml", "low:\n  " + "- " * 50000 + "1", "cannot be read: its lists and .* 64 deep, at line 2"),
        ("a.json", '{"low": ' + "[" * 200000, "cannot be read: its lists and .* more than 64 deep"),
        ("a.yaml", "low: &x {y: *x}", "cannot be read: [*]x at line 1 stands in itself"),
        pytest.param("a.yaml", MULTIPLIED, "stand for more than 100000 values, at line 6", id="multiplied"),
        pytest.param("a.yaml", MULTIPLIED.replace("[0]", "[]"), "stand for more than 100000", id="nothing"),
        ("a.yaml", "low: 2001-99-99", "'low' is '2001-99-99', it must be a number"),
        ("a.yaml", "low: !!int ''", "cannot be read: a value is not of the type that its tag"),
        ("a.json", '{"lo": 1}', "thing .*a.json: unknown key 'lo'; there are low, high"),
    ],
)
def test_a_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    with pytest.raises(BrokenError, match=f"thing .*{name} does not exist"):
        read_file(Inner, path, "thing", BrokenError)
    path.write_text(text)
    with pytest.raises(BrokenError, match=message) as caught:
        read_file(Inner, path, "thing", BrokenError)
    assert "\n" not in str(caught.value)


def test_a_merged_key_may_be_given_another_value(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("<<: &x {low: 1, high: 2}\nhigh: 3")
    assert read_file(Inner, path, "thing", BrokenError) == Inner(1.0, 3.0)


def test_a_value_may_stand_at_two_places() -> None:
    assert load_yaml("a: &x {b: &y [1]}\nc: [*x, *y]") == {"a": {"b": [1]}, "c": [{"b": [1]}, [1]]}


def test_all_yaml_is_read_by_the_one_function_that_checks_its_nesting() -> None:
    calls = re.compile(r"yaml\.(safe_|full_|unsafe_)?(load|compose)(_all)?\(")
    files = [path for path in ROOT.rglob("*.py") if calls.search(path.read_text(encoding="utf-8"))]
    assert [path.name for path in files] == ["settings.py"]


def test_yaml_and_json_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{low: 1, high: 2.5}")
    (tmp_path / "a.json").write_text(json.dumps({"low": 1, "high": 2.5}))
    for path in list(tmp_path.iterdir()):  # an editor may have put a byte order mark in front
        path.with_stem("marked").write_text(path.read_text(), encoding="utf-8-sig")
    read = [read_file(Inner, path, "thing", BrokenError) for path in sorted(tmp_path.iterdir())]
    assert read == [Inner(1.0, 2.5)] * 4
