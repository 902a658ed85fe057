"""The result as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rt_segmentation.evaluation.bag.report import wording
from rt_segmentation.evaluation.bag.report.charts import QUALITIES, TimeCharts, histogram
from rt_segmentation.evaluation.bag.report.pictures import KINDS, Pictures
from rt_segmentation.evaluation.bag.result import ClassColor, Evaluation, ModelResult, ReportError

TEMPLATES = Path(__file__).parent / "templates"
FILTERS = ("measured", "number", "percent", "score", "interval", "seconds", "engine")
NO_CLASS = "no class"
DENSE_COLUMNS = 20
"""A matrix of more columns is set in small letters."""


def to_page(result: Evaluation, pictures: Path) -> str:
    """HTML that needs no other file and no network.

    Args:
        result: of an evaluation.
        pictures: the folder that the result's paths of pictures start from.

    Raises:
        ReportError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ReportError("the page needs Jinja2, which is not installed: pip install jinja2") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(wording, name) for name in FILTERS})
    embedded = Pictures(result, pictures)
    models = [_model(model, result, embedded) for model in result.models]
    return environment.get_template("index.html").render(
        result=result,
        models=models,
        has_truth=any(model.accuracy is not None for model in models),
        summary=wording.summary(result),
        differences=[wording.difference(comparison) for comparison in result.comparisons],
        partial=wording.PARTIAL,
        left_out=[*result.notes, *wording.unmeasured(result)],
        pictures=embedded,
    )


def _model(model: ModelResult, result: Evaluation, pictures: Pictures) -> SimpleNamespace:
    """A model of the result with what the page shows of it: sentences, charts, pictures, the matrix."""
    frames = [{**vars(f), **{kind: pictures.uri(getattr(f, kind)) for kind in KINDS}} for f in model.shown]
    charts = TimeCharts(model) if model.timeline else None
    more = {
        "verdict": wording.verdict(model, result),
        "frames": [frame for frame in frames if frame["image"] and frame["overlay"]],
        "histogram": histogram(model),
        "timeline": charts
        and {
            "latency": charts.latency(),
            "drops": charts.drops(),
            "quality": charts.quality(),
            "qualities": {key: QUALITIES[key] for key in charts.qualities()},
            "shares": charts.shares(result.classes),
        },
        "matrix": model.accuracy and _matrix(model.accuracy.confusion, result.classes),
    }
    return SimpleNamespace(**{**vars(model), **more})


def _matrix(counts: Sequence[Sequence[int]], classes: Sequence[ClassColor]) -> dict[str, Any] | None:
    """The confusion matrix by rows: the pixels of each true class, and where they went; None without any.

    A class without true pixels has no row. The counts may have one more column, of pixels predicted as no
    class; it is shown where it is not empty.
    """
    names = [c.name for c in classes]
    columns = [*names, NO_CLASS] if any(any(row[len(names) :]) for row in counts) else names
    rows = []
    for i, (c, row) in enumerate(zip(classes, counts)):
        total = sum(row)
        if total:
            cells = [
                {"share": count / total, "count": count, "right": i == j, "column": column}
                for j, (column, count) in enumerate(zip(columns, row))
            ]
            rows.append({"name": c.name, "color": c.color, "cells": cells})
    return {"columns": columns, "rows": rows, "dense": len(columns) > DENSE_COLUMNS} if rows else None
