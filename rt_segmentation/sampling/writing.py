"""The chosen frames as a folder: images, a table that says why, and a picture of all of them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rt_segmentation.bags.frames import to_frame
from rt_segmentation.bags.reading import Message
from rt_segmentation.files import check_new_folder, new_folder
from rt_segmentation.imaging.convert import to_rgb
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.pictures import caption, write_picture
from rt_segmentation.sampling.choosing import Chosen
from rt_segmentation.sampling.errors import SampleError
from rt_segmentation.sampling.looking import Source, messages_at
from rt_segmentation.sampling.measures import MEASURES
from rt_segmentation.sampling.storing import image_file
from rt_segmentation.text import printable

IMAGES, TABLE, ABOUT, SHEET = "images", "frames.csv", "sample.json", "contact_sheet.jpg"
COLUMNS = (
    *("order", "file", "bag", "topic", "stamp_ns", "recorded_ns", "number", "stored", "reason", "worth"),
    *MEASURES,
    "distance",
)
SHEET_COLUMNS, SHEET_WIDTH, SHEET_FRAMES = 6, 240, 300
"""Of the contact sheet: pictures in a row, width of one [px], and number at most."""
MAX_NAME = 80
"""Bytes of a bag's or topic's name within a file's; a file system takes 255 for all of it."""


def write_sample(
    out: Path, sources: Sequence[Source], chosen: Sequence[Chosen], about: dict[str, Any]
) -> list[str]:
    """Write the folder, whole or not at all.

    Args:
        out: the folder, which must be empty or not there.
        sources: the bags.
        chosen: of them.
        about: how they were chosen, as JSON's types.

    Returns:
        Sentences about frames that could not be read again.

    Raises:
        SampleError: there is something in the folder.
        OSError: it cannot be written.
    """
    check_out(out)
    with new_folder(out) as folder:
        (folder / IMAGES).mkdir()
        names, rows, pictures, problems = _names(sources), {}, {}, []
        places = {(c.candidate.bag, c.candidate.number): i for i, c in enumerate(chosen)}
        used: set[str] = set()
        for bag, source in enumerate(sources):
            wanted = [number for of, number in places if of == bag]
            for number, message in messages_at(source, wanted):
                place = places[bag, number]
                try:
                    data, suffix, stored = image_file(message)
                except ImageError as error:
                    problems.append(f"image {number + 1} of {source.path} cannot be decoded: {error}")
                    continue
                name = _unique(f"{names[bag]}__{chosen[place].candidate.moment_ns}", used) + suffix
                (folder / IMAGES / name).write_bytes(data)
                rows[place] = _row(place, f"{IMAGES}/{name}", source, chosen[place], stored)
                if place < SHEET_FRAMES:
                    pictures[place] = _thumbnail(message, f"{place + 1}: {chosen[place].reason}")
        (folder / TABLE).write_text(_table([rows[i] for i in sorted(rows)]), encoding="utf-8")
        content = {**about, "frames": len(rows)}
        (folder / ABOUT).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        if pictures:
            write_picture(folder / SHEET, _grid([pictures[i] for i in sorted(pictures)]))
    return problems


def check_out(out: Path) -> None:
    """Refuse a folder that has something in it.

    Raises:
        SampleError: it has, or it is a file.
        OSError: it cannot be made.
    """
    if out.is_file():
        raise SampleError(f"--out {out} is a file; it must be a folder")
    if out.is_dir() and any(out.iterdir()):
        raise SampleError(
            f"folder {out} is not empty, and nothing in it is overwritten; give another --out, and"
            f" --known {out / IMAGES} to choose frames unlike those that are there"
        )
    check_new_folder(out)


def _names(sources: Sequence[Source]) -> list[str]:
    """What the files of each bag begin with: the bag and the topic, so that a name says where it is from."""
    names, seen = [], dict[str, int]()
    for source in sources:
        path = source.path.resolve()
        bag = path.name.split(".")[0] or path.name
        name = f"{_plain(bag)}__{_plain(source.topic)}"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _plain(text: str) -> str:
    """Letters, digits, '-', '.' and single '_' alone: part of a file's name anywhere."""
    plain = re.sub(r"_+", "_", re.sub(r"[^\w.-]+", "-", text.strip("/"))).strip("_.-")
    # A character whose last byte is beyond the limit is left out.
    return plain.encode()[:MAX_NAME].decode(errors="ignore") or "x"


def _unique(name: str, used: set[str]) -> str:
    """The name, or with a number where another frame has it."""
    number, found = 1, name
    while found in used:
        number += 1
        found = f"{name}-{number}"
    used.add(found)
    return found


def _row(place: int, file: str, source: Source, chosen: Chosen, stored: str) -> dict[str, Any]:
    candidate = chosen.candidate
    row: dict[str, Any] = {
        "order": place + 1,
        "file": file,
        "bag": printable(source.path),
        "topic": source.topic,
        "stamp_ns": candidate.stamp_ns,
        "recorded_ns": candidate.recorded_ns,
        "number": candidate.number,
        "stored": stored,
        "reason": chosen.reason,
    }
    numbers = {"worth": chosen.worth, **chosen.values, "distance": chosen.distance}
    row |= {name: f"{value:.4f}" for name, value in numbers.items() if math.isfinite(value)}
    return row


def _table(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _thumbnail(message: Message, text: str) -> np.ndarray:
    frame = to_frame(message)
    height = max(1, round(frame.height * SHEET_WIDTH / frame.width))
    return caption(to_rgb(frame, (SHEET_WIDTH, height)), text)


def _grid(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one width in rows, uint8 (H, W, 3) RGB."""
    height = max(picture.shape[0] for picture in pictures)
    filled = [
        cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        for p in pictures
    ]
    columns = min(SHEET_COLUMNS, len(filled))
    filled += [np.zeros_like(filled[0])] * (-len(filled) % columns)
    return np.vstack([np.hstack(filled[i : i + columns]) for i in range(0, len(filled), columns)])
