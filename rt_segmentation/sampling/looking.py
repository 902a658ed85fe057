"""Looks through bags: frame after frame is decoded and measured, and nothing of it is kept but numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from rt_segmentation.bags.choosing import choose_images
from rt_segmentation.bags.frames import to_frame
from rt_segmentation.bags.reading import BagReader, Message
from rt_segmentation.evaluation.bag.clock import Moment, choose_moment, stamp_of, times_of
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.levels import AUTO, Levels
from rt_segmentation.sampling.choosing import Candidate
from rt_segmentation.sampling.measures import Measurer

FIRST_IMAGES = 32
"""So many images say whether stamps tell them apart."""
EARLY = 0.9
"""A frame is due when this share of the period has passed: a camera's clock is not that of the period."""
PAUSE = 3
"""After so many periods without a frame there is none before the next one."""


@dataclass
class Source:
    """A bag whose images are sampled, and what was found in it.

    Attributes:
        path: of the bag.
        topic: of the images.
        moment: the time by which its images are told apart.
        images: number of its image messages.
        looked_at: number of those that were decoded.
        left_out: why frames were left out, with their numbers.
        notes: sentences about the bag.
    """

    path: Path
    topic: str
    moment: Moment = stamp_of
    images: int = 0
    looked_at: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def open_source(path: Path, image_topic: str | None) -> Source:
    """Choose a bag's images, and the time that tells them apart.

    Raises:
        BagError: the bag cannot be read, or its topic is not clear.
    """
    with BagReader(path) as reader:
        topic, note = choose_images(reader, image_topic)
        first = []
        with closing(reader.messages([topic.name])) as messages:
            for message in messages:
                first.append(times_of(message))
                if len(first) >= FIRST_IMAGES:
                    break
    moment, problem = choose_moment(first, ())
    notes = [text for text in (note, problem and _of_images_alone(problem)) if text]
    return Source(path, topic.name, moment, topic.count, notes=notes)


def look_through(
    source: Source,
    number: int,
    measurer: Measurer,
    period_ns: int,
    image_bits: str = AUTO,
) -> Iterator[Candidate | None]:
    """Measure the frames of a bag.

    Args:
        source: the bag; it is told what was found.
        number: of the bag.
        measurer: of all bags.
        period_ns: between two frames that are looked at [ns]; 0 looks at all.
        image_bits: see `Levels`.

    Yields:
        For each image message a candidate, or None where it was not looked at or cannot be used.

    Raises:
        BagError, EngineError: the bag cannot be read, or an engine failed.
    """
    levels = Levels(image_bits, source.notes.append)
    measurer.restart()
    last_ns: int | None = None
    source.images = 0
    with BagReader(source.path) as reader, closing(reader.messages([source.topic])) as messages:
        for index, message in enumerate(messages):
            source.images += 1
            moment_ns = source.moment(message)
            # Also a clock that was set back is a reason to look.
            if last_ns is not None and abs(moment_ns - last_ns) < EARLY * period_ns:
                yield None
                continue
            if last_ns is not None and period_ns and abs(moment_ns - last_ns) > PAUSE * period_ns:
                measurer.restart()
            last_ns = moment_ns
            source.looked_at += 1
            try:
                measured = measurer.measure(levels(to_frame(message)))
            except ImageError as error:
                source.left_out["cannot be decoded"] += 1
                if source.left_out["cannot be decoded"] == 1:
                    source.notes.append(f"image {index + 1} cannot be decoded: {error}")
                yield None
                continue
            if measured.problem:
                source.left_out[measured.problem] += 1
                yield None
                continue
            stamp_ns, recorded_ns = times_of(message)
            yield Candidate(number, index, moment_ns, stamp_ns, recorded_ns, measured)
        if reader.damage:
            source.notes.append(reader.damage)


def messages_at(source: Source, numbers: Sequence[int]) -> Iterator[tuple[int, Message]]:
    """The image messages with some numbers, in the bag's order; see `Candidate.number`."""
    wanted = set(numbers)
    with BagReader(source.path) as reader, closing(reader.messages([source.topic])) as messages:
        for index, message in enumerate(messages):
            if index in wanted:
                wanted.discard(index)
                yield index, message
            if not wanted:
                return


def _of_images_alone(problem: str) -> str:
    """The sentence without its end, which is about labels."""
    return problem.partition(": ")[0] + ": the time at which they were recorded is used"
