"""Recipes: everything that decides a training but the data's place and the machine."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from rt_segmentation.data.augment import Augmentation
from rt_segmentation.resources import share_dir


class RecipeError(ValueError):
    """A recipe that cannot be found or read; the message names the file and the key."""


@dataclass(frozen=True)
class Recipe:
    """A training recipe, as its YAML file gives it.

    Attributes:
        name: also the trained model's.
        source: the paper or reason behind the recipe.
        network, options: what `build_network` takes.
        label_set: name of the label set.
        train: data sets that are joined, each a mapping of `dataset` ('camvid', 'street') and its arguments.
        validation: the data set that measures the model, likewise.
        width, height: input size in the model's manifest [px].
        augmentation: of the training frames.
        epochs, batch_size, seed: numbers.
        learning_rate: peak of the one-cycle schedule of AdamW.
        weight_decay: AdamW's.
        class_weight_c: c of w = 1 / ln(c + p).
        dice: factor of the Dice term.
        mean, std: normalisation of images in [0, 1], by channel (R, G, B).
        data_license: licence of the training data, for the manifest.
        aliases: short names of the model.
    """

    name: str
    source: str
    network: str
    label_set: str
    train: tuple[dict[str, Any], ...]
    validation: dict[str, Any]
    width: int
    height: int
    augmentation: Augmentation
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    data_license: str
    class_weight_c: float = 1.02
    dice: float = 0.0
    seed: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by its name in `config/recipes`, or from a file.

    Raises:
        RecipeError: there is none, or a key is missing, unknown or of the wrong type.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        folder = share_dir() / "config" / "recipes"
        path = folder / f"{name_or_path}.yaml"
        if not path.is_file():
            names = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
            raise RecipeError(
                f"unknown recipe '{name_or_path}'; there are {names}, or give the path of a file"
            )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"recipe {path} is not a mapping of keys to values")
    known = {f.name for f in fields(Recipe)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise RecipeError(f"recipe {path}: unknown key '{unknown[0]}'; there are {', '.join(sorted(known))}")
    try:
        content["augmentation"] = Augmentation(**content.get("augmentation", {}))
        for key in ("train", "mean", "std", "aliases"):
            if key in content:
                content[key] = tuple(content[key])
        return Recipe(**content)
    except TypeError as error:
        raise RecipeError(f"recipe {path}: {error}") from error
