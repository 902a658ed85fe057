"""`rt_seg train`: a model from a recipe and data."""

from __future__ import annotations

import argparse

from rt_segmentation.models import find_model
from rt_segmentation.training.recipe import load_recipe
from rt_segmentation.training.run import train


def run(arguments: argparse.Namespace) -> None:
    """Train, and say where the model is and what it scored."""
    manifest = train(
        load_recipe(arguments.recipe),
        arguments.data_root,
        arguments.out,
        arguments.workers,
        arguments.compile,
        None if arguments.init_from is None else find_model(arguments.init_from),
    )
    score = manifest.scores[0]
    print(f"{manifest.path}: mean IoU {score.value:.4f} on {score.dataset} {score.split}")
