"""CVAT for images 1.1: XML with polygons and masks, in layers."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

import numpy as np

from rt_segmentation.data.exchange.containers import Container
from rt_segmentation.data.exchange.frames import (
    ClassNames,
    ExchangeError,
    ExportOptions,
    LabelledFrame,
    blank_labels,
    safe_name,
)
from rt_segmentation.data.exchange.shapes import Region, from_run_lengths, polygon_mask, regions, run_lengths
from rt_segmentation.files import replacing
from rt_segmentation.labels import IGNORE_ID, LabelSet

DRAWN = ("polygon", "mask", "box")
BESIDE = ("tag", "attribute")
"""Of a whole image: they mark none of its pixels."""
LEFT_OUT = ("polyline", "points", "cuboid", "ellipse", "skeleton")


def write(path: Path, frames: Iterable[LabelledFrame], label_set: LabelSet, options: ExportOptions) -> None:
    """Write an .xml, or a .zip with it as annotations.xml.

    A region is a polygon; what lies within another region is in a higher layer (`z_order`). CVAT has no
    shape for unlabelled pixels: a region that encloses some is a mask.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        if path.suffix.lower() == ".zip":
            with (
                zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive,
                archive.open("annotations.xml", "w") as file,
            ):
                _write(XMLGenerator(file, "utf-8"), frames, label_set, options)
        else:
            with unfinished.open("wb") as file:
                _write(XMLGenerator(file, "utf-8"), frames, label_set, options)


def _write(
    xml: XMLGenerator, frames: Iterable[LabelledFrame], label_set: LabelSet, options: ExportOptions
) -> None:
    xml.startDocument()
    _start(xml, "annotations")
    _text(xml, "version", "1.1")
    _start(xml, "meta")
    _start(xml, "task")
    _text(xml, "name", options.source)
    _text(xml, "mode", "annotation")
    _start(xml, "labels")
    for c in label_set.classes:
        _start(xml, "label")
        _text(xml, "name", c.name)
        _text(xml, "color", "#{:02x}{:02x}{:02x}".format(*c.color))
        _text(xml, "attributes", "")
        xml.endElement("label")
    for name in ("labels", "task", "meta"):
        xml.endElement(name)
    xml.characters("\n")
    for number, (name, labels) in enumerate(frames):
        height, width = labels.shape
        _start(xml, "image", {"id": str(number), "name": name, "width": str(width), "height": str(height)})
        xml.characters("\n")
        for region in regions(labels):
            if region.value != IGNORE_ID:
                kind, shape = _shape(region, options)
                _start(
                    xml,
                    kind,
                    {
                        "label": label_set.names[region.value],
                        "source": "auto",
                        "occluded": "0",
                        **shape,
                        "z_order": str(region.depth),
                    },
                )
                xml.endElement(kind)
                xml.characters("\n")
        xml.endElement("image")
        xml.characters("\n")
    xml.endElement("annotations")
    xml.endDocument()


def _shape(region: Region, options: ExportOptions) -> tuple[str, dict[str, str]]:
    if options.polygons and not region.encloses_unlabelled:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in region.outline(options.tolerance_px).tolist())
        return "polygon", {"points": points}
    height, width = region.mask.shape
    return "mask", {
        "rle": ", ".join(map(str, run_lengths(region.mask.ravel()))),
        "left": str(region.left),
        "top": str(region.top),
        "width": str(width),
        "height": str(height),
    }


def _start(xml: XMLGenerator, name: str, attributes: Mapping[str, str] | None = None) -> None:
    xml.startElement(name, AttributesImpl(dict(attributes or {})))


def _text(xml: XMLGenerator, name: str, text: str) -> None:
    _start(xml, name)
    xml.characters(text)
    xml.endElement(name)


def read(path: Path, names: ClassNames) -> Iterator[LabelledFrame]:
    """Read an .xml, or a .zip with one; shapes are drawn from the lowest layer up, then in the file's order.

    Raises:
        ExchangeError: it is no XML of CVAT for images 1.1, or a shape is wrong or of a kind without area.
        MissingPackageError: there are polygons, and pycocotools is not installed.
    """
    container = Container(path)
    file = container.only(".xml", "CVAT for images 1.1")
    text = container.text(file)
    try:
        root = ElementTree.fromstring(container.read(file))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ExchangeError(f"{text} is not XML: {error}") from error
    if root.tag != "annotations" or root.find("track") is not None:
        raise ExchangeError(f"{text} is not of CVAT for images 1.1; export the task in that format")
    images = root.findall("image")
    if not images:
        raise ExchangeError(f"{text} has no images")
    for image in images:
        name = safe_name(image.get("name"), text)
        size = [_whole(image, side, f"{text}: image '{name}'") for side in ("width", "height")]
        labels = blank_labels(size[0], size[1], name, text)
        drawn = []
        for number, shape in enumerate(image, 1):
            where = f"{text}: image '{name}', shape {number} ({shape.tag})"
            if shape.tag in LEFT_OUT:
                raise ExchangeError(f"{where} is no area; delete it, or draw it as a polygon or a mask")
            if shape.tag in BESIDE:
                continue
            if shape.tag not in DRAWN:
                raise ExchangeError(f"{where} is of an unknown kind; {', '.join(DRAWN)} are read")
            if shape.tag != "box" and _number(shape, "rotation", where) % 360:
                raise ExchangeError(f"{where} is rotated; CVAT rotates boxes alone: draw it as it lies")
            layer = _whole(shape, "z_order", where) if "z_order" in shape.attrib else 0
            drawn.append((layer, shape, where))
        for _, shape, where in sorted(drawn, key=lambda entry: entry[0]):
            _draw(shape, labels, names.find(shape.get("label", "")), where)
        yield LabelledFrame(name, labels)


def _draw(shape: ElementTree.Element, labels: np.ndarray, value: int, where: str) -> None:
    height, width = labels.shape
    if shape.tag == "mask":
        left, top, w, h = (_whole(shape, key, where) for key in ("left", "top", "width", "height"))
        if left < 0 or top < 0 or w < 1 or h < 1 or left + w > width or top + h > height:
            raise ExchangeError(f"{where} is not within its image, {width}x{height}")
        try:
            counts = [int(part) for part in shape.get("rle", "").split(",") if part.strip()]
            mask = from_run_lengths(counts, w * h).reshape(h, w)
        except ValueError as error:
            raise ExchangeError(f"{where}: {error}") from error
        labels[top : top + h, left : left + w][mask] = value
        return
    try:
        if shape.tag == "box":
            points = _corners(shape, where)
        else:
            text = shape.get("points", "")
            points = [float(part) for point in text.split(";") for part in point.split(",") if text]
        labels[polygon_mask([points], width, height)] = value
    except ValueError as error:
        raise ExchangeError(f"{where}: {error}") from error


def _corners(box: ElementTree.Element, where: str) -> list[float]:
    """The corners of a box, x and y in turn, turned as CVAT turns it: clockwise about its centre."""
    x0, y0, x1, y1 = (float(box.get(key, "nan")) for key in ("xtl", "ytl", "xbr", "ybr"))
    degrees = _number(box, "rotation", where)
    if not degrees % 360:
        return [x0, y0, x1, y0, x1, y1, x0, y1]
    x, y, half_w, half_h = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = ((-half_w, -half_h), (half_w, -half_h), (half_w, half_h), (-half_w, half_h))
    return [part for dx, dy in corners for part in (x + dx * cos - dy * sin, y + dx * sin + dy * cos)]


def _number(element: ElementTree.Element, key: str, where: str) -> float:
    """An attribute that may be missing, and is then 0."""
    try:
        number = float(element.get(key, "0"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ExchangeError(f"{where} has the {key} {element.get(key)!r}; it must be a number")
    return number


def _whole(element: ElementTree.Element, key: str, where: str) -> int:
    try:
        return int(element.attrib[key])
    except (KeyError, ValueError) as error:
        raise ExchangeError(
            f"{where} has the {key} {element.get(key)!r}; it must be a whole number"
        ) from error
