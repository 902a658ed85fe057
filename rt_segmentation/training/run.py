"""Run a recipe: from data to a manifest that the node loads."""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from rt_segmentation.data.dataset import SegmentationDataset
from rt_segmentation.evaluation.dataset import evaluate
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.inference.engines.torch_engine import load_network
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.labels import load_label_set
from rt_segmentation.models import ModelError, ModelManifest, Score, save_model
from rt_segmentation.networks.complexity import count_gmacs, count_parameters
from rt_segmentation.provenance import commit
from rt_segmentation.training.data import TrainingSet, ValidationSet, open_dataset, training_loader
from rt_segmentation.training.losses import class_weights
from rt_segmentation.training.module import SegmentationModule
from rt_segmentation.training.recipe import Recipe

FLOAT16_ABOVE_BYTES = 25_000_000
"""Larger weights are stored as float16; the score is then that of the rounded values."""


def train(
    recipe: Recipe,
    data_root: Path | None,
    out: Path,
    workers: int = 1,
    compiled: bool = False,
    init_from: ModelManifest | None = None,
) -> ModelManifest:
    """Train, measure the stored weights, and write ``OUT/NAME.yaml`` with its safetensors.

    Logs and checkpoints lie in ``OUT/NAME/``; an interrupted run goes on from its last checkpoint there.

    Args:
        recipe: what to train, on what, and how.
        data_root: folder of the recipe's data sets.
        out: where everything is written.
        workers: processes that load and augment.
        init_from: a model whose weights the network starts with.
        compiled: let torch.compile make the steps faster; it takes minutes at the start.

    Raises:
        RecipeError, DatasetError: the recipe or the data are wrong.
        TrainingError: the loss became NaN.
    """
    label_set = load_label_set(recipe.label_set)
    lightning.seed_everything(recipe.seed, verbose=False)
    parts = [open_dataset(description, data_root) for description in recipe.train]
    training_set = TrainingSet(parts, recipe.augmentation, recipe.seed)
    validation = open_dataset(recipe.validation, data_root)
    frequencies = training_set.class_frequencies(len(label_set.classes))
    weights = class_weights(frequencies, recipe.class_weight_c)
    module = SegmentationModule(recipe, len(label_set.classes), weights)

    if init_from is not None:
        start_from(module, init_from)
    if compiled:
        module.network.compile()

    folder = out / recipe.name
    checkpoints = ModelCheckpoint(
        folder, filename="epoch{epoch:03d}", auto_insert_metric_name=False, save_last=True
    )
    gpu = torch.cuda.is_available()
    trainer = lightning.Trainer(
        max_epochs=recipe.epochs,
        precision="bf16-mixed",
        accelerator="gpu" if gpu else "cpu",
        devices=1,
        logger=CSVLogger(folder, name="", version="log"),
        callbacks=[checkpoints],
        check_val_every_n_epoch=max(1, recipe.epochs // 6),
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )
    started = time.monotonic()
    last = folder / "last.ckpt"
    trainer.fit(
        module,
        training_loader(training_set, recipe, workers),
        DataLoader(ValidationSet(validation), 4),
        ckpt_path=str(last) if last.is_file() else None,
    )
    hours = (time.monotonic() - started) / 3600
    return _store(module, recipe, validation, out, _origin(recipe, hours, gpu, init_from))


def _store(
    module: SegmentationModule,
    recipe: Recipe,
    validation: SegmentationDataset,
    out: Path,
    origin: dict[str, object],
) -> ModelManifest:
    network = module.network.eval().cpu()
    state = {key: value.detach().cpu().numpy() for key, value in network.state_dict().items()}
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    if sum(value.nbytes for value in state.values()) > FLOAT16_ABOVE_BYTES:
        state = {key: value.astype(np.float16) for key, value in state.items()}
    manifest = ModelManifest(
        path=out / f"{recipe.name}.yaml",
        name=recipe.name,
        network=recipe.network,
        label_set=recipe.label_set,
        width=recipe.width,
        height=recipe.height,
        weights=f"{recipe.name}.safetensors",
        sha256="",
        parameters=count_parameters(network),
        gmacs=round(count_gmacs(network, recipe.width, recipe.height), 3),
        license=recipe.data_license,
        options=recipe.options,
        mean=recipe.mean,
        std=recipe.std,
        aliases=recipe.aliases,
        training=dict(origin),
    )
    stored = save_model(manifest, state)
    # The score is that of the file: read back, and measured as `rt_seg evaluate` does.
    confusion = ConfusionMatrix(len(stored.labels().classes))
    for _, frame in evaluate(Segmenter.build(stored, "torch", "fp32"), validation):
        confusion.add(frame)
    score = Score(
        "mean_iou",
        str(recipe.validation["dataset"]),
        str(recipe.validation.get("split", "")),
        round(confusion.mean_iou(), 4),
        recipe.width,
        recipe.height,
    )
    return save_model(replace(stored, scores=(score,)), state)


def start_from(module: SegmentationModule, model: ModelManifest) -> None:
    """Give the network a model's weights.

    Raises:
        ModelError: they are of another network, or missing, damaged or not the manifest's.
    """
    recipe = module.recipe
    if (model.network, model.options, model.label_set) != (recipe.network, recipe.options, recipe.label_set):
        raise ModelError(
            f"model '{model.name}' is {model.network} {model.options} for {model.label_set}, recipe"
            f" '{recipe.name}' wants {recipe.network} {recipe.options} for {recipe.label_set}"
        )
    module.network.load_state_dict(load_network(model).state_dict())


def _origin(recipe: Recipe, hours: float, gpu: bool, init_from: ModelManifest | None) -> dict[str, object]:
    device = (
        torch.cuda.get_device_name()
        if gpu
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    )
    return {
        "recipe": recipe.name,
        **({} if init_from is None else {"init_from": init_from.name}),
        "train": [dict(part) for part in recipe.train],
        "commit": commit(),
        "epochs": recipe.epochs,
        "hours": round(hours, 2),
        "machine": device,
    }
