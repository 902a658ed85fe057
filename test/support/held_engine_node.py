"""The segmentation node with inferences that do not end before the file named by RELEASE is there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.segmenter import Segmentation, Segmenter
from rt_segmentation.ros.segmentation_node import main

infer = Segmenter.infer


def held(
    segmenter: Segmenter,
    frames: Sequence[Frame],
    confidence: bool = False,
    sources: Sequence[str] = (),
    *,
    kept: bool = False,
) -> list[Segmentation]:
    results = infer(segmenter, frames, confidence, sources, kept=kept)
    print("held", flush=True)
    while not Path(os.environ["RELEASE"]).exists():
        time.sleep(0.01)
    return results


with patch.object(Segmenter, "infer", held):
    sys.exit(main())
