"""Pictures for people: camera, truth, labels and overlay side by side, with a legend."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import cv2
import numpy as np

from rt_segmentation.imaging.files import write_image
from rt_segmentation.labels import LabelSet
from rt_segmentation.text import printable

CAPTION_PX = 26
SWATCH_PX = 14
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_LIKE = "ßss øo ØO łl ŁL đd ĐD þth ÞTh æae ÆAe œoe ŒOe"
LETTERS = {pair[0]: pair[1:] for pair in _LIKE.split()}
"""Latin letters that are more than a letter and an accent."""
INK, PAPER = (235, 235, 235), (24, 26, 30)


def drawable(text: str) -> str:
    """A text in ASCII, as OpenCV's font has no more: without accents, '?' for what has no like."""
    # OpenCV ends the process over a text that is not UTF-8, and a file may have such a name.
    plain = "".join(LETTERS.get(c, c) for c in unicodedata.normalize("NFC", printable(text)))
    parts = unicodedata.normalize("NFKD", plain)
    return "".join(c if c.isascii() else "?" for c in parts if not unicodedata.combining(c))


def _class_name(name: str, class_id: int) -> str:
    """A class's name for a legend; its id where no letter of it can be drawn."""
    drawn = drawable(name)
    return drawn if any(c.isalnum() for c in drawn) else f"class {class_id}"


def caption(image: np.ndarray, text: str) -> np.ndarray:
    """Put a line of text above an image; uint8 (H, W, 3) to (H + CAPTION_PX, W, 3) RGB."""
    strip = np.full((CAPTION_PX, image.shape[1], 3), PAPER, np.uint8)
    cv2.putText(strip, drawable(text), (8, 18), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
    return np.vstack([strip, image])


def legend(labels: LabelSet, width: int) -> np.ndarray:
    """Name and colour of each class, in as many lines as the width [px] asks for; uint8 (h, width, 3) RGB."""
    lines: list[list[tuple[int, str, tuple[int, int, int]]]] = [[]]
    x = 8
    for c in labels.classes:
        name = _class_name(c.name, c.id)
        length = SWATCH_PX + 6 + cv2.getTextSize(name, FONT, FONT_SCALE, 1)[0][0] + 16
        if x + length > width and lines[-1]:
            lines.append([])
            x = 8
        lines[-1].append((x, name, c.color))
        x += length
    strip = np.full((CAPTION_PX * len(lines), width, 3), PAPER, np.uint8)
    for row, line in enumerate(lines):
        top = row * CAPTION_PX + 6
        for left, name, color in line:
            cv2.rectangle(strip, (left, top), (left + SWATCH_PX, top + SWATCH_PX), color, -1)
            cv2.putText(strip, name, (left + SWATCH_PX + 6, top + 12), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
    return strip


def legend_table(labels: LabelSet) -> np.ndarray:
    """Colour, id and name of each class, a row each; uint8 (h, w, 3) RGB."""
    names = [(str(c.id), _class_name(c.name, c.id), c.color) for c in labels.classes]

    def widest(texts: list[str]) -> int:
        return max(cv2.getTextSize(text, FONT, FONT_SCALE, 1)[0][0] for text in texts)

    ids_right = 8 + 2 * SWATCH_PX + 8 + widest([number for number, _, _ in names])
    width = ids_right + 10 + widest([name for _, name, _ in names]) + 8
    table = np.full((CAPTION_PX * len(names), width, 3), PAPER, np.uint8)
    for row, (number, name, color) in enumerate(names):
        top = row * CAPTION_PX + 6
        cv2.rectangle(table, (8, top), (8 + 2 * SWATCH_PX, top + SWATCH_PX), color, -1)
        left = ids_right - widest([number])
        for x, text in ((left, number), (ids_right + 10, name)):
            cv2.putText(table, text, (x, top + 12), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
    return table


def sheet(rows: list[list[tuple[str, np.ndarray]]], labels: LabelSet, columns_width: int = 480) -> np.ndarray:
    """Rows of captioned pictures of equal width, then the legend.

    Args:
        rows: (caption, uint8 (H, W, 3) RGB) for each picture; all rows have the same number.
        labels: for the legend.
        columns_width: width of a picture [px].

    Returns:
        uint8 (H, W, 3) RGB.
    """
    parts = []
    for row in rows:
        pictures = [caption(_to_width(image, columns_width), text) for text, image in row]
        height = max(p.shape[0] for p in pictures)
        parts.append(np.hstack([_to_height(p, height) for p in pictures]))
    parts.append(legend(labels, parts[0].shape[1]))
    return np.vstack(parts)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture, (H, W, 3), or a gray one, (H, W); the name's suffix says as what.

    Raises:
        OSError: the file cannot be written.
    """
    write_image(path, picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def _to_width(image: np.ndarray, width: int) -> np.ndarray:
    height = round(image.shape[0] * width / image.shape[1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _to_height(image: np.ndarray, height: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, 0, height - image.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=PAPER)
