"""The frames of a bag, with their ground truth where it has some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rt_segmentation.bags.choosing import IMAGE_TYPES, choose_images
from rt_segmentation.bags.frames import to_frame
from rt_segmentation.bags.reading import BagReader
from rt_segmentation.bags.topics import choose_topic
from rt_segmentation.evaluation.bag.clock import Moment, Times, choose_moment, exactness, period, times_of
from rt_segmentation.evaluation.bag.frames import with_truth
from rt_segmentation.evaluation.bag.ids import IdTable, UnknownIds
from rt_segmentation.evaluation.bag.truth import FolderTruth, NoTruth, TopicTruth, Truth
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.levels import AUTO, Levels

FIRST_IMAGES, FIRST_LABELS, FIRST_MESSAGES = 32, 8, 1000
"""From so many the pairing of images and labels is found, among so many messages."""


@dataclass(frozen=True)
class BagData:
    """Where the frames of a bag, and their labels, are.

    Attributes:
        path: of the bag.
        image_topic: None for the only camera's.
        label_topic: of label images, or None.
        labels: folder of PNGs named by stamp, or None.
        image_bits: see `Levels`.
        truth_classes: see `UnknownIds.sentence`.
    """

    path: Path
    image_topic: str | None = None
    label_topic: str | None = None
    labels: Path | None = None
    image_bits: str = AUTO
    truth_classes: str = ""


def frames_of_bag(
    data: BagData, ids: IdTable, note: Callable[[str], None]
) -> Generator[tuple[str, Frame, np.ndarray | None], None, str | None]:
    """Read a bag's frames.

    Args:
        data: the bag.
        ids: what stored ids become.
        note: told in sentences what is odd, and what cannot be read.

    Yields:
        Name, image with samples of 8 bits, and class ids, uint8 (H, W), or None.

    Returns:
        What is damaged of the bag, in a sentence that `note` was told as well; None of a whole one.

    Raises:
        BagError: the bag cannot be read, or a topic is not clear.
        EvaluationError: the folder of labels is not as it should be.
    """
    with BagReader(data.path) as reader:
        labels = None
        if data.label_topic is not None:
            labels = choose_topic(reader.topics, data.label_topic, IMAGE_TYPES, "label").name
        topic, said = choose_images(reader, data.image_topic, () if labels is None else (labels,))
        topics = {topic.name} | ({labels} if labels is not None else set())
        moment, half_ns, sentences = _pairing(reader, topic.name, topics)
        for sentence in (said, *(sentences if labels is not None else ())):
            if sentence:
                note(sentence)
        truth: Truth = NoTruth()
        if labels is not None:
            truth = TopicTruth(half_ns, moment)
        elif data.labels is not None:
            truth = FolderTruth(data.labels, half_ns)
        levels, problems, unknown = Levels(data.image_bits, note), _Problems(), UnknownIds()
        with closing(reader.messages(topics)) as messages:
            for source in with_truth(messages, topic.name, truth, moment):
                try:
                    frame = levels(to_frame(source.message))
                except ImageError as error:
                    problems.add("image {images} cannot be decoded: {why}", source.index, str(error))
                    continue
                found = None if source.truth is None else ids(source.truth)
                if source.problem is not None:
                    problems.add("labels of image {images}: {why}", source.index, source.problem)
                elif found is not None and found.shape != (frame.height, frame.width):
                    problems.add(
                        "labels of image {images} are {why}: they are left out",
                        source.index,
                        f"{found.shape[1]}x{found.shape[0]} px, the image is {frame.width}x{frame.height} px",
                    )
                    found = None
                elif source.truth is not None:
                    ids.count_unknown(source.truth, unknown)
                t_s = (source.message.recorded_ns - reader.start_ns) / 1e9
                yield f"{data.path.name} {t_s:.2f} s", frame, found
        for sentence in (*problems.sentences(), unknown.sentence(ids.num_classes, data.truth_classes)):
            if sentence:
                note(sentence)
        if reader.damage:
            note(reader.damage)
        return reader.damage


class _Problems:
    """What is wrong with frames: of each kind the first one's reason, and the number of the others."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}
        self._counts = Counter[str]()

    def add(self, kind: str, index: int, why: str) -> None:
        """Note a frame; `kind` is a sentence with {images} and {why} in it."""
        self._found.setdefault(kind, (index, why))
        self._counts[kind] += 1

    def sentences(self) -> Iterator[str]:
        for kind, (index, why) in self._found.items():
            more = self._counts[kind] - 1
            yield kind.format(images=f"{index + 1} and {more} more" if more else index + 1, why=why)


def _pairing(reader: BagReader, topic: str, topics: set[str]) -> tuple[Moment, int, tuple[str, ...]]:
    """What images and labels are paired by, how far apart they may be [ns], and sentences about that."""
    images: list[Times] = []
    labels: list[Times] = []
    with closing(reader.messages(topics)) as messages:
        for count, message in enumerate(messages, 1):
            (images if message.topic == topic else labels).append(times_of(message))
            enough = len(topics) == 1 or len(labels) >= FIRST_LABELS or count >= FIRST_MESSAGES
            if len(images) >= FIRST_IMAGES and enough:
                break
    moment, problem = choose_moment(images, labels)
    half_ns = period(images[:FIRST_IMAGES], moment) // 2
    return moment, half_ns, (problem or exactness(images, labels),)
