"""A graph of somebody else's as it came, in fp32, all around it in NumPy: engines are compared with it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rt_segmentation.inference.engines.failures import reason
from rt_segmentation.inference.engines.openvino_orders import read_graph
from rt_segmentation.models import ModelError, ModelManifest, ONNXInterface
from rt_segmentation.weights import read_weights

logger = logging.getLogger(__name__)

Run = Callable[[np.ndarray], "dict[str, np.ndarray]"]
"""From what the graph's input takes to its outputs by name; it may raise whatever its library raises."""

TYPES = {"float32": np.float32, "float16": np.float16, "uint8": np.uint8}
"""What an input for images may take."""


@dataclass(frozen=True)
class Answer:
    """What an original graph gives for an image: labels, uint8 (H, W), and the top class's probability.

    Attributes:
        labels: class ids.
        confidence: float32 (H, W), or None where the graph gives labels alone.
    """

    labels: np.ndarray
    confidence: np.ndarray | None


def load(data: bytes, input_name: str) -> tuple[Run, np.dtype[Any], str]:
    """Make a graph executable in ONNX Runtime, or, where that is missing, in OpenVINO.

    Returns:
        How to run it, what its input takes, and the library with its version.

    Raises:
        ModelError: neither is installed, or the library refuses the graph.
    """
    try:
        import onnxruntime
    except ImportError:
        return _load_in_openvino(data, input_name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # What its native code raises is of many types.
        newest = re.search(r"(?:till|max supported) (opset|IR version):? (\d+)", str(error))
        if newest is not None:
            raise ModelError(
                f"the graph's {newest[1]} is above {newest[2]}, the last that ONNX Runtime"
                f" {onnxruntime.__version__} knows: export it with opset 17, or install a newer onnxruntime"
            ) from error
        raise ModelError(f"ONNX Runtime refuses the graph: {reason(error)}") from error
    (kind,) = [entry.type for entry in session.get_inputs() if entry.name == input_name]
    names = [entry.name for entry in session.get_outputs()]
    dtype = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8}.get(kind, np.float32)

    def run(array: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, {input_name: array})))

    return run, np.dtype(dtype), f"onnxruntime {onnxruntime.__version__}"


def _load_in_openvino(data: bytes, input_name: str) -> tuple[Run, np.dtype[Any], str]:
    try:
        import openvino
    except ImportError as error:
        raise ModelError(
            "to run an ONNX graph as it came needs the Python package 'onnxruntime': pip install onnxruntime"
        ) from error
    logger.warning("ONNX Runtime is not installed: ONNX graphs are compared with what OpenVINO makes of them")
    try:
        model = read_graph(openvino.Core(), data)
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except Exception as error:
        raise ModelError(f"OpenVINO refuses the graph: {reason(error)}") from error

    def run(array: np.ndarray) -> dict[str, np.ndarray]:
        results = compiled({input_name: array})
        return {name: results[port] for port in compiled.outputs for name in port.get_names()}

    return (
        run,
        np.dtype(compiled.input(input_name).get_element_type().to_dtype()),
        f"openvino {openvino.__version__}",
    )


class Original:
    """An ONNX graph with the way into it and out of it.

    Args:
        run: the graph.
        dtype: of its input.
        interface: how it is used.
        mean, std: of images in [0, 1], by channel (R, G, B).
        made_with: that runs it, with its version.
    """

    def __init__(
        self,
        run: Run,
        dtype: np.dtype[Any],
        interface: ONNXInterface,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        made_with: str = "",
        temperature: float = 1.0,
    ) -> None:
        self._run, self._dtype, self._interface = run, dtype, interface
        self._temperature = temperature
        self._mean, self._std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        self.made_with = made_with

    def __call__(self, image: np.ndarray) -> Answer:
        """Segment an image.

        Args:
            image: uint8 (H, W, 3) RGB.

        Raises:
            ModelError: the graph cannot run at this size.
        """
        height, width = image.shape[:2]
        if self._interface.gives == "labels":
            values, padded = self._output(image)
            rows, columns = (np.arange(n) * small // n for n, small in zip(padded, values.shape[1:]))
            labels = values[0][rows][:, columns]
            return Answer(np.ascontiguousarray(labels[:height, :width].astype(np.uint8)), None)
        classes = self.scores(image)
        top = classes.max(0)
        if self._interface.gives == "logits":
            top = 1 / np.exp((classes - top) / self._temperature).sum(0)
        return Answer(classes.argmax(0).astype(np.uint8), top)

    def scores(self, image: np.ndarray) -> np.ndarray:
        """Logits or probabilities of the classes, float32 (C, H, W), for an image, uint8 (H, W, 3) RGB.

        Raises:
            ModelError: the graph cannot run at this size.
        """
        height, width = image.shape[:2]
        values, padded = self._output(image)
        return enlarge(values, padded, self._interface.align_corners)[:, :height, :width]

    def _output(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """What the graph gives, float32 (C, h, w), and the height and width of what it was given [px]."""
        height, width = image.shape[:2]
        try:
            output = self._run(self.pixels(image))[self._interface.output]
        except Exception as error:
            # What native code raises is of many types.
            raise ModelError(f"the ONNX graph fails for {width}x{height}: {reason(error)}") from error
        values = output.astype(np.float32)
        if self._interface.output_layout == "nhw":
            values = values[:, np.newaxis]
        elif self._interface.output_layout == "nhwc":
            values = values.transpose(0, 3, 1, 2)
        multiple = self._interface.multiple
        return values[0], (height + -height % multiple, width + -width % multiple)

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """What the graph's input takes for an image, uint8 (H, W, 3) RGB."""
        interface = self._interface
        pixels = (image.astype(np.float32) / 255 - self._mean) / self._std
        if interface.order == "bgr":
            pixels = pixels[..., ::-1]
        down, right = (-side % interface.multiple for side in image.shape[:2])
        pixels = np.pad(pixels, ((0, down), (0, right), (0, 0)))
        if interface.layout == "nchw":
            pixels = pixels.transpose(2, 0, 1)
        if self._dtype == np.uint8:
            pixels = pixels.round()
        return np.ascontiguousarray(pixels[np.newaxis].astype(self._dtype))


def original_of(manifest: ModelManifest) -> Original:
    """A model's graph as it was imported.

    Raises:
        ModelError: its file is damaged, or nothing here runs it.
    """
    interface = manifest.onnx
    assert interface is not None
    run, dtype, library = load(read_weights(manifest), interface.input)
    return Original(run, dtype, interface, manifest.mean, manifest.std, library, manifest.temperature)


def enlarge(maps: np.ndarray, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    """Interpolate linearly, (C, h, w) to (C, *size)."""
    for axis, length in ((1, size[0]), (2, size[1])):
        small = maps.shape[axis]
        if small == length:
            continue
        if align_corners:
            places = np.arange(length) * ((small - 1) / max(length - 1, 1))
        else:
            places = (np.arange(length) + 0.5) * (small / length) - 0.5
        places = np.clip(places, 0, small - 1)
        first = np.minimum(places.astype(np.int64), max(small - 2, 0))
        shape = [1, 1, 1]
        shape[axis] = length
        share = (places - first).astype(np.float32).reshape(shape)
        below, above = (np.take(maps, np.minimum(i, small - 1), axis) for i in (first, first + 1))
        maps = below + (above - below) * share
    return maps
