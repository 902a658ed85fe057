"""Segment one image: `python examples/segment_image.py street.jpg overlay.png`."""

import sys

import cv2

import rt_segmentation as rt

bgr = cv2.imread(sys.argv[1])
result = rt.Segmenter("lednet")(bgr[..., ::-1], confidence=True)

shares = {c.name: (result.labels == c.id).mean() for c in result.label_set.classes}
for name, share in sorted(shares.items(), key=lambda item: -item[1]):
    print(f"{name:12} {share:6.1%}")
cv2.imwrite(sys.argv[2], result.overlay()[..., ::-1])
