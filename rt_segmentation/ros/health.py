"""Health of one camera's images and of their masks, as diagnostic statuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from rt_segmentation.inference.segmenter import ModelAnswer, Segmentation
from rt_segmentation.profiles import Answers
from rt_segmentation.ros.health_parameters import DRIFT_LIMIT, input_limits
from rt_segmentation.runtime.drift import Drift
from rt_segmentation.runtime.input_health import InputHealth

NOTHING_SEEN = "no image has been looked at lately"
NOTHING_COMPARED = "no masks have been compared lately"
NO_PROFILE = "the model has no profile to compare with; `rt_seg models profile` measures one"


class Health:
    """Looks at what one camera sends and at what the model makes of it; what it costs is in docs/health.md.

    `arrived` may be called by one thread, `look` by another one, and `statuses` by a third.
    """

    def __init__(self) -> None:
        self._images = InputHealth()
        self._model: _Model | None = None

    def arrived(self) -> None:
        """An image came, whether or not it will be segmented."""
        self._images.arrived()

    def look(self, result: Segmentation) -> None:
        """Look at a frame and its masks, which have the network's size still."""
        placement = result.placement
        view = placement.region, placement.rotation, placement.content.size
        content = placement.content.slices
        self._images.look(result.rgb[content], result.frame.stamp_ns, view)
        answer = result.answer
        if answer is None:
            return
        if self._model is None or self._model.is_other(answer):
            self._model = _Model(answer)
        self._model.look(result)

    @property
    def drift(self) -> float | None:
        """Of the last masks from the model's profile [standard deviations]; None without one, or of few."""
        model = self._model
        return None if model is None or model.drift is None else model.drift.value

    def statuses(
        self, name: str, parameter: Callable[[str], Any]
    ) -> tuple[list[DiagnosticStatus], list[str]]:
        """Return a status of the images and one of the masks, and all sentences in them that warn.

        Args:
            name: of the node, or of its camera.
            parameter: gives a parameter's current value by name.
        """
        self._images.limits = input_limits(parameter)
        images, masks = self._images.problems(), list[str]()
        as_usual = "the images are as usual" if self._images.has_looked else NOTHING_SEEN
        model, limit = self._model, parameter(DRIFT_LIMIT)
        values = {"limit [standard deviations]": f"{limit:g}"}
        usual = NO_PROFILE if model is not None and model.drift is None else NOTHING_COMPARED
        if model is not None and model.drift is not None:
            masks = model.drift.problems(limit)
            drift = model.drift.value
            if drift is not None:
                values["drift [standard deviations]"] = f"{drift:.2f}"
                usual = f"the answers are like those on {model.data}"
            values["profile"] = model.data
        return [
            _status(f"{name}: camera", images, as_usual, {}),
            _status(f"{name}: model", masks, usual, values),
        ], [*images, *masks]


class _Model:
    """A model, and how its answers are compared with its profile; for one thread."""

    def __init__(self, answer: ModelAnswer) -> None:
        self._manifest = answer.manifest
        profile = answer.manifest.profile
        self._answers = Answers(len(answer.label_set.classes))
        self.drift = None if profile is None else Drift(profile, answer.label_set.names)
        self.data = "" if profile is None else profile.data

    def is_other(self, answer: ModelAnswer) -> bool:
        """Whether an answer is another model's."""
        return answer.manifest is not self._manifest

    def look(self, result: Segmentation) -> None:
        """Count an answer."""
        if self.drift is None or result.answer is None:
            return
        content = result.placement.content.slices
        confidence = None if result.confidence is None else result.confidence[content]
        self.drift.add(self._answers.read(result.answer.labels[content], confidence))


def _status(name: str, trouble: Sequence[str], usual: str, values: dict[str, str]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=DiagnosticStatus.WARN if trouble else DiagnosticStatus.OK,
        name=name,
        message="; ".join(trouble) or usual,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
