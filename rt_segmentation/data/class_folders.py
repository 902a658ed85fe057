"""Images in one folder a class, as ImageNet lies on disk; for training encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rt_segmentation.data.dataset import DatasetError, levels_of, name_some, read_rgb
from rt_segmentation.files import files_in


class ClassFolders:
    """`ROOT/SPLIT/CLASS/*.jpg` (or .jpeg, .png); the classes are the folders' names, sorted.

    Args:
        root: the folder.
        split: as 'train'; '' where the data are not split.

    Raises:
        DatasetError: there are not two classes, or one has no images; reading an image raises it for a bad
            file.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        folder = Path(root) / split
        if not folder.is_dir():
            raise DatasetError(f"folder {folder} does not exist; it should have a folder for each class")
        folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if len(folders) < 2:
            raise DatasetError(f"folder {folder} has {len(folders)} class folders, it needs two or more")
        self.classes = tuple(p.name for p in folders)
        self.files: list[tuple[Path, int]] = []
        empty = []
        for index, class_folder in enumerate(folders):
            images = files_in(class_folder)
            self.files += [(image, index) for image in images]
            if not images:
                empty.append(class_folder.name)
        self._levels = levels_of([image for image, _ in self.files])
        if empty:
            raise DatasetError(f"folder {folder} has classes without images: {name_some(empty)}")

    def names(self) -> list[str]:
        """Of all images, with their class; none is read for it."""
        return [f"{path.parent.name}/{path.name}" for path, _ in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """An image, uint8 (H, W, 3) RGB, and its class."""
        path, class_index = self.files[index]
        return read_rgb(path, self._levels), class_index
