"""Batches for training: order and augmentation are functions of seed, epoch and index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from rt_segmentation.data import registry
from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.dataset import Sample, SegmentationDataset
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.training.recipe import Recipe

Batch = tuple[torch.Tensor, torch.Tensor]


def open_dataset(description: dict[str, Any], data_root: Path | None) -> SegmentationDataset:
    """Open a data set that a recipe describes: ``{dataset: camvid, split: train}``, ``{dataset: street, …}``.

    Raises:
        DatasetError: unknown name or arguments, or the data are not as they should be.
    """
    arguments = dict(description)
    name, split = str(arguments.pop("dataset", "")), str(arguments.pop("split", ""))
    return registry.open_dataset(name, data_root, split, arguments)


class TrainingSet(Dataset[Batch]):
    """Augmented frames of joined data sets, by (epoch, index); kept decoded in memory after first use."""

    def __init__(self, parts: list[SegmentationDataset], augmentation: Augmentation, seed: int) -> None:
        self._augmentation, self._seed = augmentation, seed
        self._samples: list[Sample] = [part[i] for part in parts for i in range(len(part))]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, index = key
        rng = np.random.default_rng((self._seed, epoch, index))
        return to_tensors(self._augmentation(self._samples[index], rng))

    def class_frequencies(self, num_classes: int) -> np.ndarray:
        """Share of each class in the labelled pixels, float64 (num_classes,)."""
        counts = np.zeros(IGNORE_ID + 1)
        for sample in self._samples:
            counts += np.bincount(sample.labels.ravel(), minlength=counts.size)
        counts = counts[:num_classes]
        return np.asarray(counts / counts.sum())


class ValidationSet(Dataset[Batch]):
    """Frames of a data set as they are."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Batch:
        return to_tensors(self._dataset[index])


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, index) pairs in an order that seed and epoch decide; Lightning calls `set_epoch`."""

    def __init__(self, length: int, seed: int) -> None:
        self._length, self._seed, self._epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self._seed, self._epoch)).permutation(self._length)
        return iter([(self._epoch, int(index)) for index in order])


def to_tensors(sample: Sample) -> Batch:
    """A sample as uint8 (3, H, W) and int64 (H, W)."""
    image = torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))
    return image, torch.from_numpy(sample.labels.astype(np.int64))


def training_loader(dataset: TrainingSet, recipe: Recipe, workers: int) -> DataLoader[Batch]:
    """Batches of the training set; the last, smaller one of an epoch is left out."""
    return DataLoader(
        dataset,
        recipe.batch_size,
        sampler=EpochSampler(len(dataset), recipe.seed),
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
