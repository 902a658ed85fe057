"""`rt_seg train`: a model from a recipe and data."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rt_segmentation.commands.options import check_number, say
from rt_segmentation.commands.outputs import check_outputs
from rt_segmentation.errors import MissingPackageError
from rt_segmentation.files import user_path

if TYPE_CHECKING:
    from rt_segmentation.training.run import Training

BAR_WIDTH = 30
NAME_WIDTH = 22


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("recipe", help="recipe: a name from config/recipes, or a YAML file")
    parser.add_argument(
        "--data-root", type=user_path, help="folder of the recipe's data set, if it needs one"
    )
    parser.add_argument(
        "--out",
        type=user_path,
        default=Path("runs"),
        help="write model, logs and checkpoint to OUT/RECIPE (default runs)",
    )
    parser.add_argument("--init-from", default="", metavar="MODEL", help="start from this model's weights")
    parser.add_argument(
        "--from-scratch", action="store_true", help="start from random weights, not from the recipe's model"
    )
    parser.add_argument(
        "--folds", action="store_true", help="train and measure a model for each of the recipe's folds"
    )
    parser.add_argument("--fold", default="", metavar="NAME", help="train only this fold")
    parser.add_argument(
        "--max-hours", type=float, help="train fewer epochs if the recipe's would take longer [h]"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write a sample batch, class weights and expected time; do not train",
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that load and augment images (default: from the number of cores)",
    )
    parser.add_argument("--precision", default="auto", help="auto (default), fp32, bf16, or fp16 on a GPU")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the network with torch.compile; takes minutes at the start",
    )
    parser.add_argument(
        "--checkpoint-s",
        type=float,
        default=120.0,
        help="time between checkpoints within an epoch [s] (default 120)",
    )


def main(arguments: argparse.Namespace) -> None:
    """Train, and say where the model is and what it scored; or say what a training would do.

    Raises:
        OptionError: a number among the options makes no sense, or the folder cannot be written.
        MissingPackageError: a package is missing.
        RecipeError, DatasetError, ModelError, TrainingError: see `training.run.train`.
    """
    _check(arguments)
    check_outputs(arguments, folders=("out",))
    # NumPy reads it when it is imported. Its products are small, in the loader's processes, where threads of
    # its own take half as much time again and the cores of the training.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # PyTorch's threads wait for each other after each operation. As a rule they do so busily, which beside
    # any other work on the same cores takes five times as long; asleep it is twice as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from rt_segmentation.training.recipe import RecipeError, load_recipe

    # Before what takes seconds to import.
    wanted = load_recipe(arguments.recipe)
    if arguments.from_scratch and arguments.init_from:
        raise RecipeError("--from-scratch and --init-from exclude one another")
    try:
        # The last two are needed at an epoch's end, which may be hours away.
        for package in ("torch", "lightning", "matplotlib", "tensorboard"):
            importlib.import_module(package)
        from rt_segmentation.training import machine
        from rt_segmentation.training.classification import train_classifier
        from rt_segmentation.training.distillation import find_teachers
        from rt_segmentation.training.folds import cross_validate, fold_sizes
        from rt_segmentation.training.run import Training, train
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"training needs the Python package '{error.name}':"
            " pip install lightning matplotlib tensorboard torch"
        ) from error
    here = machine.Machine.here(arguments.precision, arguments.workers)
    if wanted.task == "classification":
        refused = ("dry_run", "init_from", "from_scratch", "folds", "fold", "max_hours", "compile")
        given = [f"--{name.replace('_', '-')}" for name in refused if getattr(arguments, name)]
        if given:
            raise RecipeError(
                f"recipe '{wanted.name}' trains an encoder alone, which does not take {given[0]}"
            )
        encoder = train_classifier(wanted, arguments.data_root, arguments.out, here, arguments.checkpoint_s)
        if here.share.rank == 0:
            print(encoder)
        return
    if arguments.from_scratch or arguments.init_from:
        wanted = replace(wanted, init_from=arguments.init_from)
    if arguments.folds or arguments.fold:
        if arguments.dry_run:
            for name, frames in fold_sizes(wanted, arguments.data_root).items():
                print(f"fold {name}: {frames} frames")
            return
        table = cross_validate(
            wanted,
            arguments.data_root,
            arguments.out,
            here,
            only=arguments.fold,
            max_hours=arguments.max_hours,
            compiled=arguments.compile,
            checkpoint_s=arguments.checkpoint_s,
        )
        if here.share.rank == 0:
            print(f"{table}:\n{table.read_text(encoding='utf-8')}")
        return
    if arguments.dry_run:
        say("reading all frames and counting their classes, as a training does")
        training = Training.prepare(wanted, arguments.data_root, here)
        training.learn_from(find_teachers(wanted, arguments.out))
        show(training, arguments)
        return
    manifest = train(
        wanted,
        arguments.data_root,
        arguments.out,
        here,
        max_hours=arguments.max_hours,
        compiled=arguments.compile,
        checkpoint_s=arguments.checkpoint_s,
    )
    if manifest is not None:
        (score,) = manifest.scores
        where = " ".join(filter(None, (score.dataset, score.split)))
        print(
            f"{manifest.path}: mean IoU {score.value:.4f} on {where}, of epoch {manifest.training['epoch']}"
        )


def _check(arguments: argparse.Namespace) -> None:
    if arguments.max_hours is not None:
        check_number("max-hours", arguments.max_hours, "hours", 2.5, above_0=True)
    check_number("checkpoint-s", arguments.checkpoint_s, "seconds", 120)
    if arguments.workers is not None:
        check_number("workers", arguments.workers, "processes", 4)


def show(training: Training, arguments: argparse.Namespace) -> None:
    """Print class weights and times, and write the picture of a batch; nothing else is written."""
    from rt_segmentation.imaging.pictures import write_picture
    from rt_segmentation.training.preview import batch_picture, time_steps
    from rt_segmentation.training.run import most_validations

    recipe, machine = training.recipe, training.machine
    print(f"{recipe.name}: {len(training.frames)} frames to train on, {len(training.validation)} to validate")
    print(f"\n{'class':{NAME_WIDTH}}{'share':>9}{'weight':>9}")
    weights, shares = training.module.loss.weights.tolist(), training.counts.frequencies().tolist()
    for name, share, weight in zip(training.label_set.names, shares, weights):
        bar = "█" * round(weight / max(weights) * BAR_WIDTH)
        print(f"{name:{NAME_WIDTH}}{share:9.5f}{weight:9.3f} {bar}")
    sys.stdout.flush()
    say("timing some steps, validations and the loader, for about half a minute")
    timing, loaded = time_steps(training)
    trained = recipe.batch_size / timing.step_s
    loaded *= machine.share.world
    takes = timedelta(seconds=round(timing.training_s(recipe.epochs, most_validations(recipe))))
    limit = "the loader: give it more --workers" if loaded < 1.1 * trained else "the network"
    print(
        f"\n{machine.name()}, {machine.precision}, {machine.workers} workers"
        f"\nthe loader alone gives {loaded:.1f} frames/s, a step takes {trained:.1f} frames/s"
        f" ({timing.step_s * 1e3:.0f} ms): the limit is {limit}"
        f"\n{recipe.epochs} epochs take about {takes}"
        f" ({timing.epoch_s:.0f} s an epoch, {timing.validation_s:.0f} s a validation)"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{recipe.name}_batch.png"
    write_picture(path, batch_picture(training))
    print(f"a batch as the network sees it: {path}")
