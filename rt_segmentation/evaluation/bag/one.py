"""The evaluation of one bag, from its file to its state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from statistics import median

from rt_segmentation.bags.choosing import DEPTH, IDS, IMAGE_TYPES, LABELS, choose_images
from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import to_frame
from rt_segmentation.bags.reading import BagReader, Message
from rt_segmentation.bags.topics import choose_topic
from rt_segmentation.evaluation.bag.clock import (
    Moment,
    Times,
    choose_moment,
    exactness,
    period,
    recorded_of,
    seconds,
    stamp_of,
    times_of,
)
from rt_segmentation.evaluation.bag.clouds import BagClouds, choose_cloud
from rt_segmentation.evaluation.bag.frames import BagFrame, with_truth
from rt_segmentation.evaluation.bag.job import THROUGHPUT, Job, Models
from rt_segmentation.evaluation.bag.outcome import Outcome, Segmented
from rt_segmentation.evaluation.bag.output import MaskBag, OverlayVideo
from rt_segmentation.evaluation.bag.realtime import PAUSE_S, Replay
from rt_segmentation.evaluation.bag.recorder import Recorder
from rt_segmentation.evaluation.bag.state import NO_VIDEO, BagFacts, BagState, ModelState
from rt_segmentation.evaluation.bag.tally import Timeline
from rt_segmentation.evaluation.bag.throughput import run_all
from rt_segmentation.evaluation.bag.truth import FolderTruth, NoTruth, TopicTruth, Truth
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.levels import EIGHT_BIT_FORMATS, Levels

SAVE_NS = 10_000_000_000
"""Interval of the bag's time at which the state is saved [ns]."""
FIRST_IMAGES, FIRST_LABELS = 32, 8
"""Number of first images and labels from which the images' period and the pairing are found."""
FIRST_MESSAGES = 1000
"""Number of messages among which labels are looked for."""
FEW = 0.5
"""Where a smaller share of images or labels, whichever are fewer, is paired, something is wrong."""
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
        The state; a bag that cannot be read has its reason in `bag.problem`.

    Raises:
        EvaluationError: the folder of labels, or the state to resume from, is not as it should be, or masks
            cannot be written.
    """
    asked = job.asked()
    known = BagState.load(job.state_path, asked) if job.resume else None
    if known is not None and (known.complete or job.settings.mode == THROUGHPUT):
        state = known
    else:
        # What came in real time before an interruption and after it is not one run.
        state = empty_state(job, len(models.labels.classes))
        if known is not None:
            # Of these the masks are begun anew, and no videos.
            state.problems += [text for text in known.problems if text.startswith(NO_VIDEO)]
    if not state.complete:
        try:
            with BagReader(job.path) as reader:
                _Evaluation(job, models, stop, reader, state).run(progress)
            state.complete = not stop.is_set()
            state.bag.problem = reader.damage
        except BagError as error:
            state.bag.problem = str(error)
        if state.next_index and (problem := job.save(state)):
            state.unwritten.append(problem)
    return state


def empty_state(job: Job, num_classes: int, problem: str | None = None) -> BagState:
    """The state of a bag of which nothing is known yet, or nothing but why."""
    timelines = [Timeline(num_classes, job.settings.max_bins) for _ in job.settings.models]
    return BagState(BagFacts(str(job.path), problem=problem), [ModelState(t) for t in timelines])


class _Evaluation:
    """One bag on its way through the models: what is read, what is run, and what is written."""

    def __init__(
        self, job: Job, models: Models, stop: threading.Event, reader: BagReader, state: BagState
    ) -> None:
        self._job, self._settings, self._models = job, job.settings, models
        self._stop, self._reader, self._state = stop, reader, state
        # Where an earlier run stopped.
        self._next_index = state.next_index
        self._label_count = 0
        self._labels: str | None = None
        if self._settings.label_topic is not None:
            labels = choose_topic(reader.topics, self._settings.label_topic, IMAGE_TYPES, "label")
            self._labels, self._label_count = labels.name, labels.count
        without = [] if self._labels is None else [self._labels]
        if self._settings.cloud_topic is not None:
            without.append(choose_cloud(reader, self._settings.cloud_topic).name)
        options = {}
        if self._labels is None and self._settings.labels is None:
            options = dict.fromkeys((LABELS, IDS), "--label-topic one that is the ground truth")
        if self._settings.cloud_topic is None:
            options[DEPTH] = "--cloud-topic one whose clouds are to be labelled"
        self._image, note = choose_images(reader, self._settings.image_topic, without, options)
        state.notes = [*([note] if note else []), *reader.notes]
        state.bag = replace(
            state.bag,
            start_ns=reader.start_ns,
            duration_s=(reader.end_ns - reader.start_ns) / 1e9,
            image_topic=self._image.name,
            label_topic=self._labels,
        )
        self._moment: Moment = stamp_of
        self._period_ns = self._recorded_period_ns = period((), stamp_of)
        self._levels = Levels(self._settings.image_bits, self._tell)

    def run(self, progress: Progress) -> None:
        """Evaluate what the state does not have yet."""
        self._prepare()
        with ExitStack() as stack:
            clouds = self._clouds(stack)
            masks = self._mask_bag(stack, clouds)
            videos = self._videos(stack)
            first = self._next_index if masks is None else min(self._next_index, masks.closed[0])
            recorder = Recorder(
                self._state,
                self._models.names,
                self._models.labels,
                *self._models.id_tables(self._settings.void_ids),
                self._job.index,
                self._settings.out,
                self._moment,
            )
            keeper = _Keeper(self._job, self._state, masks, self._recorded_period_ns)
            outcomes = stack.enter_context(closing(self._outcomes(first)))
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
        keeper.note_masks()
        if clouds is not None and clouds.problem:
            self._state.problems.append(clouds.problem)
        if self._stop.is_set():
            return
        if self._reader.message_count is not None:
            self._state.bag.lost = max(self._image.count - self._state.next_index, 0)
        if not self._state.next_index and self._reader.damage is None:
            self._state.problems.append(f"topic {self._image.name} has no messages")
        if problem := self._few_labels():
            self._state.problems.append(problem)

    def _few_labels(self) -> str:
        """A sentence, if most of the labels or images found no partner."""
        images, paired, apart_ns = self._state.next_index, self._state.paired, self._state.apart_ns
        if self._labels is not None:
            source, count = f"topic {self._labels} ({self._label_count} messages)", self._label_count
        elif self._settings.labels is not None and self._state.next_index:
            truth = FolderTruth(self._settings.labels, self._period_ns // 2)
            first_ns, last_ns = self._state.moments_ns or (0, 0)
            count = truth.count(first_ns, last_ns)
            source = f"folder {self._settings.labels} ({count} files)"
        else:
            return ""
        if not images or paired >= FEW * min(images, count) > 0:
            return ""
        apart = "of the others none was recorded within 2 s of labels"
        if apart_ns:
            apart = f"the nearest labels of the others are {seconds(median(apart_ns))} in the middle"
        return (
            f"{paired} of {images} images have labels from {source}; {apart}, and they may be"
            f" {self._period_ns / 2e9:.3f} s away, half the images' period"
        )

    def _clouds(self, stack: ExitStack) -> BagClouds | None:
        settings = self._settings
        if settings.cloud_topic is None:
            return None
        clouds = BagClouds(
            self._reader,
            settings.cloud_topic,
            settings.camera_info_topic,
            self._image.name,
            settings.cloud_tolerance_s,
        )
        stack.callback(clouds.close)
        return clouds

    def _mask_bag(self, stack: ExitStack, clouds: BagClouds | None) -> MaskBag | None:
        if not self._settings.write_bag:
            return None
        path = self._settings.out / "masks" / self._job.stem
        frame, count = self._state.masks
        closed = (frame, count) if self._next_index else None
        masks = MaskBag(path, self._models.names, self._models.labels, closed, clouds)
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
            stack.callback(self._close, video)
        return videos

    def _close(self, video: OverlayVideo) -> None:
        video.close()
        if video.problem:
            self._state.unwritten.append(video.problem)

    def _prepare(self) -> None:
        """Look at the bag's first images: their period, and a size that the engines are made ready for.

        Raises:
            BagError: none of them holds the part that the models are to see.
        """
        decoded: Frame | None = None
        first: Frame | None = None
        unfit = ""
        deep: list[Frame] = []
        images: list[Times] = []
        labels: list[Times] = []
        with closing(self._reader.messages(self._topics())) as messages:
            for count, message in enumerate(messages, 1):
                if message.topic == self._labels:
                    labels.append(times_of(message))
                    continue
                images.append(times_of(message))
                wants_deep = decoded is None or decoded.pixel_format in EIGHT_BIT_FORMATS
                wants_deep = wants_deep and len(deep) < FIRST_IMAGES
                if (first is None or wants_deep) and (frame := _decoded(message)) is not None:
                    decoded = decoded or frame
                    deep += [frame] if wants_deep else []
                    refusal = self._models.refusal(frame)
                    unfit, first = unfit or refusal, first or (None if refusal else frame)
                enough = self._labels is None or len(labels) >= FIRST_LABELS or count >= FIRST_MESSAGES
                found = first is not None or (decoded is not None and count >= FIRST_MESSAGES)
                if found and len(images) >= FIRST_IMAGES and enough:
                    break
        if first is None and unfit:
            raise BagError(f"bag {self._job.path}: {unfit}")
        # One guess for the whole bag: a frame's pixels do not depend on which thread decodes it, or on where
        # an evaluation goes on.
        self._levels.settle(deep)
        if first is not None:
            first = self._levels(first)
            for number, model in enumerate(self._state.models):
                model.ran = self._models.prepare(number, first, self._settings.mode == THROUGHPUT)
        self._moment, problem = choose_moment(images, labels)
        self._period_ns = period(images[:FIRST_IMAGES], self._moment)
        self._recorded_period_ns = period(images[:FIRST_IMAGES], recorded_of)
        asked = self._labels is not None or self._settings.labels is not None
        if problem and asked and problem not in self._state.problems:
            self._state.problems.append(problem)
        if not problem and (note := exactness(images, labels)):
            self._state.notes.append(note)

    def _topics(self) -> set[str]:
        return {self._image.name} | ({self._labels} if self._labels is not None else set())

    def _outcomes(self, first: int) -> Generator[Outcome, None, None]:
        if self._settings.mode == THROUGHPUT:
            yield from run_all(self._frames(first), self._models.lanes, self._stop, self._levels)
            return
        for number, segmenters in enumerate(zip(*self._models.lanes)):
            # In real time each model has the machine to itself, as on the robot.
            replay = Replay(segmenters, number, self._settings.rate, self._stop, self._levels)
            yield from replay.run(self._frames(0))
            if replay.skipped_ns and not number:
                skipped = timedelta(seconds=round(replay.skipped_ns * self._settings.rate / 1e9))
                self._state.notes.append(
                    f"pauses between images are played as {PAUSE_S:g} s at most:"
                    f" {skipped} of the bag's time are left out"
                )
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

    def _frames(self, first: int) -> Iterator[BagFrame]:
        """Those from an index on; the others are read all the same, for their labels and for what is damaged.

        By number: times repeat, and go back where a clock was set.
        """
        for frame in with_truth(self._messages(), self._image.name, self._truth(), self._moment, first):
            # Those that come when reading was stopped have not waited for their labels.
            if self._stop.is_set():
                return
            yield frame

    def _messages(self) -> Iterator[Message]:
        for message in self._reader.messages(self._topics()):
            if self._stop.is_set():
                return
            yield message

    def _tell(self, sentence: str) -> None:
        if sentence not in self._state.problems:
            self._state.problems.append(sentence)

    def _truth(self) -> Truth:
        if self._labels is not None:
            return TopicTruth(self._period_ns // 2, self._moment)
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

    def __init__(self, job: Job, state: BagState, masks: MaskBag | None, period_ns: int) -> None:
        self._job, self._state, self._masks = job, state, masks
        state.played.period_ns = period_ns
        self._begun = state.next_index
        self._saved_ns: int | None = None
        self._interval = [time.time(), time.time()]
        state.intervals.append(self._interval)

    def has(self, outcome: Outcome) -> bool:
        """Whether an earlier run counted this frame."""
        return outcome.source.index < self._begun

    def keep(self, outcome: Outcome) -> None:
        """Note that a frame is about to be counted."""
        recorded_ns = outcome.source.message.recorded_ns
        if self._saved_ns is None:
            self._saved_ns = recorded_ns
        is_next = outcome.source.index >= self._state.next_index
        is_due = abs(recorded_ns - self._saved_ns) >= SAVE_NS
        if is_next and is_due and self._job.settings.mode == THROUGHPUT:
            self._interval[1] = time.time()
            self.note_masks()
            # Where it cannot be written the last one stays; the one at the end tells.
            self._job.save(self._state)
            self._saved_ns = recorded_ns
        if is_next:
            if self._state.last_ns is not None:
                self._state.played.add(recorded_ns - self._state.last_ns)
            self._state.last_ns = recorded_ns
            self._state.next_index = outcome.source.index + 1

    def note_masks(self) -> None:
        """Note from where on masks are missing in the closed splits of their bag."""
        if self._masks is not None:
            self._state.masks = list(self._masks.closed)

    def finish(self) -> None:
        """The bag's end, or that of the user's patience."""
        self._interval[1] = time.time()
