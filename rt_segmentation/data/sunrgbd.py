"""SUN RGB-D (Song et al., 2015) with its 37 classes, as in the ENet paper."""

from __future__ import annotations

from pathlib import Path

from rt_segmentation.data.dataset import (
    DatasetError,
    FileDataset,
    IdMap,
    Pair,
    Pairing,
    name_some,
    pair_files,
)
from rt_segmentation.files import FilesByName, files_in
from rt_segmentation.imaging.levels import AUTO
from rt_segmentation.labels import load_label_set
from rt_segmentation.text import counted

TEST_FRAMES = 5050
"""Label files are numbered through: these are test, what follows is train."""

LABEL_FOLDER = "sunrgbd_train_test_labels"


class SunRgbd(FileDataset):
    """SUN RGB-D's colour images; files have 0 for unlabelled, which becomes 255, and 1 to 37 for the classes.

    Two layouts are known. As unpacked from the archives that the segmentation literature uses:
    `SUNRGBD-train_images/img-NNNNNN.jpg` (1 to 5285), `SUNRGBD-test_images/img-NNNNNN.jpg` (1 to 5050) and
    `sunrgbd_train_test_labels/img-NNNNNN.png`, where the labels of test come first and those of train from
    5051 on. Or sorted: `images/SPLIT/NAME.jpg` and `labels/SPLIT/NAME.png` with equal names.

    Args:
        root: the folder.
        split: 'train' or 'test'.
        complete: refuse images without labels; False leaves them out.
        image_bits: how many bits 16-bit images use, or 'auto'.

    Raises:
        DatasetError: the folders or labels are missing; reading a frame raises it for a bad file or id.
    """

    def __init__(
        self, root: str | Path, split: str, complete: bool = True, image_bits: str | int = AUTO
    ) -> None:
        root = Path(root)
        if split not in ("train", "test"):
            raise DatasetError(f"SUN RGB-D has no split '{split}'; there are train, test")
        sorted_labels = root / "labels" / split
        if sorted_labels.is_dir():
            pairing = pair_files(root / "images" / split, sorted_labels)
        elif (root / LABEL_FOLDER).is_dir():
            pairing = _numbered_pairs(root, split)
        else:
            raise DatasetError(
                f"SUN RGB-D split '{split}' has no labels: {root / LABEL_FOLDER} or {sorted_labels}"
                " should exist"
            )
        labels = load_label_set("sunrgbd37")
        super().__init__(
            labels, pairing, IdMap({c.id + 1: c.id for c in labels.classes}, (0,)), complete, image_bits
        )


def _numbered_pairs(root: Path, split: str) -> Pairing:
    images, labels = root / f"SUNRGBD-{split}_images", root / LABEL_FOLDER
    if not images.is_dir():
        raise DatasetError(f"folder {images} does not exist")
    offset = TEST_FRAMES if split == "train" else 0
    label_files = FilesByName(files_in(labels, (".png",)))
    pairs, missing = [], []
    for image in files_in(images):
        number = image.stem.removeprefix("img-")
        if not number.isdecimal():
            raise DatasetError(f"{image} is not named as img-000001.jpg")
        wanted = f"img-{int(number) + offset:06d}.png"
        label = label_files.find(wanted)
        if label is not None:
            pairs.append(Pair(image, label, f"{split}-{number}"))
        else:
            missing.append(wanted)
    if not pairs and not missing:
        raise DatasetError(f"folder {images} has no images")
    sentence = f"folder {labels} lacks {counted(len(missing), 'label')}: {name_some(missing)}"
    return Pairing(pairs, [sentence] if missing else [], [])
