"""Cross-validation: for each group of frames a training without it, measured on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rt_segmentation.data.dataset import SegmentationDataset
from rt_segmentation.data.selection import frame_names, group_of, groups_of
from rt_segmentation.files import write_atomically
from rt_segmentation.labels import load_label_set
from rt_segmentation.models import ModelError
from rt_segmentation.training.data import open_dataset
from rt_segmentation.training.data_record import DataRecord
from rt_segmentation.training.distillation import find_teachers
from rt_segmentation.training.errors import TrainingError
from rt_segmentation.training.initialise import find_start
from rt_segmentation.training.labelled import check_folds
from rt_segmentation.training.machine import Machine
from rt_segmentation.training.recipe import Folds, Recipe, RecipeError, load_recipe
from rt_segmentation.training.run import CHECKPOINT_S, pooled_datasets, train
from rt_segmentation.training.run_folder import RunFolder
from rt_segmentation.training.store import SCORE_FILE

FOLDER = "folds"
"""Of the folds' runs, in the recipe's run folder."""


@dataclass(frozen=True)
class Fold:
    """What came out of one.

    Attributes:
        name: of the group that was left out.
        mean_iou: on the group's frames.
        class_iou: by class; of the classes that occur.
        frames: of the group.
        training: of the model's manifest.
        model: the manifest's file.
    """

    name: str
    mean_iou: float
    class_iou: dict[str, float]
    frames: int
    training: dict[str, Any]
    model: Path


def fold_recipe(recipe: Recipe, name: str, out: Path) -> Recipe:
    """The recipe of one fold: as the given one, but without the group's frames, which measure it.

    The last weights are kept: to choose an epoch by the frames that measure it would flatter the score. Of a
    start or teacher whose own folds have been trained into `out`, the model of the same fold is taken.

    Raises:
        RecipeError: the recipe has no folds.
    """
    return replace(
        recipe,
        name=f"{recipe.name}_{name}",
        aliases=(),
        keep="last",
        folds=replace(_folds(recipe), leave_out=name),
        init_from=_of_fold(recipe.init_from, name, out),
        distillation=replace(
            recipe.distillation,
            teachers=tuple(_of_fold(teacher, name, out) for teacher in recipe.distillation.teachers),
        ),
    )


def _of_fold(model: str, name: str, out: Path) -> str:
    """A model's name, or the manifest of its fold where that has ended."""
    run = out / model / FOLDER / f"{model}_{name}"
    return str(run / f"{run.name}.yaml") if model and (run / SCORE_FILE).is_file() else model


def fold_sizes(recipe: Recipe, data_root: Path | None) -> dict[str, int]:
    """How many frames each fold leaves out, by its name.

    Raises:
        RecipeError, DatasetError: the recipe has no folds, or its pattern makes none of these data.
    """
    pattern = re.compile(_folds(recipe).by)
    return groups_of(_pool(recipe, data_root), pattern)


def cross_validate(
    recipe: Recipe,
    data_root: Path | None,
    out: Path,
    machine: Machine,
    *,
    only: str = "",
    max_hours: float | None = None,
    compiled: bool = False,
    checkpoint_s: float = CHECKPOINT_S,
) -> Path:
    """Train and measure one model for each fold, and write ``OUT/NAME/folds.yaml`` and ``folds.md``.

    The folds' runs are in ``OUT/NAME/folds``. A fold that has ended there is not trained again, and one that
    was killed is resumed.

    Args:
        recipe: with the key `folds`.
        data_root: folder of the recipe's data sets.
        out: where the recipe's run folder goes.
        machine: what to train on; with several processes each calls this.
        only: name of the one fold to train; '' trains all.
        max_hours: of each fold, as for `train`.
        compiled: as for `train`.
        checkpoint_s: as for `train`.

    Returns:
        The table, ``folds.md``.

    Raises:
        RecipeError, DatasetError: the recipe has no folds, or its pattern makes none of these data.
        TrainingError: there is no fold of the name `only`, a model that a fold would start from has seen the
            fold's frames, a fold's frames have no labels, or what `train` raises.
    """
    sizes = fold_sizes(recipe, data_root)
    if only and only not in sizes:
        raise TrainingError(f"recipe '{recipe.name}' has no fold '{only}'; it has {', '.join(sizes)}")
    chosen = {name: fold_recipe(recipe, name, out) for name in ([only] if only else sizes)}
    folder = out / recipe.name / FOLDER
    data = DataRecord.of(recipe, data_root)

    def ended() -> list[Fold | None]:
        runs = [fold_recipe(recipe, name, out) for name in sizes]
        return [_ended(folder / of_fold.name, of_fold, data, out, True) for of_fold in runs]

    # A fold of another recipe, or of other data, is in the way of the table: that is said before anything is
    # trained.
    ended()
    for name, of_fold in chosen.items():
        _refuse_seen(of_fold, name, data_root, out)
    check_folds(recipe, _pool(recipe, data_root), re.compile(_folds(recipe).by), chosen)
    table = out / recipe.name / "folds.md"
    for name, of_fold in chosen.items():
        if machine.share.rank == 0:
            print(f"fold {name}: {sizes[name]} frames left out", flush=True)
        if _ended(folder / of_fold.name, of_fold, data, out, max_hours is not None) is None:
            train(
                of_fold,
                data_root,
                folder,
                machine,
                max_hours=max_hours,
                compiled=compiled,
                checkpoint_s=checkpoint_s,
                starts=out,
            )
        if machine.share.rank == 0:
            _write(table, recipe, sizes, [fold for fold in ended() if fold is not None])
    return table


def _folds(recipe: Recipe) -> Folds:
    if recipe.folds is None:
        raise RecipeError(
            f"recipe '{recipe.name}' has no key 'folds'; give it one, as folds: {{by: '^([^_]+)_'}}, whose"
            " pattern finds the group in a frame's name"
        )
    return recipe.folds


def _pool(recipe: Recipe, data_root: Path | None) -> list[SegmentationDataset]:
    labels = load_label_set(recipe.label_set)
    training = [open_dataset(part, data_root, labels) for part in recipe.train]
    return pooled_datasets(recipe, training, open_dataset(recipe.validation, data_root, labels))


def _ended(run: Path, recipe: Recipe, data: DataRecord, starts: Path, fitted: bool) -> Fold | None:
    """What a fold's run has come to; None if it has not ended.

    Raises:
        ModelError: a teacher of the run is not there any more.
        TrainingError: the run is of another recipe, or of other data or teachers.
    """
    folder = RunFolder(run)
    if not folder.recipe.is_file():
        return None
    folder.check(recipe, fitted)
    ended = folder.ended(recipe.name)
    # Without model and checkpoint it begins again, with whatever data.
    if ended is not None or folder.checkpoint.is_file():
        folder.check_data(data.taught(find_teachers(recipe, starts)))
    if ended is None:
        return None
    manifest, score = ended
    assert recipe.folds is not None
    return Fold(
        recipe.folds.leave_out,
        score["mean_iou"],
        score["class_iou"],
        score["frames"],
        manifest.training,
        manifest.path,
    )


def _refuse_seen(recipe: Recipe, name: str, data_root: Path | None, out: Path) -> None:
    """Make sure that no model that a fold starts from has seen the frames that will measure it."""
    labels = load_label_set(recipe.label_set)
    folds = _folds(recipe)
    pattern = re.compile(folds.by)
    parts = [*recipe.train, *([recipe.validation] if folds.join_validation else [])]
    measured = {
        str(part["dataset"])
        for part in parts
        if any(group_of(pattern, n) == name for n in frame_names(open_dataset(part, data_root, labels)))
    }
    for start in (recipe.init_from, *recipe.distillation.teachers):
        if not start:
            continue
        for model, training in _ancestors(start, out):
            if training.get("folds") == {"by": folds.by, "leave_out": name}:
                continue
            seen = measured.intersection(str(part.get("dataset")) for part in training["train"])
            if seen:
                of = f"'{start}'" if model == start else f"'{start}', which comes of '{model}'"
                how = "starts" if start == recipe.init_from else "learns"
                raise TrainingError(
                    f"recipe '{recipe.name}' {how} from {of}: that was trained on {min(seen)}, whose frames"
                    f" the fold {name} measures; give --from-scratch, or --init-from a model that was"
                    " trained on other data"
                )


def _ancestors(start: str, out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A model and those that it comes of, each with what its manifest or recipe says of its training."""
    known: set[str] = set()
    left = [start]
    while left:
        name = left.pop()
        if name in known:
            continue
        known.add(name)
        training = _training_of(name, out, required=name == start)
        if training is None:
            continue
        if not isinstance(training.get("train"), list):
            raise TrainingError(
                f"model '{start}' of the folds comes of '{name}', and nothing says what that was trained on:"
                " it may have seen the frames that the folds measure; give --from-scratch, or another model"
            )
        yield name, training
        left += [str(training["init_from"])] if training.get("init_from") else []
        left += [str(teacher) for teacher in training.get("teachers", ())]


def _training_of(name: str, out: Path, required: bool) -> dict[str, Any] | None:
    """What is known of a model's training; {} if nothing is, None for an encoder of whole images' classes."""
    try:
        found = find_start(name, out / Path(name).name)
    except ModelError:
        if required:
            raise
        try:
            recipe = load_recipe(name)
        except RecipeError:
            return {}
        if recipe.task == "classification":
            return None
        return {
            "train": [dict(part) for part in recipe.train],
            "init_from": recipe.init_from,
            "teachers": recipe.distillation.teachers,
        }
    return None if isinstance(found, Path) else dict(found.training)


def _write(table: Path, recipe: Recipe, sizes: dict[str, int], folds: list[Fold]) -> None:
    classes = load_label_set(recipe.label_set).names
    means = {c: _mean([fold.class_iou[c] for fold in folds if c in fold.class_iou]) for c in classes}
    mean = _mean([fold.mean_iou for fold in folds])
    missing = [name for name in sizes if name not in {fold.name for fold in folds}]
    content = {
        "recipe": recipe.name,
        "by": _folds(recipe).by,
        "folds": {
            fold.name: {
                "mean_iou": fold.mean_iou,
                "class_iou": fold.class_iou,
                "frames": fold.frames,
                "model": fold.model.relative_to(table.parent).as_posix(),
                "training": fold.training,
            }
            for fold in folds
        },
        "missing": missing,
        "mean_iou": mean,
        "class_iou": {c: value for c, value in means.items() if value is not None},
    }
    text = yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)
    write_atomically(table.with_suffix(".yaml"), text.encode())
    write_atomically(table, _markdown(recipe, folds, classes, means, mean, missing).encode())


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _markdown(
    recipe: Recipe,
    folds: list[Fold],
    classes: tuple[str, ...],
    means: dict[str, float | None],
    mean: float | None,
    missing: list[str],
) -> str:
    """A row a fold, and their mean; percent."""
    head = ["left out", "frames", "mean IoU", *classes, "trained on", "frames seen", "hours"]
    rows = [
        [
            fold.name,
            str(fold.frames),
            _percent(fold.mean_iou),
            *(_percent(fold.class_iou.get(c)) for c in classes),
            *(str(fold.training.get(key, "")) for key in ("frames", "frames_seen", "hours")),
        ]
        for fold in folds
    ]
    rows.append(["**mean**", "", _percent(mean), *(_percent(means[c]) for c in classes), "", "", ""])
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    left = [f"Not trained yet: {', '.join(missing)}; the mean is of the others.", ""] if missing else []
    title = f"Folds of `{recipe.name}`: IoU on the frames left out, of the model trained on the others [%]"
    return "\n".join([title, "", *lines, "", *left])


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
