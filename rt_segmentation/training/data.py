"""Batches: which frames, in which order and how augmented are functions of seed, epoch and index alone."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from rt_segmentation.data import registry
from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.dataset import DatasetError, Sample, SegmentationDataset, name_some
from rt_segmentation.data.mixing import Mixing
from rt_segmentation.data.statistics import ClassCounts
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.placement import place, width_for
from rt_segmentation.labels import LabelSet
from rt_segmentation.training.recipe import Recipe

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Images uint8 (N, 3, H, W), labels int64 (N, H, W), indices of the frames int64 (N,)."""

MEMORY_BYTES = 4 * 1024**3
"""Decoded training frames are kept in memory up to this size, over all processes of a machine."""


# A loader's process has none of its parent's threads. What its garbage collector would delete of the parent's
# objects may wait for them for ever, as ONNX Runtime's sessions do; so it leaves them alone.
os.register_at_fork(after_in_child=gc.freeze)


class Share(NamedTuple):
    """Which of the processes of a training this is: `rank` from 0 to `world` - 1."""

    rank: int = 0
    world: int = 1


ALONE = Share()


def open_dataset(
    description: dict[str, Any], data_root: Path | None, labels: LabelSet
) -> SegmentationDataset:
    """Open a data set that a recipe describes: ``{dataset: camvid, split: train}``, ``{dataset: street, …}``.

    Raises:
        DatasetError: unknown name or arguments, other classes than `labels`, or the data are not as they
            should be.
    """
    arguments = dict(description)
    name, split = str(arguments.pop("dataset", "")), str(arguments.pop("split", ""))
    dataset = registry.open_dataset(
        name, data_root, split, {**registry.options_for(name, labels), **arguments}
    )
    if dataset.label_set.names != labels.names:
        raise DatasetError(
            f"data set {name} has the classes of {dataset.label_set.name}, the recipe wants {labels.name}"
        )
    return dataset


class TrainingSet(Dataset[Any]):
    """Augmented frames of joined data sets, by (epoch, index).

    Args:
        parts: the data sets.
        augmentation: of a frame.
        seed: of the augmentation, beside epoch and index.
        mixing: of a frame with another one.
        memory_bytes: parts that fit into it as a whole are decoded once and kept; the others, each time.
    """

    def __init__(
        self,
        parts: Sequence[SegmentationDataset],
        augmentation: Augmentation,
        seed: int,
        mixing: Mixing | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._augmentation, self._seed, self._mixing = augmentation, seed, mixing or Mixing()
        self._parts: list[SegmentationDataset | list[Sample]] = []
        for part in parts:
            kept = _read_all(part, memory_bytes)
            self._parts.append(part if kept is None else kept)
            memory_bytes -= sum(map(_bytes_of, kept or ()))
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, int]:
        epoch, index = key
        return (*to_tensors(self.augmented(epoch, index)), index)

    def frame(self, index: int) -> Sample:
        """A frame as it is."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._parts[part][index - (int(self._ends[part - 1]) if part else 0)]

    def augmented(self, epoch: int, index: int) -> Sample:
        """A frame as the network sees it in an epoch."""
        rng = np.random.default_rng((self._seed, epoch, index))
        sample = self._augmentation(self.frame(index), rng)

        def draw() -> Sample:
            return self._augmentation(self.frame(int(rng.integers(len(self)))), rng)

        return self._mixing(sample, draw, rng)

    def count_classes(self, num_classes: int, workers: int) -> list[ClassCounts]:
        """Count the pixels of each class in the unaugmented frames of each data set.

        Args:
            num_classes: ids are below it.
            workers: processes that read.

        Raises:
            DatasetError: some frames are wrong; all are named.
        """
        kept = all(isinstance(part, list) for part in self._parts)
        return _count(_Labels(self.frame, len(self)), self._ends, num_classes, 0 if kept else workers)


class Indices(Dataset[Any]):
    """The indices of a training set's frames, which are augmented elsewhere."""

    def __init__(self, frames: TrainingSet) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int]:
        return (key[1],)

    def frame(self, index: int) -> Sample:
        """A frame as it is."""
        return self._frames.frame(index)


def count_classes(dataset: SegmentationDataset, workers: int) -> ClassCounts:
    """Count the pixels of each class of a data set, with `workers` processes.

    Raises:
        DatasetError: some frames are wrong; all are named.
    """
    frames = _Labels(dataset.__getitem__, len(dataset))
    (counts,) = _count(frames, np.array([len(dataset)]), len(dataset.label_set.classes), workers)
    return counts


def each_once(frames: Dataset[Any], workers: int) -> DataLoader[Any]:
    """What a data set gives for each of its frames, in their order, read by `workers` processes."""
    return DataLoader(
        frames, batch_size=None, num_workers=workers, multiprocessing_context=start_method(workers)
    )


def _count(frames: _Labels, ends: np.ndarray, num_classes: int, workers: int) -> list[ClassCounts]:
    """Counts of each part of the frames; `ends` are the indices behind the parts."""
    counts, problems = [ClassCounts(num_classes) for _ in ends], list[str]()
    for index, labels in enumerate(each_once(frames, workers)):
        if isinstance(labels, str):
            problems.append(labels)
        else:
            counts[int(np.searchsorted(ends, index, side="right"))].add_labels(labels.numpy())
    raise_if_any(problems)
    return counts


def _read_all(dataset: SegmentationDataset, memory_bytes: int) -> list[Sample] | None:
    """All frames of a data set; None where they do not fit into the memory, and are read each time."""
    # Whether they do is known when all are read. A look at the first saves that of most large data sets.
    if _estimated_bytes(dataset) > memory_bytes:
        return None
    samples, problems = [], []
    for index in range(len(dataset)):
        try:
            samples.append(dataset[index])
        except DatasetError as error:
            problems.append(str(error))
            continue
        memory_bytes -= _bytes_of(samples[-1])
        if memory_bytes < 0:
            return None
    raise_if_any(problems)
    return samples


def raise_if_any(problems: Sequence[str]) -> None:
    """Say what is wrong with all frames at once.

    Raises:
        DatasetError: there are problems.
    """
    if problems:
        raise DatasetError(name_some(problems, "; "))


class _Labels(Dataset[Any]):
    """The labels alone, as they are, uint8 (H, W); or what is wrong with the frame.

    An exception would come out of a worker's process with its traceback as the message.
    """

    def __init__(self, read: Callable[[int], Sample], length: int) -> None:
        self._read, self._length = read, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> torch.Tensor | str:
        try:
            return torch.from_numpy(self._read(index).labels)
        except DatasetError as error:
            return str(error)


def _estimated_bytes(dataset: SegmentationDataset) -> int:
    """Memory of a data set's frames, if all are as large as the first that can be read."""
    for index in range(len(dataset)):
        with suppress(DatasetError):
            return len(dataset) * _bytes_of(dataset[index])
    return 0


def _bytes_of(sample: Sample) -> int:
    return sample.image.nbytes + sample.labels.nbytes


class ValidationSet(Dataset[Any]):
    """Frames as the segmenter hands them to the network: images resized, labels at their own size.

    Args:
        dataset: the frames.
        height: of the network's input [px]; the width keeps each frame's aspect ratio.
    """

    def __init__(self, dataset: SegmentationDataset, height: int) -> None:
        self._dataset, self._height = dataset, height

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        sample = self._dataset[index]
        frame = Frame.from_rgb(sample.image)
        size = frame.width, frame.height
        image = place(size, (width_for(size, self._height), self._height)).to_network(frame)
        return (*to_tensors(sample._replace(image=image)), index)


class EpochSampler(Sampler[tuple[int, int]]):
    """A process's share of (epoch, index) pairs, in an order that seed and epoch decide.

    Each batch of the whole training is divided among the processes, so that it has the same frames whatever
    their number; the last, smaller batch of an epoch is left out.

    Args:
        length: frames in all.
        seed: of the order, beside the epoch.
        batch_size: frames of a batch over all processes, a multiple of `share.world`.
        share: which part is this process's.

    Attributes:
        start_batch: of the next iteration; those after it begin at 0 again.
    """

    def __init__(self, length: int, seed: int, batch_size: int = 1, share: Share = ALONE) -> None:
        self._length, self._seed, self._batch_size, self._share = length, seed, batch_size, share
        self._epoch, self.start_batch = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length // self._batch_size * (self._batch_size // self._share.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self._seed, self._epoch)).permutation(self._length)
        batches = order[: self._length // self._batch_size * self._batch_size].reshape(-1, self._batch_size)
        own = np.array_split(batches, self._share.world, axis=1)[self._share.rank]
        own, self.start_batch = own[self.start_batch :], 0
        return iter([(self._epoch, index) for index in own.ravel().tolist()])


class ShareSampler(Sampler[int]):
    """Every `world`-th index: each belongs to one process, and none is repeated to even out the shares."""

    def __init__(self, length: int, share: Share) -> None:
        self._indices = range(share.rank, length, share.world)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)


class ResumableLoader(DataLoader[Batch]):
    """A loader over an `EpochSampler` that resumes in the middle of an epoch; Lightning saves its state."""

    sampler: EpochSampler
    _given = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self._given = self.sampler.start_batch
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Batches of the epoch that have been given out."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration begin after these batches."""
        self.sampler.start_batch = state["batches"]


def to_tensors(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample as uint8 (3, H, W) and int64 (H, W)."""
    image = torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))
    return image, torch.from_numpy(sample.labels.astype(np.int64))


def start_method(workers: int) -> str | None:
    """How a loader's processes start: forked where that can be, so that they share their parent's frames.

    From Python 3.14 on the default is another one, by which each process gets a copy.
    """
    return "fork" if workers and "fork" in multiprocessing.get_all_start_methods() else None


def reading_processes(workers: int) -> dict[str, Any]:
    """Options of a training's loader for its processes, which leave SIGTERM to the training.

    Who ends a service or a job sends it to all of its processes. The training then stores where it is; one
    that loses a reading process meanwhile fails instead.
    """
    return {
        "num_workers": workers,
        "multiprocessing_context": start_method(workers),
        "worker_init_fn": _ignore_sigterm,
    }


def _ignore_sigterm(_worker: int) -> None:
    # Those whose training is gone end by themselves.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def training_loader(
    frames: TrainingSet | Indices, recipe: Recipe, workers: int, share: Share
) -> ResumableLoader:
    """A process's share of the training batches."""
    return ResumableLoader(
        frames,
        recipe.batch_size // share.world,
        sampler=EpochSampler(len(frames), recipe.seed, recipe.batch_size, share),
        **reading_processes(workers),
        persistent_workers=workers > 0,
        # Indices stay on the CPU, where the amounts of their augmentation are drawn.
        pin_memory=torch.cuda.is_available() and isinstance(frames, TrainingSet),
    )


def validation_loader(frames: ValidationSet, workers: int, share: Share) -> DataLoader[Batch]:
    """A process's share of the validation frames, one by one: they may have different sizes."""
    return DataLoader(
        frames,
        sampler=ShareSampler(len(frames), share),
        **reading_processes(workers),
        pin_memory=torch.cuda.is_available(),
    )
