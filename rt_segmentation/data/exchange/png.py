"""Plain PNG: a folder of label ids, and a file that says which class each id is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from rt_segmentation.data.exchange.containers import Container
from rt_segmentation.data.exchange.frames import (
    ClassNames,
    ExchangeError,
    ExportOptions,
    LabelledFrame,
    names_by_id,
    read_ids,
    stem_of,
)
from rt_segmentation.files import new_folder, write_atomically
from rt_segmentation.imaging.files import write_image
from rt_segmentation.labels import IGNORE_ID, LabelSet
from rt_segmentation.settings import load_yaml

CLASSES = "classes.yaml"


def write(path: Path, frames: Iterable[LabelledFrame], label_set: LabelSet, options: ExportOptions) -> None:
    """Write STEM.png with ids for each frame, 255 for unlabelled, and the label set as `CLASSES`.

    Raises:
        OSError: the folder is there and is not empty, or cannot be written.
    """
    classes = [
        {"id": c.id, "name": c.name, "color": list(c.color), "category": c.category}
        for c in label_set.classes
    ]
    with new_folder(path) as folder:
        write_atomically(
            folder / CLASSES,
            yaml.safe_dump(
                {"name": label_set.name, "classes": classes}, sort_keys=False, allow_unicode=True
            ).encode(),
        )
        for frame in frames:
            write_image(folder / f"{stem_of(frame.name)}.png", frame.labels)


def read(path: Path, names: ClassNames) -> Iterator[LabelledFrame]:
    """Read a folder or a zip of label PNGs; without a file of classes, ids are those of the label set.

    The classes are in `classes.yaml`, a label set, or in `classes.txt`, a name a line from id 0 on.

    Raises:
        ExchangeError: there are no PNGs, or one has ids of no class.
    """
    container = Container(path)
    files = container.endings(".png")
    if not files:
        raise ExchangeError(f"{container.path} has no label PNGs")
    table = _table(container, names)
    for file in files:
        ids = read_ids(container.read(file), container.text(file))
        counts = np.bincount(ids.ravel(), minlength=256)
        wrong = [i for i in np.flatnonzero(counts).tolist() if table[i] < 0]
        if wrong:
            raise ExchangeError(
                f"{container.text(file)} has id {', '.join(map(str, wrong))}, which is no class"
            )
        yield LabelledFrame(str(PurePosixPath(file).with_suffix("")), table[ids].astype(np.uint8))


def _table(container: Container, names: ClassNames) -> np.ndarray:
    """Class by the files' ids, int (256,); -1 for ids that mean nothing."""
    table = np.full(256, -1)
    table[IGNORE_ID] = IGNORE_ID
    found = [n for n in container.names if PurePosixPath(n).name in (CLASSES, "classes.txt")]
    if len(found) > 1:
        raise ExchangeError(f"{container.path} has several files of classes: {', '.join(found)}")
    if not found:
        table[: len(names.label_set.classes)] = range(len(names.label_set.classes))
        return table
    for number, label in _classes(container, found[0]).items():
        table[number] = names.find(label)
    names.check(container.text(found[0]))
    return table


def _classes(container: Container, file: str) -> dict[int, str]:
    """Labels by id."""
    try:
        # Editors of Windows begin a file with a mark.
        text = container.read(file).decode("utf-8-sig")
        if file.endswith(".txt"):
            classes = {i: line.strip() for i, line in enumerate(text.splitlines()) if line.strip()}
        else:
            listed = [(c["id"], c["name"]) for c in load_yaml(text)["classes"]]
            classes = names_by_id(listed, container.text(file), "classes")
    except (UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
        raise ExchangeError(
            f"{container.text(file)} is no list of classes: a label set (.yaml), or a name a line (.txt)"
        ) from error
    if not all(isinstance(i, int) and 0 <= i <= IGNORE_ID and isinstance(n, str) for i, n in classes.items()):
        raise ExchangeError(f"{container.text(file)}: ids are 0 to {IGNORE_ID}, and names are text")
    return classes
