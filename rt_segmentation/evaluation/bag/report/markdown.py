"""The result as Markdown: the numbers of the page in tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rt_segmentation.evaluation.bag.report import wording
from rt_segmentation.evaluation.bag.report.wording import interval, number, percent, score, seconds
from rt_segmentation.evaluation.bag.result import BagResult, Evaluation, ModelResult

SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
"""An underscore between letters is one."""


def to_markdown(result: Evaluation) -> str:
    """Sentences first, then tables; names and paths are escaped."""
    lines = ["# Bag evaluation", "", wording.summary(result)]
    if result.partial:
        lines += ["", f"**{wording.PARTIAL}**"]
    notes = [*result.problems, *result.notes, *wording.unmeasured(result)]
    if notes:
        lines += ["", *(f"- {escape(note)}" for note in notes)]
    lines += ["", "## Summary", ""]
    for model in result.models:
        clauses = "; ".join("".join(clause) for clause in wording.verdict(model, result))
        lines.append(f"- **{escape(model.name)}**: {escape(clauses)}.")
    lines += ["", *_models(result.models)]
    if result.comparisons:
        lines += ["", *(f"- {escape(wording.difference(c))}." for c in result.comparisons)]
        lines += ["", f"Intervals hold 95 %; {escape(result.comparisons[0].method)}."]
    lines += ["", "## Classes", "", *_classes(result), "", "## Bags", "", *_bags(result.bags)]
    return "\n".join([*lines, "", "## How it was made", "", *_origin(result)]) + "\n"


def escape(text: str) -> str:
    """Text that Markdown, and the HTML in it, take for text."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return SPECIAL.sub(r"\\\g<0>", text)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column on the left, the others, of numbers, on the right; the cells are escaped here."""
    lines = [f"| {' | '.join(escape(cell) for cell in row)} |" for row in (head, *rows)]
    return [lines[0], "|---|" + "---:|" * (len(head) - 1), *lines[1:]]


def _models(models: Sequence[ModelResult]) -> list[str]:
    head = ["model", "engine", "mean IoU", "95 % interval", "fps", "engine fps", "p50 ms", "p95 ms", "max ms"]
    rows = []
    for model in models:
        accuracy, latency = model.accuracy, model.latency_ms
        rows.append(
            [
                model.name,
                wording.engine(model),
                score(accuracy and accuracy.mean_iou),
                interval(accuracy and accuracy.interval) or wording.NOT_MEASURED,
                number(model.fps),
                number(model.engine_fps),
                *(number(latency and getattr(latency, key)) for key in ("p50", "p95", "max")),
                *(number(other and other.p95) for other in (model.inference_ms, model.age_ms)),
                percent(model.drop_rate),
                percent(model.mean_confidence),
                percent(model.temporal_consistency),
            ]
        )
    return _table([*head, "inference p95 ms", "age p95 ms", "dropped", "confidence", "consistency"], rows)


def _classes(result: Evaluation) -> list[str]:
    """IoU, where there is truth, and share of the pixels of each class by each model."""
    head, columns = ["class"], []
    for model in result.models:
        if model.accuracy is not None:
            head.append(f"{model.name} IoU")
            columns.append((model.accuracy.class_iou, score))
        head.append(f"{model.name} share")
        columns.append((model.class_shares, percent))
    names = [c.name for c in result.classes]
    return _table(head, [[name, *(say(values.get(name)) for values, say in columns)] for name in names])


def _bags(bags: Sequence[BagResult]) -> list[str]:
    rows = []
    for bag in bags:
        lost = wording.NOT_MEASURED if bag.lost is None else f"{bag.lost:,}"
        topics = (bag.image_topic or "none", bag.label_topic or "none")
        rows.append(
            [
                bag.path,
                *topics,
                f"{bag.frames:,}",
                seconds(bag.duration_s),
                lost,
                bag.problem or "",
            ]
        )
    return _table(["bag", "image topic", "label topic", "frames", "duration", "lost", "problem"], rows)


def _origin(result: Evaluation) -> list[str]:
    facts = {**result.machine, **result.versions, "commit": result.commit, "date": result.date}
    lines = [f"- {escape(name)}: {escape(value)}" for name, value in facts.items()]
    return [*lines, "", *(f"    {line}" for line in result.command.splitlines())]
