"""The evaluation of one bag, from its file to its state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from itertools import pairwise
from statistics import median

from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE, to_frame
from rt_segmentation.bags.reading import BagReader, Message
from rt_segmentation.bags.topics import choose_topic
from rt_segmentation.evaluation.bag.frames import BagFrame, with_truth
from rt_segmentation.evaluation.bag.job import THROUGHPUT, Job, Models
from rt_segmentation.evaluation.bag.outcome import Outcome, Segmented
from rt_segmentation.evaluation.bag.output import MaskBag, OverlayVideo
from rt_segmentation.evaluation.bag.realtime import Replay
from rt_segmentation.evaluation.bag.recorder import Recorder
from rt_segmentation.evaluation.bag.state import BagState, ModelState
from rt_segmentation.evaluation.bag.tally import Timeline
from rt_segmentation.evaluation.bag.throughput import run_all
from rt_segmentation.evaluation.bag.truth import FolderTruth, NoTruth, TopicTruth, Truth, stamp_ns
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.levels import EIGHT_BIT_FORMATS, Levels

SAVE_NS = 10_000_000_000
"""The state is saved each time so much of the bag has gone by [ns]."""
LABELS_BEFORE_NS = 2_000_000_000
"""Where an evaluation goes on, labels recorded so long before are read again [ns]."""
PERIOD_FRAMES = 32
"""The images' period is the median gap between the stamps of so many, the bag's first ones."""
DEFAULT_PERIOD_NS = 33_333_333
LATE_MS = 10.0
"""A reader that is later than this with a frame disturbs what is measured."""

Progress = Callable[[int], None]


def evaluate_bag(job: Job, models: Models, stop: threading.Event, progress: Progress) -> BagState:
    """Evaluate a bag by all models.

    Args:
        job: which bag, and how.
        models: loaded.
        stop: ends it early; what was done until then is in the state, which is not complete.
        progress: told the number of frames that are done, after each.

    Returns:
        The state; a bag that cannot be read has its reason in `bag['problem']`.

    Raises:
        EvaluationError: the folder of labels, or the state to go on from, is not as it should be, or masks
            cannot be written.
    """
    known = BagState.load(job.state_path, job.asked()) if job.resume else None
    if known is not None and (known.complete or job.settings.mode == THROUGHPUT):
        state = known
    else:
        # What came in real time before an interruption and after it is not one run.
        state = empty_state(job, len(models.labels.classes))
    if not state.complete:
        try:
            with BagReader(job.path) as reader:
                _Evaluation(job, models, stop, reader, state).run(progress)
            state.complete = not stop.is_set()
            state.bag["problem"] = reader.damage
        except BagError as error:
            state.bag["problem"] = str(error)
        if state.next_index:
            job.save(state)
    return state


def empty_state(job: Job, num_classes: int, problem: str | None = None) -> BagState:
    """The state of a bag of which nothing is known yet, or nothing but why."""
    bag = {"path": str(job.path), "start_ns": 0, "duration_s": 0.0, "image_topic": None, "label_topic": None}
    timelines = [Timeline(num_classes, job.settings.max_bins) for _ in job.settings.models]
    return BagState({**bag, "lost": None, "problem": problem}, [ModelState(t) for t in timelines])


class _Evaluation:
    """One bag on its way through the models: what is read, what is run, and what is written."""

    def __init__(
        self, job: Job, models: Models, stop: threading.Event, reader: BagReader, state: BagState
    ) -> None:
        self._job, self._settings, self._models = job, job.settings, models
        self._stop, self._reader, self._state = stop, reader, state
        # Where an earlier run had come to.
        self._counted_ns, self._next_index = state.until_ns, state.next_index
        kinds = (IMAGE, COMPRESSED_IMAGE)
        self._labels: str | None = None
        if self._settings.label_topic is not None:
            asked = self._settings.label_topic
            self._labels = choose_topic(reader.topics, asked, kinds, "label").name
        images = [topic for topic in reader.topics if topic.name != self._labels]
        self._image = choose_topic(images, self._settings.image_topic, kinds, "image")
        state.bag.update(
            start_ns=reader.start_ns,
            duration_s=(reader.end_ns - reader.start_ns) / 1e9,
            image_topic=self._image.name,
            label_topic=self._labels,
        )
        self._period_ns = DEFAULT_PERIOD_NS
        self._levels = Levels(self._settings.image_bits, self._tell)

    def run(self, progress: Progress) -> None:
        """Evaluate what the state does not have yet."""
        self._prepare()
        with ExitStack() as stack:
            masks = self._mask_bag(stack)
            videos = self._videos(stack)
            written_ns = masks.written_until_ns if masks is not None else self._counted_ns
            recorder = Recorder(
                self._state,
                self._models.names,
                self._models.labels,
                self._settings.void_ids,
                self._job.index,
                self._settings.out,
            )
            keeper = _Keeper(self._job, self._state)
            outcomes = stack.enter_context(closing(self._outcomes(written_ns)))
            for outcome in outcomes:
                if isinstance(outcome, Segmented):
                    if masks is not None:
                        masks.write(outcome)
                    if videos:
                        videos[outcome.model].write(outcome)
                if not keeper.has(outcome):
                    keeper.keep(outcome)
                    recorder.add(outcome)
                progress(self._state.next_index)
            keeper.finish()
        if self._reader.message_count is not None and not self._stop.is_set():
            self._state.bag["lost"] = max(self._image.count - self._state.next_index, 0)

    def _mask_bag(self, stack: ExitStack) -> MaskBag | None:
        if not self._settings.write_bag:
            return None
        path = self._settings.out / "masks" / self._job.stem
        going_on = self._counted_ns is not None
        masks = MaskBag(path, self._models.names, self._models.labels, not going_on, going_on)
        stack.callback(masks.close)
        return masks

    def _videos(self, stack: ExitStack) -> list[OverlayVideo]:
        if not self._settings.video:
            return []
        videos = [
            OverlayVideo(
                self._settings.out / "videos" / f"{self._job.stem}_{name}.mp4",
                self._models.labels,
                1e9 / self._period_ns,
            )
            for name in self._models.names
        ]
        for video in videos:
            stack.callback(video.close)
        return videos

    def _prepare(self) -> None:
        """Look at the bag's first images: their period, and a size that the engines are made ready for."""
        first: Frame | None = None
        deep: list[Frame] = []
        stamps: list[int] = []
        with closing(self._reader.messages({self._image.name})) as images:
            for message in images:
                if len(stamps) < PERIOD_FRAMES:
                    stamps.append(stamp_ns(message.content))
                if first is None or first.pixel_format in EIGHT_BIT_FORMATS:
                    frame = _decoded(message)
                    first = first or frame
                    deep += [frame] if frame is not None else []
                if first is not None and len(stamps) == PERIOD_FRAMES:
                    break
        # One guess for the whole bag: a frame's pixels do not depend on which thread decodes it, or on where
        # an evaluation goes on.
        self._levels.settle(deep)
        if first is not None:
            first = self._levels(first)
            for number, model in enumerate(self._state.models):
                model.engine = self._models.prepare(number, first, self._settings.mode == THROUGHPUT)
        # Not the bag's duration by the number of images: other topics and pauses are in that.
        gaps = [after - before for before, after in pairwise(sorted(stamps))]
        self._period_ns = round(median(gaps or [0])) or DEFAULT_PERIOD_NS

    def _outcomes(self, written_ns: int | None) -> Generator[Outcome, None, None]:
        if self._settings.mode == THROUGHPUT:
            counted_ns = self._counted_ns
            from_ns = None if counted_ns is None or written_ns is None else min(counted_ns, written_ns)
            yield from run_all(self._frames(from_ns), self._models.lanes, self._stop, self._levels)
            return
        for number, segmenter in enumerate(self._models.lanes[0]):
            # In real time each model has the machine to itself, as on the robot.
            replay = Replay(segmenter, number, self._settings.rate, self._stop, self._levels)
            yield from replay.run(self._frames(None))
            if replay.late_ns > LATE_MS * 1e6:
                self._state.problems.append(
                    f"the bag was read up to {replay.late_ns / 1e6:.0f} ms too late for real time:"
                    f" latencies of {self._models.names[number]} are too long by as much"
                )
            if replay.held_up_ns > LATE_MS * 1e6:
                self._state.problems.append(
                    f"counting and writing the masks of {self._models.names[number]} held the model up for"
                    f" {replay.held_up_ns / 1e9:.2f} s in all: a robot would have dropped fewer frames"
                )

    def _frames(self, from_ns: int | None) -> Generator[BagFrame, None, None]:
        topics = {self._image.name} | ({self._labels} if self._labels is not None else set())
        messages: Iterator[Message] = self._reader.messages(topics)
        if from_ns is not None:
            messages = self._after(messages, from_ns - LABELS_BEFORE_NS)
        truth = self._truth()
        for frame in with_truth(messages, self._image.name, truth, self._counted_ns, self._next_index):
            if from_ns is None or frame.message.recorded_ns > from_ns:
                yield frame

    def _after(self, messages: Iterator[Message], after_ns: int) -> Iterator[Message]:
        """Those after a time; the others are read all the same, for the reader to know what is damaged."""
        for message in messages:
            if self._stop.is_set():
                return
            if message.recorded_ns > after_ns:
                yield message

    def _tell(self, sentence: str) -> None:
        if sentence not in self._state.problems:
            self._state.problems.append(sentence)

    def _truth(self) -> Truth:
        if self._labels is not None:
            return TopicTruth(self._period_ns // 2)
        if self._settings.labels is not None:
            return FolderTruth(self._settings.labels, self._period_ns // 2)
        return NoTruth()


def _decoded(message: Message) -> Frame | None:
    try:
        return to_frame(message)
    except ImageError:
        return None


class _Keeper:
    """Knows which frames are counted, and saves the state every 10 s of the bag, between two frames."""

    def __init__(self, job: Job, state: BagState) -> None:
        self._job, self._state = job, state
        self._begun_ns = state.until_ns
        self._saved_ns: int | None = None
        self._interval = [time.time(), time.time()]
        state.intervals.append(self._interval)

    def has(self, outcome: Outcome) -> bool:
        """Whether an earlier run counted this frame."""
        return self._begun_ns is not None and outcome.source.message.recorded_ns <= self._begun_ns

    def keep(self, outcome: Outcome) -> None:
        """Note that a frame is about to be counted."""
        recorded_ns = outcome.source.message.recorded_ns
        if self._saved_ns is None:
            self._saved_ns = recorded_ns
        is_next = self._state.until_ns is None or recorded_ns > self._state.until_ns
        if is_next and recorded_ns - self._saved_ns >= SAVE_NS and self._job.settings.mode == THROUGHPUT:
            self._interval[1] = time.time()
            self._job.save(self._state)
            self._saved_ns = recorded_ns
        self._state.from_ns = min(recorded_ns, self._state.from_ns or recorded_ns)
        self._state.until_ns = max(recorded_ns, self._state.until_ns or recorded_ns)
        self._state.next_index = max(self._state.next_index, outcome.source.index + 1)

    def finish(self) -> None:
        """The bag's end, or that of the user's patience."""
        self._interval[1] = time.time()
