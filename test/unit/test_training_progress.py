"""What a training says in a log, where no bar can be drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

from support.small_training import here, write_recipe

from rt_segmentation.training import progress
from rt_segmentation.training.recipe import load_recipe
from rt_segmentation.training.run import train

ON_THE_WAY = r"epoch (\d)/2, batch (\d)/3: loss \d\.\d{4}, \d+:\d\d:\d\d left"
VALIDATED = r"epoch 2/2: loss \d\.\d{4}, mean IoU 0\.\d{4}, 0:00:00 left"
ALL_BATCHES = [(epoch, batch) for epoch in "12" for batch in "123"]


@pytest.mark.parametrize(("seconds_between_lines", "batches"), [(0.0, ALL_BATCHES), (3600.0, [])])
def test_a_log_has_a_line_a_while_and_one_after_a_validation(
    seconds_between_lines: float,
    batches: list[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds_between_lines)
    train(load_recipe(write_recipe(tmp_path)), None, tmp_path / "out", here())
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [match.groups() for line in said if (match := re.fullmatch(ON_THE_WAY, line))] == batches
    assert re.fullmatch(VALIDATED, said[-1])
