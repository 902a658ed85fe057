"""A network of your own, trained and run: `python examples/own_network.py FOLDER`.

The data are those of own_dataset.py. Afterwards the model runs in the node as well, which must be told that
it may import your code, and must find it: set RT_SEG_NETWORKS=own_network:Small in its environment, and
add this folder to its PYTHONPATH.
"""

import subprocess
import sys
from pathlib import Path

import cv2
import own_dataset
import torch
import torch.nn.functional as F
from torch import nn

import rt_segmentation as rt
from rt_segmentation.networks import allow_network


def block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """Depthwise and pointwise convolution."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, stride, 1, groups=channels_in, bias=False),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Small(nn.Module):
    """Any module from images (N, 3, H, W) to logits (N, classes, H, W) is a network."""

    multiple = 4  # H and W are padded to multiples of it

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.fine, self.coarse = block(3, width, 2), block(width, 2 * width, 2)
        self.main, self.aux = nn.Conv2d(3 * width, num_classes, 1), nn.Conv2d(width, num_classes, 1)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The logits are under `out`; others help in training."""
        fine = self.fine(images)
        coarse = F.interpolate(self.coarse(fine), scale_factor=2.0, mode="nearest")
        out = F.interpolate(self.main(torch.cat((fine, coarse), 1)), scale_factor=2.0, mode="nearest")
        return {"out": out, "aux": self.aux(fine)}


RECIPE = own_dataset.RECIPE.replace("name: disks", "name: small\nnetwork: own_network:Small")

if __name__ == "__main__":
    root = Path(sys.argv[1]).resolve()
    own_dataset.prepare(root)
    (root / "small.yaml").write_text(RECIPE.replace("LABELS", str(root / "labels.yaml")))
    train = [sys.executable, "-m", "rt_segmentation.cli", "train", str(root / "small.yaml")]
    here = Path(__file__).parent  # the training finds own_network in the folder where it is started
    subprocess.run([*train, "--data-root", str(root), "--out", str(root / "runs")], cwd=here, check=True)

    allow_network("own_network:Small")
    segmenter = rt.Segmenter(root / "runs" / "small" / "small.yaml", "onnxruntime")
    image = cv2.imread(str(root / "val" / "images" / "0.png"))
    print(f"disk: {(segmenter(image[..., ::-1]).labels == 1).mean():.1%} of the image")
