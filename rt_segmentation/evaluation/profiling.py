"""What a model's answers look like on frames that it is meant for, and how right its confidence is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rt_segmentation.data.dataset import Sample, SegmentationDataset
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.evaluation.reliability import Reliability, fit_temperature
from rt_segmentation.imaging.convert import resize_labels
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.models import ModelError, ModelManifest
from rt_segmentation.profiles import Answer, Answers, Profile

CALIBRATION_FRAMES = 50
"""Number of frames, spread over all, whose logits a temperature is fitted on."""
PIXELS = 4_000
"""Number of labelled pixels that are taken of each."""
SEED = 0


def read_answers(segmenter: Segmenter, images: Iterable[np.ndarray]) -> Iterator[Answer]:
    """Segment images, uint8 (H, W, 3) RGB, in the order of a recording, and summarise each one's masks.

    Raises:
        EngineError: the engine failed.
    """
    answers: Answers | None = None
    for image in images:
        (result,) = segmenter.infer([Frame.from_rgb(image)], confidence=True)
        answer = result.answer
        assert answer is not None
        answers = answers or Answers(len(answer.label_set.classes))
        yield answers.read(answer.labels, result.confidence)


def profile_of(answers: Sequence[Answer], data: str) -> Profile:
    """The profile of answers to frames.

    Args:
        answers: of `read_answers`.
        data: what the frames are, for people.

    Raises:
        EvaluationError: there are fewer than two, or the engine gave no confidence.
    """
    if any(answer.confidence is None for answer in answers):
        raise EvaluationError("the engine gives no confidence, which a profile needs")
    try:
        return Profile.of(answers, data)
    except ValueError as error:
        raise EvaluationError(str(error)) from error


@dataclass(frozen=True)
class Calibration:
    """A temperature, and the expected calibration errors without it and with it, 0 to 1."""

    temperature: float
    error_before: float
    error_after: float


class Calibrator:
    """Collects logits of a model's float32 network on labelled frames, and fits a temperature.

    Args:
        manifest: the model.
        dataset: the frames, in the model's classes.

    Raises:
        ModelError: the weights are missing or damaged, or an ONNX graph gives no logits.
    """

    def __init__(self, manifest: ModelManifest, dataset: SegmentationDataset) -> None:
        self._dataset = dataset
        self._logits_of = _logits_of(manifest)
        engine = "torch" if manifest.onnx is None else "auto"
        self._placing = Segmenter.build(manifest, engine, "fp32").config
        self._random = np.random.default_rng(SEED)
        self._logits: list[np.ndarray] = []
        self._truth: list[np.ndarray] = []

    def add(self, sample: Sample) -> None:
        """Take some of a frame's labelled pixels, at the network's size."""
        frame = Frame.from_rgb(sample.image)
        placement = self._placing.placement(frame)
        width, height = placement.network
        pixels = np.empty((height, width, 3), np.uint8)
        placement.to_network(frame, pixels)
        logits = self._logits_of(pixels)
        truth = resize_labels(sample.labels, (width, height)).ravel()
        labelled = ~np.isin(truth, [IGNORE_ID, *self._dataset.ignored_ids])
        places = np.flatnonzero(labelled)
        chosen = self._random.choice(places, min(len(places), PIXELS), replace=False)
        self._logits.append(logits.reshape(len(logits), -1)[:, chosen].T)
        self._truth.append(truth[chosen])

    def fit(self) -> Calibration:
        """The temperature of the pixels collected; 1 where none lowers the calibration error.

        Raises:
            EvaluationError: none of them is labelled.
        """
        logits, truth = np.concatenate(self._logits), np.concatenate(self._truth)
        try:
            temperature = round(fit_temperature(logits, truth), 4)
        except ValueError as error:
            raise EvaluationError(str(error)) from error
        before, after = _error(logits, truth, 1.0), _error(logits, truth, temperature)
        # The likelihood can gain where the error does not: a model that is calibrated stays as it is.
        return (
            Calibration(1.0, before, before) if after >= before else Calibration(temperature, before, after)
        )


def _logits_of(manifest: ModelManifest) -> Callable[[np.ndarray], np.ndarray]:
    """From an image at the network's size, uint8 (H, W, 3) RGB, to float32 (C, H, W)."""
    if manifest.onnx is not None:
        from rt_segmentation.inference.foreign.original import original_of

        if manifest.onnx.gives != "logits":
            raise ModelError(
                f"model '{manifest.name}' is an ONNX graph that gives {manifest.onnx.gives}: a temperature is"
                " for logits"
            )
        return original_of(manifest).scores
    import torch

    from rt_segmentation.inference.network import load_network
    from rt_segmentation.networks.outputs import logits_for, multiple_of

    network = load_network(manifest)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (manifest.mean, manifest.std))

    def logits_of(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            images = (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - mean) / std
            logits = logits_for(network, images.unsqueeze(0), multiple_of(network))[0]
        return np.asarray(logits.numpy())

    return logits_of


def _error(logits: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """The expected calibration error of logits float32 (N, C) against labels uint8 (N,)."""
    below_top = logits - logits.max(1, keepdims=True)
    confidence = np.rint(255 / np.exp(below_top / np.float32(temperature)).sum(1)).astype(np.uint8)
    reliability = Reliability()
    reliability.update(confidence, logits.argmax(1).astype(np.uint8), truth)
    return reliability.error()
