"""Order and shares of the batches, what is kept in memory, and the schedule that fits a time."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

from rt_segmentation.data.augment import Augmentation  # noqa: E402
from rt_segmentation.data.dataset import Sample  # noqa: E402
from rt_segmentation.data.mixing import Mixing  # noqa: E402
from rt_segmentation.data.street_dataset import Street  # noqa: E402
from rt_segmentation.training.data import (  # noqa: E402
    EpochSampler,
    ResumableLoader,
    Share,
    ShareSampler,
    TrainingSet,
    ValidationSet,
    count_classes,
    training_loader,
    validation_loader,
)
from rt_segmentation.training.errors import TrainingError  # noqa: E402
from rt_segmentation.training.recipe import load_recipe  # noqa: E402
from rt_segmentation.training.timing import (  # noqa: E402
    Timing,
    Validations,
    loading_rate,
    validation_interval,
)

CROP = Augmentation(width=48, height=32)


def street(frames: int, seed: int = 1000) -> Street:
    return Street(1, frames, seed, 64, 48)


def epoch(sampler: EpochSampler, number: int) -> list[tuple[int, int]]:
    sampler.set_epoch(number)
    return list(sampler)


def test_an_epochs_order_is_a_function_of_seed_and_epoch() -> None:
    first = epoch(EpochSampler(10, 1, 3), 5)
    assert first == epoch(EpochSampler(10, 1, 3), 5)
    assert first != epoch(EpochSampler(10, 2, 3), 5)
    indices = [index for _, index in first]
    assert len(indices) == 9
    assert len(set(indices)) == 9
    assert indices != [index for _, index in epoch(EpochSampler(10, 1, 3), 6)]
    assert {number for number, _ in first} == {5}


def test_processes_share_each_batch() -> None:
    whole = epoch(EpochSampler(19, 1, 6), 2)
    parts = [epoch(EpochSampler(19, 1, 6, Share(rank, 3)), 2) for rank in range(3)]
    assert all(len(part) == len(EpochSampler(19, 1, 6, Share(0, 3))) == 6 for part in parts)
    for batch in range(3):
        together = [key for part in parts for key in part[2 * batch : 2 * batch + 2]]
        assert together == whole[6 * batch : 6 * batch + 6]


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_no_frame_is_validated_twice(frames: int) -> None:
    shares = [list(ShareSampler(frames, Share(rank, 2))) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(frames))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_another_was(workers: int) -> None:
    frames = TrainingSet([street(9)], CROP, seed=1)

    def loader() -> ResumableLoader:
        return ResumableLoader(frames, 2, sampler=EpochSampler(9, 1, 2), num_workers=workers)

    first = loader()
    batches = [batch[2].tolist() for batch in first]
    assert len(batches) == 4
    stopped = iter(first)
    next(stopped), next(stopped)
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    assert [batch[2].tolist() for batch in second] == batches[2:]
    assert second.state_dict() == {"batches": 4}
    assert [batch[2].tolist() for batch in second] == batches, "only the first epoch is shortened"


class Counted:
    """A data set that knows how often it was read."""

    def __init__(self, dataset: Street) -> None:
        self.dataset, self.reads = dataset, 0
        self.label_set, self.ignored_ids = dataset.label_set, dataset.ignored_ids

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        return self.dataset[index]


def test_what_does_not_fit_into_memory_is_read_each_time() -> None:
    frame_bytes = 64 * 48 * 4
    kept, read = Counted(street(3)), Counted(street(4, 2000))
    frames = TrainingSet([kept, read], CROP, seed=1, memory_bytes=4 * frame_bytes)
    assert len(frames) == 7
    before = kept.reads, read.reads
    for number in (0, 1):
        for index in range(7):
            frames[number, index]
    assert (kept.reads, read.reads) == (before[0], before[1] + 8)
    names = [frames.frame(index).name for index in range(7)]
    assert names == [*(f"street1000_00{i}" for i in range(3)), *(f"street2000_00{i}" for i in range(4))]


def test_frames_larger_than_the_first_are_not_kept_beyond_the_memory() -> None:
    """As of two cameras: four frames of the first one's size would fit."""

    class Growing(Counted):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            by = 1 if index == 0 else 3
            return sample._replace(image=sample.image.repeat(by, 0), labels=sample.labels.repeat(by, 0))

    frame_bytes = 64 * 48 * 4
    part = Growing(street(4))
    frames = TrainingSet([part], CROP, seed=1, memory_bytes=9 * frame_bytes)
    before = part.reads
    assert before < 6, "it read on though it was over"
    assert [frames.frame(index).labels.shape[0] for index in range(4)] == [48, 144, 144, 144]
    assert part.reads == before + 4
    # Ten fit, and the rest of the memory is for the next.
    part, following = Growing(street(4)), Counted(street(1))
    frames = TrainingSet([part, following], CROP, seed=1, memory_bytes=10 * frame_bytes)
    read = part.reads, following.reads
    assert [frames.frame(index).labels.shape[0] for index in range(5)] == [48, 144, 144, 144, 48]
    assert (part.reads, following.reads) == (read[0], read[1] + 1)


def test_a_mixed_frame_is_a_function_of_seed_epoch_and_index() -> None:
    def frames(mixing: Mixing, seed: int = 1) -> TrainingSet:
        return TrainingSet([street(5)], CROP, seed, mixing)

    both = Mixing(amplitude=0.5, paste=0.5)
    keys = [(epoch, index) for epoch in range(3) for index in range(5)]
    one_set, same_set, other_set = frames(both), frames(both), frames(both, seed=2)
    views = [one_set.augmented(*key) for key in keys]
    # Whatever came before.
    again = [same_set.augmented(*key) for key in reversed(keys)][::-1]
    other = [other_set.augmented(*key) for key in keys]
    for one, two, three in zip(views, again, other):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.labels, two.labels)
        assert not np.array_equal(one.image, three.image)
    # Without mixing, or where no chance comes true, a frame is as it was before there was any.
    scenes = street(5)
    drawn = [scenes[index] for index in range(5)]
    before = [CROP(drawn[index], np.random.default_rng((1, epoch, index))) for epoch, index in keys]
    unmixed = frames(Mixing())
    without = [unmixed.augmented(*key) for key in keys]
    same = 0
    for mixed, plain, expected in zip(views, without, before):
        np.testing.assert_array_equal(plain.image, expected.image)
        np.testing.assert_array_equal(plain.labels, expected.labels)
        same += np.array_equal(mixed.image, expected.image)
    assert 1 <= same <= 8, "a quarter of the frames on the average"


def test_classes_are_counted_as_they_are_in_the_frames() -> None:
    dataset = street(3)
    frames = TrainingSet([dataset, street(1)], CROP, seed=1, memory_bytes=0)
    counts, one = frames.count_classes(11, workers=0)
    labels = np.stack([dataset[index].labels for index in range(3)])
    assert counts.pixels.tolist() == [int((labels == c).sum()) for c in range(11)]
    assert one.pixels.tolist() == [int((labels[0] == c).sum()) for c in range(11)]
    counts.add_counts(one)
    assert counts.pixels.sum() == labels.size + labels[0].size
    assert counts.frames_with.tolist() == [
        int(2 * (labels[0] == c).any() + sum((labels[i] == c).any() for i in (1, 2))) for c in range(11)
    ]


def test_validation_sees_what_the_network_will() -> None:
    image, labels, index = ValidationSet(street(2), 96)[1]
    assert image.shape == (3, 96, 128)
    assert labels.shape == (48, 64)
    assert index == 1


def test_loading_rate_counts_frames() -> None:
    loader: Any = ResumableLoader(
        TrainingSet([street(4)], CROP, seed=1), 2, sampler=EpochSampler(4, 1, 2), num_workers=0
    )
    assert loading_rate(loader) > 0


class Validated:
    """A trainer, as far as `Validations` needs one."""

    def __init__(self, epochs: int) -> None:
        self.max_epochs, self.current_epoch, self.check_val_every_n_epoch = epochs, 0, 1

    def epochs(self, callback: Validations) -> list[int]:
        """Those with a validation, from 1."""
        found = []
        for epoch in range(self.max_epochs):
            self.current_epoch = epoch
            callback.on_train_epoch_start(self, None)  # type: ignore[arg-type]
            if (self.current_epoch + 1) % self.check_val_every_n_epoch == 0:
                found.append(self.current_epoch + 1)
        return found


def test_the_last_epoch_is_validated_and_not_too_many() -> None:
    for epochs in range(1, 400):
        validated = Validated(epochs).epochs(Validations(validation_interval(epochs)))
        assert validated[-1] == epochs
        assert min(epochs, 20) <= len(validated) <= 40
    assert Validated(7).epochs(Validations(validation_interval(7, most=3))) == [1, 4, 7]
    assert Validated(199).epochs(Validations(50)) == [49, 99, 149, 199], "a prime number of epochs"


def test_the_schedule_fits_the_time() -> None:
    timing = Timing(epoch_s=100, validation_s=10, step_s=1)
    epochs = timing.epochs_within(3600, 300)
    assert timing.training_s(epochs) <= 3600 * 0.95 < timing.training_s(epochs + 1)
    assert timing.epochs_within(3600, 5) == 5, "never more than the recipe's"
    # Validations that choose nothing are few, and the last one is of the stored model.
    slow = Timing(epoch_s=100, validation_s=100, step_s=1)
    assert slow.training_s(40, most=4) == 45 * 100 and slow.training_s(40) == 81 * 100
    assert slow.epochs_within(4600 / 0.95, 40, most=4) == 40 > slow.epochs_within(4600 / 0.95, 40)
    with pytest.raises(TrainingError, match="one epoch with its validation takes about 0:02:00"):
        timing.epochs_within(100, 5)


class Garbage:
    """In a circle of references; says which process deleted it."""

    def __init__(self, path: Path) -> None:
        self.path, self.circle = path, self

    def __del__(self) -> None:
        self.path.write_text(str(os.getpid()))


class Collecting(Street):
    """Collects garbage in whatever process reads a frame."""

    def __getitem__(self, index: int) -> Sample:
        gc.collect()
        return super().__getitem__(index)


def test_a_loaders_processes_share_their_parents_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Python would start them otherwise, as 3.14 does: then each would get a copy."""
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", None)
    multiprocessing.set_start_method("forkserver")

    class NoCopies(Street):
        def __reduce__(self) -> Any:
            raise AssertionError("copied")

    frames = NoCopies(1, 4, 1000, 64, 48)
    counts = count_classes(frames, workers=1)
    assert counts.pixels.sum() == 4 * 64 * 48
    recipe = load_recipe("own_data")
    loaders = (
        training_loader(TrainingSet([frames], CROP, seed=1), recipe, 1, Share()),
        validation_loader(ValidationSet(frames, 32), 1, Share()),
    )
    assert [loader.multiprocessing_context.get_start_method() for loader in loaders] == ["fork", "fork"]
    assert training_loader(TrainingSet([frames], CROP, seed=1), recipe, 0, Share()).num_workers == 0


def test_a_loaders_processes_leave_sigterm_to_the_training() -> None:
    """As `timeout`, systemd and Slurm send it: to the training and to all that it has started."""
    recipe = replace(load_recipe("own_data"), batch_size=1)
    frames = TrainingSet([street(8)], CROP, seed=1)
    given = iter(training_loader(frames, recipe, 2, Share()))
    next(given), next(given)  # each has begun
    readers = multiprocessing.active_children()
    assert len(readers) == 2
    for reader in readers:
        assert reader.pid is not None
        os.kill(reader.pid, signal.SIGTERM)
    assert len(list(given)) == 6
    del given
    gc.collect()
    assert not multiprocessing.active_children()


def test_a_loaders_process_deletes_nothing_of_its_parents(tmp_path: Path) -> None:
    """A session of ONNX Runtime waited there for threads that only the parent has, without end."""
    gc.collect()
    gc.disable()
    try:
        Garbage(tmp_path / "deleted")
        count_classes(Collecting(1, 2, 1000, 96, 64), workers=1)
        assert not (tmp_path / "deleted").exists()
    finally:
        gc.enable()
    gc.collect()
    assert (tmp_path / "deleted").read_text() == str(os.getpid())
