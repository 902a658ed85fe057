"""From frames to label images: the segmenter and the engines that run the networks."""

from rt_segmentation import telemetry

# Every library that an engine needs is imported after this.
telemetry.switch_off()
