"""The result as JUnit XML, which continuous integration reads: a case for each threshold and for each bag."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rt_segmentation.evaluation.bag.report.wording import measured
from rt_segmentation.evaluation.bag.result import Evaluation, ModelResult, ReportError
from rt_segmentation.files import write_atomically

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Thresholds:
    """What a model must reach; None asks for nothing.

    Attributes:
        min_miou: the least mean IoU, 0 to 1.
        max_p95_ms: the largest 95th percentile of latency [ms].
        max_drop_rate: the largest share of frames dropped, 0 to 1.

    Raises:
        ReportError: one is out of range.
    """

    min_miou: float | None = None
    max_p95_ms: float | None = None
    max_drop_rate: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("mean IoU", self.min_miou), ("drop rate", self.max_drop_rate)):
            if value is not None and not 0 <= value <= 1:
                raise ReportError(f"the threshold on the {name} is {value:g}; it must be from 0 to 1")
        if self.max_p95_ms is not None and not self.max_p95_ms > 0:
            raise ReportError(f"the threshold on the latency is {self.max_p95_ms:g} ms; it must be above 0")


@dataclass(frozen=True)
class Case:
    """Something that holds, or a sentence about why not."""

    name: str
    failure: str | None


def check(result: Evaluation, thresholds: Thresholds) -> dict[str, list[Case]]:
    """Cases of each model: its thresholds, whether the evaluation is complete, and whether each bag is whole.

    A threshold on what was not measured fails.
    """
    shared = list(_bag_cases(result))
    return {model.name: [*_model_cases(model, thresholds), *shared] for model in result.models}


def write_suites(name: str, suites: Mapping[str, list[Case]], path: Path) -> None:
    """Write test suites of any command.

    Args:
        name: of the command.
        suites: cases by a suite's name.
        path: of the file.

    Raises:
        OSError: the file cannot be written.
    """
    root = ElementTree.Element("testsuites", name=name)
    for title, cases in suites.items():
        failures = sum(case.failure is not None for case in cases)
        counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0", "skipped": "0"}
        suite = ElementTree.SubElement(root, "testsuite", {"name": _text(title), **counts})
        for case in cases:
            element = ElementTree.SubElement(suite, "testcase", classname=_text(title), name=_text(case.name))
            if case.failure is not None:
                ElementTree.SubElement(element, "failure", message=_text(case.failure))
    ElementTree.indent(root)
    write_atomically(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def missed(result: Evaluation, thresholds: Thresholds) -> list[str]:
    """Sentences about the thresholds that a model misses."""
    return [
        f"{model.name}: {case.failure}"
        for model in result.models
        for case in _model_cases(model, thresholds)
        if case.failure is not None
    ]


def passed(suites: Mapping[str, list[Case]]) -> bool:
    """Whether no case failed."""
    return all(case.failure is None for cases in suites.values() for case in cases)


def is_refused(suites: Mapping[str, list[Case]], thresholds: Thresholds, junit: Path | None) -> bool:
    """Whether a case failed where a verdict was asked for: by a threshold, or as a JUnit file."""
    return (junit is not None or thresholds != Thresholds()) and not passed(suites)


def _model_cases(model: ModelResult, thresholds: Thresholds) -> Iterator[Case]:
    accuracy, latency = model.accuracy, model.latency_ms
    if thresholds.min_miou is not None:
        yield _case("mean IoU", accuracy and accuracy.mean_iou, thresholds.min_miou, least=True)
    if thresholds.max_p95_ms is not None:
        yield _case("95th percentile of latency [ms]", latency and latency.p95, thresholds.max_p95_ms)
    if thresholds.max_drop_rate is not None:
        yield _case("drop rate", model.drop_rate, thresholds.max_drop_rate)


def _case(what: str, value: float | None, limit: float, least: bool = False) -> Case:
    bound = "at least" if least else "at most"
    name = f"{what} {bound} {limit:g}"
    found = measured(value)
    if found is None:
        return Case(name, f"the {what} was not measured; it must be {bound} {limit:g}")
    holds = found >= limit if least else found <= limit
    return Case(name, None if holds else f"the {what} is {found:.4g}; it must be {bound} {limit:g}")


def _bag_cases(result: Evaluation) -> Iterator[Case]:
    yield Case("evaluation complete", "the evaluation was interrupted" if result.partial else None)
    if result.lacks_truth:
        yield Case("ground truth used", "ground truth was asked for, and no frame could be compared with it")
    for bag in result.bags:
        # After an interruption there are bags that were not begun.
        empty = "the bag has no images" if not (bag.frames or result.partial) else None
        yield Case(f"bag {bag.path} whole", bag.problem or empty)


def _text(text: str) -> str:
    """Without the characters that XML 1.0 has no way to write."""
    return NOT_XML.sub("?", text)
