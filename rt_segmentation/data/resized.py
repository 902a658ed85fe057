"""A data set as networks see it: its frames at the height of the input."""

from __future__ import annotations

from rt_segmentation.data.dataset import Sample, SegmentationDataset
from rt_segmentation.imaging.convert import resize_labels
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.placement import place, width_for


class Resized:
    """Frames resized as a model's images are; labels by the nearest pixel.

    Args:
        dataset: the frames.
        height: of the network's input [px]; the width keeps each frame's aspect ratio.
    """

    def __init__(self, dataset: SegmentationDataset, height: int) -> None:
        self._dataset, self._height = dataset, height
        self.label_set = dataset.label_set

    @property
    def ignored_ids(self) -> frozenset[int]:
        """Those of the frames."""
        return self._dataset.ignored_ids

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        frame = Frame.from_rgb(sample.image)
        own = frame.width, frame.height
        size = width_for(own, self._height), self._height
        return Sample(place(own, size).to_network(frame), resize_labels(sample.labels, size), sample.name)
