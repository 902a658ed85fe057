"""The report of a bag evaluation: the page, Markdown, and the command that makes them again."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.bag_result import make_result

from rt_segmentation import cli
from rt_segmentation.evaluation.bag.report import write_report
from rt_segmentation.evaluation.bag.report.page import to_page
from rt_segmentation.evaluation.bag.report.pictures import TOTAL_BYTES
from rt_segmentation.evaluation.bag.report.wording import verdict
from rt_segmentation.evaluation.bag.result import FORMAT, ReportError, from_plain, read_result

pytest.importorskip("jinja2", reason="Jinja2 is not installed: no page")

VOID = {"meta", "img", "input", "link", "br"}
SVG_VOID = {"rect", "path"}
PAGE_BYTES = 15_000_000


class Page(HTMLParser):
    """The elements of a page; `problems` has what is not well formed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.problems: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.problems.append(f"<{tag}> has an attribute twice")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in SVG_VOID | VOID:
            self.problems.append(f"<{tag}/> closes nothing in HTML")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes another element, at {self.getpos()}")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("evaluation")
    return folder, make_result(folder, bins=40, shown=3)


@pytest.fixture
def result(made: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return copy.deepcopy(made[1])


@pytest.fixture
def page(made: tuple[Path, dict[str, Any]], result: dict[str, Any]) -> Callable[[], str]:
    return lambda: to_page(from_plain(result), made[0])


def test_a_result_of_before_is_read(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Of one that had no notes yet, and not all that is measured today."""
    old = copy.deepcopy(made[1])
    assert "notes" not in old and "lacks_truth" not in old
    for model in old["models"]:
        del model["age_ms"]
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(old))
    read = read_result(path)
    assert read.notes == () and read.models[0].age_ms is None
    plain = read.to_plain()
    assert plain["models"][0]["timeline"][3]["shares"] == old["models"][0]["timeline"][3]["shares"]
    assert from_plain(json.loads(json.dumps(plain))) == read


def without_truth(result: dict[str, Any]) -> None:
    result["comparisons"] = []
    for model in result["models"]:
        model["accuracy"] = None
        for part in (*model["timeline"], *model["shown"]):
            part["mean_iou"] = None
        for frame in model["shown"]:
            frame["truth"] = None


def visible(html: str) -> str:
    """The text of a page, blanks collapsed."""
    html = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", "", html).split())


def test_both_files_are_written_into_a_new_folder(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    files = write_report(from_plain(made[1]), tmp_path / "new" / "report", made[0])
    assert [path.name for path in files] == ["index.html", "report.md"]
    assert all(path.stat().st_size > 1000 for path in files)


def test_page_is_well_formed_and_accessible(page: Callable[[], str]) -> None:
    parsed = Page(page())
    assert not parsed.problems
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for a in parsed.all("a")} | {
        f"#{a['aria-labelledby']}" for _, a in parsed.elements if "aria-labelledby" in a
    }
    assert targets <= {f"#{name}" for name in ids}
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert all(a.get("scope") in ("row", "col") for a in parsed.all("th"))
    assert all(a.get("alt") for a in parsed.all("img"))
    assert all(a.get("role") == "img" and a.get("aria-label") for a in parsed.all("svg"))
    assert all(len(parsed.all(tag)) == 1 for tag in ("main", "header", "nav"))
    assert parsed.all("html") == [{"lang": "en"}]


def test_page_needs_no_other_file(page: Callable[[], str]) -> None:
    html = page()
    parsed = Page(html)
    assert all(str(a["src"]).startswith("data:image/jpeg;base64,") for a in parsed.all("img"))
    assert not parsed.all("link") and not any("src" in a for a in parsed.all("script"))
    assert "http://" not in html and "https://" not in html and "@import" not in html and "url(" not in html


def test_page_and_markdown_say_the_same_numbers(
    made: tuple[Path, dict[str, Any]], result: dict[str, Any], tmp_path: Path
) -> None:
    for path in write_report(from_plain(result), tmp_path, made[0]):
        text = path.read_text()
        for model in result["models"]:
            assert f"{model['accuracy']['mean_iou']:.3f}" in text
            assert " to ".join(f"{bound:.3f}" for bound in model["accuracy"]["interval"]) in text
            assert f"{model['latency_ms']['p95']:.1f} ms" in text
            assert f"{100 * model['drop_rate']:.1f} % of the frames dropped" in re.sub("</?strong>", "", text)
            for iou in model["accuracy"]["class_iou"].values():
                assert ("n/a" if iou is None else f"{iou:.3f}") in text
        assert "more than noise" in text


def test_names_and_sentences_are_escaped(
    made: tuple[Path, dict[str, Any]], result: dict[str, Any], tmp_path: Path
) -> None:
    evil = '<script>alert("1")</script>'
    result["classes"][0]["name"] = evil
    for model in result["models"]:
        for part in (model["accuracy"]["class_iou"], model["class_shares"]):
            part[evil] = part.pop("Sky")
        model["name"] = f"{evil}|_x_"
    result["problems"], result["command"], result["bags"][0]["path"] = [evil], evil, evil
    result["bags"][0]["problem"] = evil
    scripts = len(Page(to_page(from_plain(made[1]), made[0])).all("script"))
    page, markdown = write_report(from_plain(result), tmp_path, made[0])
    parsed = Page(page.read_text())
    assert not parsed.problems and len(parsed.all("script")) == scripts == 1
    tables = [line for line in markdown.read_text().splitlines() if not line.startswith("    ")]
    assert not any("<script" in line for line in tables)
    columns = {
        len(re.findall(r"(?<!\\)\|", line))
        for line in tables
        if line.startswith("| &lt;") and "openvino" in line
    }
    assert columns == {15}


def test_without_ground_truth_its_parts_are_left_out_and_it_is_said(
    result: dict[str, Any], page: Callable[[], str]
) -> None:
    without_truth(result)
    html = page()
    text = visible(html)
    assert "There was no ground truth: IoU and confusion are left out." in text
    assert not [a for a in Page(html).all("table") if "matrix" in (a.get("class") or "")]
    assert "Truth" not in text and "Mean IoU" not in text and "worst first" not in text


def test_partial_results_and_problems_come_first(result: dict[str, Any], page: Callable[[], str]) -> None:
    result["partial"], result["problems"] = True, ["night.mcap breaks at message 4711"]
    text = visible(page())
    assert "interrupted" in text
    assert text.index("4711") < text.index("Mean IoU")


def test_a_result_without_frames_or_engine_is_a_page_too(
    result: dict[str, Any], page: Callable[[], str]
) -> None:
    without_truth(result)
    for model in result["models"]:
        empty = dict.fromkeys(("engine", "precision", "device", "input_size", "engine_fps", "fps"))
        empty.update(dict.fromkeys(("latency_ms", "inference_ms", "mean_confidence", "temporal_consistency")))
        model.update(empty, timeline=[], shown=[], received=0, segmented=0, dropped={}, drop_rate=0.0)
        model["latency_histogram"] = {"edges_ms": [], "counts": []}
    assert not Page(page()).problems


def test_nan_is_shown_as_not_measured(result: dict[str, Any], page: Callable[[], str]) -> None:
    nan = float("nan")
    accuracy = result["models"][0]["accuracy"]
    accuracy.update(mean_iou=nan, interval=[nan, nan], class_iou=dict.fromkeys(accuracy["class_iou"], nan))
    result["models"][0]["timeline"][3].update(mean_iou=nan, latency_p50_ms=nan, shares=[nan] * 11)
    html = page()
    assert "nan" not in re.sub(r"<(style|script)>.*?</\1>|base64,[^\"]*", "", html, flags=re.DOTALL).lower()


def test_short_bins_with_empty_ones_between_are_no_gaps(
    result: dict[str, Any], page: Callable[[], str]
) -> None:
    """A camera of 10 Hz in bins of 50 ms fills every second bin."""
    for model in result["models"]:
        for i, part in enumerate(model["timeline"]):
            part.update(t_s=0.1 * i, span_s=0.05, received=1, segmented=1, dropped=0)
    html = page()
    line = re.search(r'class="line median" d="([^"]*)"', html)
    assert line is not None and line[1].count("M") == 1
    result["models"][0]["timeline"][-1]["t_s"] += 10.0
    line = re.search(r'class="line median" d="([^"]*)"', page())
    assert line is not None and line[1].count("M") == 2


def test_drops_have_a_chart_or_a_sentence(result: dict[str, Any], page: Callable[[], str]) -> None:
    for model in result["models"]:
        for part in model["timeline"]:
            part["dropped"] = 0
    assert visible(page()).count("No frame was dropped.") == 2
    result["models"][0]["timeline"][5].update(dropped=2, received=5)
    html = page()
    assert visible(html).count("No frame was dropped.") == 1
    assert [a["height"] for a in Page(html).all("rect") if a["class"] == "dropped"] == ["40.0"]


def test_columns_of_the_confusion_are_those_of_the_counts(
    result: dict[str, Any], page: Callable[[], str]
) -> None:
    counts = [[0] * 12 for _ in range(11)]
    counts[3][3], counts[3][4], counts[3][11] = 70, 20, 10
    result["models"][0]["accuracy"]["confusion"] = counts
    html = page()
    assert 'title="Road as Road: 70.00 %, 70 pixels">70</td>' in html
    assert 'title="Road as Pavement: 20.00 %, 20 pixels">20</td>' in html
    assert 'title="Road as no class: 10.00 %, 10 pixels">10</td>' in html
    assert "Sky as Sky" not in html.split('id="model-2"')[0]  # no true pixel, no row


def test_missing_and_foreign_pictures_are_said(
    made: tuple[Path, dict[str, Any]], result: dict[str, Any], page: Callable[[], str], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("not a picture")
    result["models"][0]["shown"][0]["overlay"] = "frames/gone.jpg"
    result["models"][0]["shown"][1]["truth"] = str(secret)
    html = page()
    assert f"Pictures that could not be read: frames/gone.jpg, {secret}." in visible(html)


def test_many_large_pictures_are_reduced(
    made: tuple[Path, dict[str, Any]], result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = len(to_page(from_plain(result), made[0]))
    monkeypatch.setattr("rt_segmentation.evaluation.bag.report.pictures.TOTAL_BYTES", 150_000)
    reduced = to_page(from_plain(result), made[0])
    assert len(reduced) < full - 100_000
    assert reduced.count("<img") == 2 * 3 * 3
    assert "Pictures are reduced" in visible(reduced)


def test_large_result_stays_small_enough_to_open(tmp_path: Path) -> None:
    large = make_result(tmp_path, models=8, labels="cityscapes34", bins=400, shown=1)
    pictures = TOTAL_BYTES * 4 // 3
    html = to_page(from_plain(large), tmp_path)
    own = sum(len(str(a["src"])) for a in Page(html).all("img"))
    assert len(html) - own + pictures < PAGE_BYTES


@pytest.mark.parametrize(
    ("mode", "fps", "said"),
    [
        ("throughput", 20.0, "2 x the recorded rate: it keeps up with the camera"),
        ("throughput", 5.0, "0.5 x the recorded rate: too slow for the camera"),
        ("realtime", 10.0, "10.0 frames per second"),
    ],
)
def test_verdict_says_whether_the_model_keeps_up(
    result: dict[str, Any], mode: str, fps: float, said: str
) -> None:
    result["mode"], result["models"][0]["fps"] = mode, fps
    read = from_plain(result)
    assert said in "".join("".join(clause) for clause in verdict(read.models[0], read))


def test_command_makes_the_report_again(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, result = made
    file = folder / "evaluation.json"
    file.write_text(json.dumps(result))
    command = ["report", str(file), "--out", str(tmp_path), "--junit", str(tmp_path / "junit.xml")]
    assert cli.main([*command, "--fail-under-miou", "0.1"]) == 0
    assert (tmp_path / "index.html").is_file() and (tmp_path / "junit.xml").is_file()
    assert "Pictures that could not be read" not in (tmp_path / "index.html").read_text()
    with pytest.raises(SystemExit) as status:
        cli.main([*command, "--fail-under-miou", "0.99"])
    assert status.value.code == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read: Expecting"),
        ("[]", "is not a mapping"),
        ('{"format": "x"}', "not the result of a bag evaluation: its format is 'x'"),
        (json.dumps({"format": FORMAT}), "key 'partial' is missing"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(ReportError, match=said):
        read_result(path)
