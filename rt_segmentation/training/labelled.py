"""Labelled pixels: without them there is nothing to learn from, or nothing to measure by."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from rt_segmentation.data.dataset import DatasetError, SegmentationDataset, name_some
from rt_segmentation.data.selection import leave_out
from rt_segmentation.data.statistics import ClassCounts
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.training.errors import TrainingError
from rt_segmentation.training.recipe import Recipe

OF_EVALUATED = " of a class that is evaluated"


def check_training(recipe: Recipe, parts: Sequence[ClassCounts]) -> list[str]:
    """Refuse frames to train on of which none has a labelled pixel, unless teachers label them.

    Args:
        recipe: of the training.
        parts: classes of each data set's frames; where no fold is left out, in the order of the recipe.

    Returns:
        A sentence for each data set without a labelled pixel beside others that have some.

    Raises:
        TrainingError: no data set has a labelled pixel.
    """
    if recipe.distillation.teachers:
        return []
    fold = _fold(recipe)
    labelled = [bool(part.pixels.any()) for part in parts]
    if not any(labelled):
        which = f"without the fold {fold}" if fold else names_of(recipe.train)
        raise TrainingError(
            f"the frames that recipe '{recipe.name}' trains on ({which}) have no labelled pixel; give it data"
            " with labels"
        )
    if fold:
        return []
    return [
        f"no frame of {names_of([description])} has a labelled pixel: it teaches nothing"
        for description, has_labels in zip(recipe.train, labelled)
        if not has_labels
    ]


def check_validation(recipe: Recipe, counts: ClassCounts, ignored: Collection[int]) -> None:
    """Refuse frames to validate on that have no labelled pixel of a class that is evaluated.

    Args:
        recipe: of the training.
        counts: classes of all frames to validate on.
        ignored: classes that the validation leaves out.

    Raises:
        TrainingError: there is nothing to measure.
    """
    present = set(np.flatnonzero(counts.pixels).tolist())
    if present.difference(ignored):
        return
    fold = _fold(recipe)
    which = f"the fold {fold}" if fold else names_of([recipe.validation])
    raise TrainingError(
        f"the frames that recipe '{recipe.name}' validates on ({which}) have no labelled pixel"
        + (OF_EVALUATED if present else "")
        + f"; give it a {'fold' if fold else 'split'} with labels"
    )


def check_folds(
    recipe: Recipe, pool: Sequence[SegmentationDataset], pattern: re.Pattern[str], names: Iterable[str]
) -> None:
    """Refuse folds that nothing can measure, before the first of them is trained.

    Of each fold frames are read up to the first with labels. A frame that cannot be read is left to the
    training, which names all of them.

    Args:
        recipe: of the folds.
        pool: the data sets whose frames they group.
        pattern: groups them.
        names: of the folds to look at.

    Raises:
        TrainingError: some folds have no labelled pixel of a class that is evaluated.
    """
    lacking = []
    for name in names:
        _, left = leave_out(pool, pattern, name)
        with suppress(DatasetError):
            unscored = np.array([*left.ignored_ids, IGNORE_ID])
            if all(np.isin(left[index].labels, unscored).all() for index in range(len(left))):
                lacking.append(name)
    if lacking:
        raise TrainingError(
            f"recipe '{recipe.name}' has folds whose frames have no labelled pixel{OF_EVALUATED}, so that"
            f" nothing can measure their models: {name_some(lacking)}; give it a pattern whose groups all"
            " have labels"
        )


def _fold(recipe: Recipe) -> str:
    """The fold that is left out; '' if none is."""
    return recipe.folds.leave_out if recipe.folds is not None else ""


def names_of(descriptions: Iterable[Mapping[str, Any]]) -> str:
    """Data sets and their splits, as recipes name them."""
    return ", ".join(
        " ".join(str(part[key]) for key in ("dataset", "split") if part.get(key)) for part in descriptions
    )
