"""Recipes: everything that decides a training but the data's place and the machine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.mixing import Mixing
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import user_path
from rt_segmentation.models import normalisation_problem, size_problem, temperature_problem
from rt_segmentation.resources import share_dir
from rt_segmentation.settings import SettingsError, read_mapping, read_settings

NOT_INHERITED = ("base", "name", "aliases")
"""Keys that a recipe does not take over from its base."""


class RecipeError(RtSegmentationError, ValueError):
    """A recipe that cannot be found or read; the message names the file and the key."""


@dataclass(frozen=True)
class Optimizer:
    """The optimiser, of `torch.optim`.

    Attributes:
        name: which.
        learning_rate: the schedule's largest.
        weight_decay: decoupled from the gradient by adamw, L2 in the others.
        decay_all: biases, norms and PReLU slopes decay as well, as in the ENet authors' code; otherwise not.
        betas: of adam and adamw.
        momentum: of sgd and rmsprop.
    """

    name: Literal["adamw", "adam", "rmsprop", "sgd"]
    learning_rate: float
    weight_decay: float = 0.0
    decay_all: bool = False
    betas: tuple[float, float] | None = None
    momentum: float | None = None

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate must be above 0, and weight_decay not below 0")
        if self.betas is not None and self.name not in ("adam", "adamw"):
            raise ValueError(f"{self.name} has no betas; it has momentum")
        if self.momentum is not None and self.name not in ("sgd", "rmsprop"):
            raise ValueError(f"{self.name} has no momentum; it has betas")


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps, see `optimizers.factor`.

    Attributes:
        name: 'one_cycle' rises and falls as half cosines, 'poly' falls as (1 - step / steps) ^ power,
            'cosine' as half a cosine, 'step' by `decay` each `every_epochs`.
        warmup: share of the steps in which the rate rises.
        power: of 'poly'.
        every_epochs, decay: of 'step'.
    """

    name: Literal["one_cycle", "poly", "cosine", "step", "constant"]
    warmup: float = 0.0
    power: float | None = None
    every_epochs: int | None = None
    decay: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}, it must be a share of the steps from 0 to below 1")
        needed = {"poly": ("power",), "step": ("every_epochs", "decay")}.get(self.name, ())
        for key in ("power", "every_epochs", "decay"):
            value = getattr(self, key)
            if (value is not None) != (key in needed):
                raise ValueError(f"{self.name} {'needs' if key in needed else 'has no'} {key}")
            if value is not None and value <= 0:
                raise ValueError(f"{key} is {value}, it must be above 0")


@dataclass(frozen=True)
class ClassWeights:
    """Weights of the classes in the cross-entropy.

    Attributes:
        how: 'log', 1 / ln(c + frequency) (ENet, Section 5.2); 'median', the median frequency over the class's
            (Eigen and Fergus, 2015); 'none'.
        c: of 'log'.
    """

    how: Literal["log", "median", "none"] = "log"
    c: float = 1.02

    def __post_init__(self) -> None:
        # Nearer to 1, absent classes have weights of thousands; far above, all have the same.
        if not 1.001 <= self.c <= 100:
            raise ValueError(f"c is {self.c}, it must be from 1.001 to 100, as 1.02")


@dataclass(frozen=True)
class Loss:
    """The terms of the loss, each a factor.

    Attributes:
        cross_entropy: of the cross-entropy.
        class_weights: in the cross-entropy.
        label_smoothing: share of the truth that is spread over all classes, in the cross-entropy.
        ohem: share of the pixels that the cross-entropy counts, those of the largest loss; 1 counts all.
        dice: of 1 minus the mean soft Dice coefficient of the classes.
        lovasz: of the Lovasz-softmax loss (Berman et al., 2018).
        auxiliary: of the same terms of each auxiliary output, for networks that have some (PSPNet, Zhao et
            al., 2017: 0.4).
    """

    cross_entropy: float = 1.0
    class_weights: ClassWeights = field(default_factory=ClassWeights)
    label_smoothing: float = 0.0
    ohem: float = 1.0
    dice: float = 0.0
    lovasz: float = 0.0
    auxiliary: float = 0.4

    def __post_init__(self) -> None:
        if min(self.cross_entropy, self.dice, self.lovasz, self.auxiliary) < 0:
            raise ValueError("cross_entropy, dice, lovasz and auxiliary must not be below 0")
        if self.cross_entropy == self.dice == self.lovasz == 0:
            raise ValueError("one of cross_entropy, dice and lovasz must be above 0")
        if not 0 <= self.label_smoothing < 1 or not 0 < self.ohem <= 1:
            raise ValueError("label_smoothing must be from 0 to below 1, and ohem above 0 and up to 1")


@dataclass(frozen=True)
class Distillation:
    """Soft labels of trained models, for all pixels of all training frames, labelled or not.

    Attributes:
        teachers: models of the same classes, named as `init_from` names one; without any there is none.
        weight: of this term, beside those of the labels.
        temperature: divides teachers' and student's logits (Hinton, Vinyals and Dean, 2015).
        scales: at which the teachers see each frame.
        flip: they see its mirror image as well.
    """

    teachers: tuple[str, ...] = ()
    weight: float = 1.0
    temperature: float = 2.0
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f"weight is {self.weight}, it must be above 0")
        if problem := temperature_problem(self.temperature):
            raise ValueError(problem)
        if not self.scales or not all(0.1 <= scale <= 4 for scale in self.scales):
            raise ValueError("scales must have one number or more, from 0.1 to 4")


@dataclass(frozen=True)
class Folds:
    """How frames are grouped for cross-validation (leave one group out).

    Attributes:
        by: regular expression for the frames' names; what its first group matches, or what it matches as a
            whole, names the frame's group. Frames that it does not match are always trained on.
        join_validation: the validation's frames are grouped and trained on as well.
        leave_out: the group that is not trained on and measures the model; '' trains as without folds.
    """

    by: str
    join_validation: bool = True
    leave_out: str = ""

    def __post_init__(self) -> None:
        try:
            re.compile(self.by)
        except re.error as error:
            raise ValueError(f"by is {self.by!r}, which is no regular expression: {error}") from error


@dataclass(frozen=True)
class Recipe:
    """A training recipe, as its YAML file gives it.

    Attributes:
        name: also the trained model's.
        source: the paper and section, or the reason, behind the recipe.
        network, options: what `build_network` takes; `network` may be one of the user's, ``module:Class``.
        train: data sets that are joined, each a mapping of `dataset` ('camvid', 'street') and its arguments.
        validation: the data set that measures the model, a mapping as in `train`.
        width, height: input size in the model's manifest [px].
        augmentation: of the training frames.
        mixing: of two augmented training frames, none by default.
        resize_frames: training frames are resized first as the model's images are, to its height, so that the
            augmentation's scales begin there, whatever the camera's size.
        augment_on: 'loader', each frame by itself in the processes that load; or 'device', whole batches on
            what trains, where the frames are kept. The amounts have the same distributions, and other random
            numbers.
        epochs, batch_size, seed: numbers.
        optimizer, schedule, loss: see there.
        data_license: licence of the training data, for the manifest.
        task: 'classification' trains the network's encoder on images in folders of classes.
        label_set: name of the label set; classification has none, and of `loss` takes the label smoothing.
        ema: decay by step of the averaged weights, which are then measured and stored; 0 is without.
        swa: share of the steps, at the end, whose weights' plain mean is measured and stored; not with `ema`.
        distillation: from trained models, none by default.
        keep: which epoch's weights are the model: those of the best validation, or the last ones. Choosing by
            frames that resemble the training's favours what remembers them.
        folds: groups of frames for cross-validation.
        init_from: what the network starts from, as `initialise.find_start` takes it; '' is from scratch.
        frozen_norms: batch norms keep the means and variances that the network starts from, which of few
            images in small batches are noise; those of layers that depend on the classes learn.
        mean, std: normalisation of images in [0, 1], by channel (R, G, B).
        aliases: short names of the model.
    """

    name: str
    source: str
    network: str
    train: tuple[dict[str, Any], ...]
    validation: dict[str, Any]
    width: int
    height: int
    augmentation: Augmentation
    epochs: int
    batch_size: int
    optimizer: Optimizer
    schedule: Schedule
    data_license: str
    loss: Loss = field(default_factory=Loss)
    mixing: Mixing = field(default_factory=Mixing)
    resize_frames: bool = False
    augment_on: Literal["loader", "device"] = "loader"
    task: Literal["segmentation", "classification"] = "segmentation"
    label_set: str = ""
    ema: float = 0.0
    swa: float = 0.0
    distillation: Distillation = field(default_factory=Distillation)
    keep: Literal["best", "last"] = "best"
    folds: Folds | None = None
    init_from: str = ""
    frozen_norms: bool = False
    seed: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if (self.label_set != "") != (self.task == "segmentation"):
            raise ValueError("segmentation needs the key 'label_set', classification has none")
        if self.task == "classification":
            if self.mixing != Mixing():
                raise ValueError("'mixing' pastes labels and mixes frames of scenes; classification has none")
            if self.distillation.teachers:
                raise ValueError("'distillation' is of pixels; classification has none")
            if self.folds is not None:
                raise ValueError("'folds' group the frames of scenes; classification has none")
            if self.augment_on == "device":
                raise ValueError("'augment_on: device' is of scenes; classification augments in its loader")
            if self.resize_frames:
                raise ValueError("'resize_frames' is of scenes; the images of classification are fitted")
            if self.frozen_norms:
                raise ValueError("'frozen_norms' keeps what a model of scenes has; classification has none")
        if self.name in ("", ".", "..") or {"/", "\\", "\0"} & set(self.name):
            raise ValueError(f"'name' is {self.name!r}, it must be the name of a folder, and not a path")
        if not self.train:
            raise ValueError("'train' is empty, it must have one data set or more")
        for key in ("width", "height", "epochs", "batch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"'{key}' is {getattr(self, key)}, it must be 1 or more")
        # A model of scenes is of a size that its manifest may have.
        if self.task == "segmentation" and (problem := size_problem(self.width, self.height)):
            raise ValueError(problem)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"'seed' is {self.seed}, it must be from 0 to {2**32 - 1}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"'ema' is {self.ema}, it must be from 0 to below 1, as 0.999")
        if not 0 <= self.swa <= 1 or (self.swa and self.ema):
            raise ValueError(f"'swa' is {self.swa}, it must be from 0 to 1, and 0 where there is 'ema'")
        if problem := normalisation_problem(self.mean, self.std):
            raise ValueError(problem)

    def fitted(self, epochs: int) -> Recipe:
        """The same in fewer epochs; a schedule that counts epochs keeps its shape."""
        every = self.schedule.every_epochs
        if every is None:
            return replace(self, epochs=epochs)
        every = max(1, round(every * epochs / self.epochs))
        return replace(self, epochs=epochs, schedule=replace(self.schedule, every_epochs=every))


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, as 'enet_camvid'.

    Files whose names begin with '_' are bases of others and no whole recipes.
    """
    folder = _folder()
    paths = [path for path in folder.rglob("*.yaml") if not path.name.startswith("_")]
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in paths)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by its name in `config/recipes`, or from a file.

    A recipe with the key `base` is merged into the recipe of that name, or of that path from its own folder:
    mappings key by key, anything else is replaced.

    Raises:
        RecipeError: there is none, or a key is missing, unknown or of the wrong type.
    """
    path = _find(name_or_path, Path())
    content = _read(path, ())
    for key, value in _numbers(content):
        if not math.isfinite(value):
            raise RecipeError(f"recipe {path}: '{key}' is {value}, it must be a finite number")
    try:
        return read_settings(Recipe, content)
    except SettingsError as error:
        raise RecipeError(f"recipe {path}: {error}") from error


def _numbers(content: object, where: str = "") -> Iterator[tuple[str, float]]:
    """The floats in a recipe's content, with their keys and those above them."""
    if isinstance(content, float):
        yield where, content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _numbers(value, f"{where}.{key}" if where else str(key))
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, where)


def _folder() -> Path:
    return share_dir() / "config" / "recipes"


def _find(name_or_path: str | Path, relative_to: Path) -> Path:
    path = user_path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return relative_to / path
    path = _folder() / f"{name_or_path}.yaml"
    if not path.is_file():
        raise RecipeError(
            f"unknown recipe {str(name_or_path)!r}; there are {', '.join(recipe_names())}, or give the path"
            " of a file (.yaml)"
        )
    return path


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A recipe's content with that of its base, `above` are the recipes whose base it is."""
    content = read_mapping(path, "recipe", RecipeError)
    if "base" not in content:
        return content
    base = _find(str(content["base"]), path.parent)
    if base in (path, *above):
        raise RecipeError(f"recipe {path}: its base {base} is based on it")
    inherited = _read(base, (path, *above))
    return _merge(
        {key: value for key, value in inherited.items() if key not in NOT_INHERITED},
        {key: value for key, value in content.items() if key != "base"},
    )


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
