"""From frames to label images: the segmenter and the engines that run the networks."""
