"""JUnit XML of a bag evaluation: its cases, failures and thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support.bag_result import make_result

from rt_segmentation.evaluation.bag.report.junit import Thresholds, check, passed, write_suites
from rt_segmentation.evaluation.bag.result import ReportError, from_plain


@pytest.fixture
def result(tmp_path: Path) -> dict[str, Any]:
    made: dict[str, Any] = make_result(tmp_path, bins=2, shown=0)
    return made


def write_junit(result: dict[str, Any], thresholds: Thresholds, path: Path) -> bool:
    suites = check(from_plain(result), thresholds)
    write_suites("rt_seg evaluate-bag", suites, path)
    return passed(suites)


def cases(path: Path) -> dict[tuple[str, str], str | None]:
    """The failure of each case of a JUnit file, by suite and name."""
    suites = ElementTree.parse(path).getroot()
    found = {}
    for suite in suites:
        failures = [case.find("failure") for case in suite]
        assert suite.get("tests") == str(len(suite))
        assert suite.get("failures") == str(sum(failure is not None for failure in failures))
        for case, failure in zip(suite, failures):
            found[suite.get("name", ""), case.get("name", "")] = (
                None if failure is None else failure.get("message")
            )
    return found


def test_junit_has_a_case_for_each_threshold_and_bag(result: dict[str, Any], tmp_path: Path) -> None:
    p95 = [model["latency_ms"]["p95"] for model in result["models"]]
    between = sum(p95) / 2
    assert not write_junit(result, Thresholds(0.1, between, 0.9), tmp_path / "junit.xml")
    found = cases(tmp_path / "junit.xml")
    assert {model for model, _ in found} == {"enet_town", "lednet_camvid"} and len(found) == 10
    assert [key for key, failure in found.items() if failure] == [
        ("lednet_camvid", f"95th percentile of latency [ms] at most {between:g}")
    ]
    assert write_junit(result, Thresholds(0.1, max(p95), 0.9), tmp_path / "junit.xml")


def test_junit_fails_for_bag_problems_and_writes_xml_of_any_text(
    result: dict[str, Any], tmp_path: Path
) -> None:
    result["bags"][0]["problem"] = "message 3 is broken: \x00<"
    assert not write_junit(result, Thresholds(), tmp_path / "junit.xml")
    assert "message 3 is broken: ?<" in cases(tmp_path / "junit.xml").values()


def test_junit_fails_for_a_bag_without_images(result: dict[str, Any], tmp_path: Path) -> None:
    result["bags"][0]["frames"] = 0
    assert not write_junit(result, Thresholds(), tmp_path / "junit.xml")
    assert list(cases(tmp_path / "junit.xml").values()).count("the bag has no images") == 2
    # One that was not begun is no empty one.
    result["partial"] = True
    assert not write_junit(result, Thresholds(), tmp_path / "junit.xml")
    assert "the bag has no images" not in cases(tmp_path / "junit.xml").values()


def test_a_threshold_on_what_was_not_measured_fails(result: dict[str, Any], tmp_path: Path) -> None:
    result["models"][0]["accuracy"] = None
    result["models"][1]["accuracy"]["mean_iou"] = float("nan")
    assert not write_junit(result, Thresholds(min_miou=0.0), tmp_path / "junit.xml")
    failures = [failure for failure in cases(tmp_path / "junit.xml").values() if failure]
    assert failures == ["the mean IoU was not measured; it must be at least 0"] * 2


@pytest.mark.parametrize("wrong", [{"min_miou": 50.0}, {"max_drop_rate": -0.1}, {"max_p95_ms": float("nan")}])
def test_thresholds_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ReportError, match="it must be"):
        Thresholds(**wrong)
