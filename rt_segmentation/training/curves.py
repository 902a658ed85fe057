"""The curves of a training as a picture."""

from __future__ import annotations

import io
from pathlib import Path

from rt_segmentation.files import write_atomically


def draw_curves(rows: list[dict[str, float]], metric: str, path: Path) -> None:
    """Draw loss, learning rate, the validation's metric and the IoU of each class, by step.

    Args:
        rows: as `History` has them.
        metric: of the validation, as 'mean_iou'.
        path: of the PNG, replaced whole or not at all.
    """
    # The classes without pyplot: no window system, no global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    (loss, score), (rate, classes) = figure.subplots(2, 2, sharex=True)
    for axes, column in ((loss, "loss"), (rate, "learning_rate"), (score, metric)):
        axes.plot(*_series(rows, column), marker="." if column == metric else "")
        axes.set(ylabel=column.replace("_", " ").replace("iou", "IoU"))
    loss.set_yscale("log")
    steps, values = _series(rows, metric)
    if values:
        best = max(range(len(values)), key=values.__getitem__)
        score.axhline(values[best], color="0.7", linewidth=0.8, zorder=0)
        score.set_title(f"best {values[best]:.4f} at step {steps[best]}", fontsize="medium")
    names = dict.fromkeys(column for row in rows for column in row if column.startswith("iou/"))
    for i, column in enumerate(names):
        # Ten colours, then the same ones dashed.
        classes.plot(
            *_series(rows, column), f"C{i % 10}", linestyle="-" if i < 10 else "--", label=column[4:]
        )
    if names:
        classes.set(ylabel="IoU")
        classes.legend(fontsize="x-small", ncols=2)
    for axes in (rate, classes):
        axes.set(xlabel="step")
    for axes in (loss, score, rate, classes):
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100, format="png")
    write_atomically(path, picture.getvalue())


def _series(rows: list[dict[str, float]], column: str) -> tuple[list[float], list[float]]:
    points = [(row["step"], row[column]) for row in rows if column in row]
    return [step for step, _ in points], [value for _, value in points]
