"""The report of a bag evaluation as people see it: its colours, and the page in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from support.bag_result import make_result

pytest.importorskip("jinja2", reason="Jinja2 is not installed: no page")

from rt_segmentation.evaluation.bag.report.page import TEMPLATES, to_page
from rt_segmentation.evaluation.bag.result import from_plain


def test_colours_have_contrast_in_both_modes() -> None:
    """WCAG 2.1 AA: 4.5 to 1 for text, also on the darkest cell of a matrix; 3 to 1 for lines and bars."""
    style = (TEMPLATES / "style.css").read_text()
    strength = dict(zip(("wrong", "right"), re.findall(r"var\(--share, 0\) \* ([\d.]+)", style)))
    for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL):
        colors = {
            name: [int(value[i : i + 2], 16) for i in (0, 2, 4)]
            for name, value in re.findall(r"--(\w+): #(\w{6})", block)
        }
        for text in ("ink", "muted", "accent", "bad"):
            assert contrast(colors[text], colors["paper"]) >= 4.5, text
        assert contrast(colors["ink"], colors["note"]) >= 4.5
        assert contrast(colors["ink"], colors["panel"]) >= 4.5
        for line in ("accent", "second", "third", "bad"):
            assert contrast(colors[line], colors["paper"]) >= 3, line
        for name, alpha in strength.items():
            tint = re.search(rf"--{name}: (\d+) (\d+) (\d+)", block)
            assert tint is not None
            cell = [
                float(alpha) * int(t) + (1 - float(alpha)) * p for t, p in zip(tint.groups(), colors["paper"])
            ]
            assert contrast(colors["ink"], cell) >= 4.5, name


def contrast(one: list[int], other: list[Any]) -> float:
    low, high = sorted(luminance(color) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def luminance(color: list[Any]) -> float:
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


# Runs in the page, inside a frame 360 px wide, and leaves what it found for --dump-dom.
PROBE = """
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
addEventListener("load", () => {
  const strip = document.querySelector(".strip");
  const shown = () => [...strip.querySelectorAll("figure")].findIndex((f) => f.offsetWidth > 0);
  const press = (target, key) =>
    target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const seen = [shown()];
  strip.querySelector(".next").click(); seen.push(shown());
  press(strip.querySelector(".frames"), "ArrowRight"); seen.push(shown());
  press(strip.querySelector(".frames"), "ArrowRight"); seen.push(shown());
  const slider = strip.querySelector("input[type=range]");
  slider.value = 1; slider.dispatchEvent(new Event("input")); seen.push(shown());
  const overlay = strip.querySelector(".overlay");
  const views = [getComputedStyle(overlay).visibility];
  strip.querySelector("[value=image]").click();
  views.push(getComputedStyle(overlay).visibility);
  strip.querySelector("[value=truth]").click();
  views.push(getComputedStyle(strip.querySelector(".truth")).visibility);
  const cell = document.querySelector(".matrix td");
  cell.focus();
  press(cell, "ArrowRight");
  const broken = [...document.images].filter((image) => image.naturalWidth === 0).length;
  parent.postMessage(JSON.stringify({
    errors, seen, views, broken, width: innerWidth, wide: document.documentElement.scrollWidth,
    spoken: slider.getAttribute("aria-valuetext"),
    readout: document.querySelector(".readout").textContent,
    second: document.activeElement === document.querySelectorAll(".matrix td")[1],
  }), "*");
});
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("Chromium is not installed: the page is checked by its structure alone")
    return found


def test_page_in_a_browser(chromium: str, tmp_path: Path) -> None:
    """On a phone's width: no errors, no sideways scrolling, and slider, views and matrix work."""
    page = to_page(from_plain(make_result(tmp_path, bins=40, shown=3)), tmp_path)
    (tmp_path / "page.html").write_text(page.replace("<script>", f"<script>{PROBE}", 1))
    (tmp_path / "phone.html").write_text(
        "<script>onmessage = (event) => document.querySelector('p').textContent = event.data</script>"
        "<p></p><iframe src='page.html' style='width:360px;height:800px;border:0'></iframe>"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [chromium, *options, "--virtual-time-budget=20000", "--dump-dom", f"file://{tmp_path}/phone.html"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    answer = re.search(r"<p>(\{.*?\})</p>", done.stdout, re.DOTALL)
    assert answer is not None, done.stdout[:2000] + done.stderr[-2000:]
    found = json.loads(unescape(answer[1]))
    assert found["errors"] == [] and found["broken"] == 0
    assert found["width"] == 360 and found["wide"] <= 360
    assert found["seen"] == [0, 1, 2, 2, 0]
    assert found["views"] == ["visible", "hidden", "visible"]
    assert found["spoken"].startswith("1 of 3")
    assert found["second"] and found["readout"].startswith("Sky as Building")
