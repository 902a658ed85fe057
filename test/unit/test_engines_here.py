"""Which engines a benchmark times, and what it says of those that it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: no engine that is always there")

from rt_segmentation.commands.options import engines_here
from rt_segmentation.inference.engines import EngineError, EngineUnavailable, choosing, installed


@pytest.fixture
def without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = choosing.offered

    def missing(name: str) -> tuple[str, ...]:
        if name == "tensorrt":
            raise EngineUnavailable("engine 'tensorrt' needs the Python package 'tensorrt'")
        return offered(name)

    monkeypatch.setattr(choosing, "offered", missing)


def test_without_names_all_that_are_installed_are_timed() -> None:
    assert engines_here([], []) == installed()
    assert engines_here([], ["fp32"]) == [pair for pair in installed() if pair[1] == "fp32"]


@pytest.mark.usefixtures("without_tensorrt")
def test_an_engine_that_is_missing_is_said_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match="needs the Python package 'tensorrt'"):
        engines_here(["tensorrt"], [])
    assert engines_here(["tensorrt", "torch"], ["fp32"]) == [("torch", "fp32")]
    assert "left out: engine 'tensorrt' needs" in capsys.readouterr().err


def test_a_library_of_another_version_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_old.py").write_text("from json import what_it_will_have\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(choosing.ENGINES, "openvino", "of_old:Engine")
    with pytest.raises(EngineUnavailable, match="needs another version of the Python package 'json': cannot"):
        choosing.offered("openvino")


@pytest.mark.parametrize(
    ("engines", "precisions", "words"),
    [
        (["caffe"], [], "unknown engine 'caffe'; there are"),
        (["torch"], ["fp9"], "engine 'torch' has fp32.* here, not fp9"),
        ([], ["fp9"], "not fp9"),
    ],
)
def test_what_there_is_not_is_said(engines: list[str], precisions: list[str], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        engines_here(engines, precisions)
