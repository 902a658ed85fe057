"""What the ids of masks mean: by label_info where it comes, else by parameter label_set."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from rclpy.node import Node

from rt_segmentation.groups import is_id
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.ros.cloud_parameters import named_classes
from rt_segmentation.ros.ground_messages import package_missing
from rt_segmentation.ros.topic_input import TopicInput

AWAITED_S = 2.0
"""A latched message is here sooner; one that is not latched may have come before."""


class ClassNames:
    """The names of a mask's classes, where parameters go by names; ids alone need none.

    Args:
        node: subscribes to `label_info`.
        label_set: what the parameter of this name says.
        entries: what the parameters name: classes, groups or ids.
        what: they say, in a sentence.

    Attributes:
        wanted: whether any entry is a name.
        given: names by id of `label_set`; None where it is empty.
        missing: a sentence where label_info cannot be read; empty where it can.
        contradiction: where label_info is not what label_set says, in a sentence; empty where they agree.

    Raises:
        ParameterError: there is no such label set.
    """

    def __init__(self, node: Node, label_set: str, entries: Iterable[str], what: str) -> None:
        self._label_set, self._what = label_set, what
        self.wanted = not all(map(is_id, entries))
        labels = named_classes(label_set)
        self.given = {entry.id: entry.name for entry in labels.classes} if labels is not None else None
        self.missing = package_missing("vision_msgs", "label_info cannot be read") if self.wanted else ""
        self._input: TopicInput | None = None
        if self.wanted and not self.missing:
            message_type = importlib.import_module("vision_msgs.msg").LabelInfo
            self._input = TopicInput(node, "label_info", message_type, self.take)
        self._told: dict[int, str] | None = None
        self._known: Mapping[int, str] | None = self.given if self.wanted else {}
        self.contradiction = ""

    @property
    def at_start(self) -> Mapping[int, str] | None:
        """The names by id as far as parameters tell; None where label_info will."""
        return {} if self.given is None and self.missing else self.given

    @property
    def has(self) -> str:
        """What names there are, as a part of a sentence."""
        if self._told is not None:
            return f"the mask has {', '.join(self._told.values()) or 'none'}"
        if self.given is not None:
            return f"label set '{self._label_set}' has {', '.join(self.given.values())}"
        return f"set label_set for names{self.missing and f'; {self.missing}'}"

    @property
    def awaited(self) -> bool:
        """Whether label_info is about to come: masks that are here first wait for it."""
        source = self._input
        if self._told is not None or source is None:
            return False
        return 0 < source.subscribed_s < AWAITED_S and source.has_publisher

    def update(self, listened: bool) -> None:
        """Subscribe while somebody listens to what is made of masks."""
        if self._input is not None:
            self._input.update(listened)
            if not listened:
                # Another model may run when somebody listens again.
                self._told, self._known, self.contradiction = None, self.given, ""

    def take(self, message: Any) -> None:
        """Take a LabelInfo; a mask's pixel can have no id above 254."""
        told = {
            int(entry.class_id): entry.class_name for entry in message.class_map if entry.class_id < IGNORE_ID
        }
        if told != self._told:
            self._told, self.contradiction = told, self._contradicted(told)
            # What label_info leaves out has no pixels.
            self._known = {**(self.given or {}), **told}

    def known(self) -> Mapping[int, str]:
        """The names by id; the same object until they change.

        Raises:
            ImageError: ``no_label_info``: nothing tells them; ``other_classes``: label_set and label_info
                contradict each other.
        """
        if self.contradiction:
            raise ImageError("other_classes", self.contradiction)
        if self._known is None:
            why = self.missing or (self._input.why_silent() if self._input is not None else "")
            raise ImageError(
                "no_label_info",
                f"{self._what} is not known, as no LabelInfo has come on {self._topic}: {why}, or set"
                " label_set",
            )
        return self._known

    @property
    def _topic(self) -> str:
        return self._input.topic if self._input is not None else "label_info"

    def _contradicted(self, told: Mapping[int, str]) -> str:
        """Where label_info is not what label_set says, in a sentence; empty where they agree."""
        given = self.given or {}
        place = {name.casefold(): number for number, name in given.items()}
        for number, name in told.items():
            own = given.get(number, "nothing")
            if own.casefold() == name.casefold():
                continue
            if number in given or name.casefold() in place:
                return (
                    f"label_set is '{self._label_set}', in which {number} is {own}, and in the masks it is "
                    f"{name}, as {self._topic} says: set label_set to what the masks have, as "
                    "camvid11/driving for these groups, or leave it empty"
                )
        return ""
