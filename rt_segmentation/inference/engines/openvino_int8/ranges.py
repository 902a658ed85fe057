"""int8 without data: the activations' ranges, found once on real frames, put into a graph for OpenVINO.

The file beside the weights names tensors of the exported graph and parameters of the deployed network, which
both come from the network's modules: they are the same for every input size and for any version of torch.
Ranges of weights are not in it: they are those of the weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rt_segmentation import cpu
from rt_segmentation.inference.engines.interface import EngineError, EngineUnavailable
from rt_segmentation.models import ModelManifest, model_argument

if TYPE_CHECKING:
    import openvino

ACTIVATION_LEVELS = 256
# Symmetric: -127 to 127.
WEIGHT_LEVELS = 255

Range = tuple[float, float]


@dataclass(frozen=True)
class QuantizationRanges:
    """What is computed in int8, and with which ranges.

    Attributes:
        tensors: range of a tensor for all that read it, by the tensor's name.
        inputs: range of one operation's input alone, by ``NAME:PORT``; the name is that of a convolution's
            weights, or of another operation's result.
        convolutions: names of the weights that are quantised, by output channel.
        weights_sha256: of the model's weights with which the ranges were found.
        found: on which frames, with which library and normalisation.
        top_logit: range of a pixel's top logit, for `compared_logits`; None where the graph has none.
    """

    tensors: Mapping[str, Range]
    inputs: Mapping[str, Range]
    convolutions: tuple[str, ...]
    weights_sha256: str
    found: Mapping[str, Any] = field(default_factory=dict)
    top_logit: Range | None = None

    def to_json(self) -> bytes:
        """As it lies beside the weights."""
        content = {
            "weights_sha256": self.weights_sha256,
            "found": dict(self.found),
            "top_logit": None if self.top_logit is None else list(self.top_logit),
            "tensors": {name: list(limits) for name, limits in self.tensors.items()},
            "inputs": {name: list(limits) for name, limits in self.inputs.items()},
            "convolutions": list(self.convolutions),
        }
        lines = (f" {json.dumps(key)}: {_json_lines(value)}" for key, value in content.items())
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()

    @property
    def digest(self) -> str:
        """Changes with anything that changes the graph."""
        return hashlib.sha256(self.to_json()).hexdigest()[:16]


def ranges_path(manifest: ModelManifest) -> Path:
    """Where a model's ranges are: beside its weights, NAME.int8.json."""
    return manifest.weights_path.with_suffix(".int8.json")


def normalisation(manifest: ModelManifest) -> dict[str, Any]:
    """What beside the weights decides the ranges, as JSON's types."""
    order = "rgb" if manifest.onnx is None else manifest.onnx.order
    return {"mean": list(manifest.mean), "std": list(manifest.std), "order": order}


def load_ranges(manifest: ModelManifest) -> QuantizationRanges:
    """Read a model's ranges.

    Raises:
        EngineUnavailable: it has none.
        EngineError: the file is damaged, or belongs to other weights or another normalisation.
    """
    path = ranges_path(manifest)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        ranges = QuantizationRanges(
            {name: _range(limits) for name, limits in content["tensors"].items()},
            {name: _range(limits) for name, limits in content["inputs"].items()},
            tuple(content["convolutions"]),
            content["weights_sha256"],
            dict(content["found"]),
            None if content["top_logit"] is None else _range(content["top_logit"]),
        )
    except FileNotFoundError:
        raise EngineUnavailable(
            f"model '{manifest.name}' has no int8 ranges {path}; {_how(manifest)} finds them"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f"int8 ranges {path} cannot be read ({error}); {_how(manifest)} makes them again"
        ) from error
    for name, wanted in normalisation(manifest).items():
        # Files of before it was noted have none.
        if ranges.found.get(name, wanted) != wanted:
            raise EngineError(
                f"int8 ranges {path} were found with {name} {ranges.found[name]}, and model '{manifest.name}'"
                f" has {wanted}; {_how(manifest)} finds those of its own"
            )
    if ranges.weights_sha256 != manifest.sha256:
        raise EngineError(
            f"int8 ranges {path} were found with other weights than model '{manifest.name}' has;"
            f" {_how(manifest)} finds those of its own"
        )
    return ranges


def compared_logits(model: openvino.Model) -> Any:
    """Logits that a graph compares phase by phase and uses for nothing else: they may be compared as bytes.

    Comparing wants the classes apart that a convolution writes side by side: a quarter of the memory moves.
    What lies below the range of the top class's logit is 0: it is not the top.

    Returns:
        The tensor, an output of a node; None in graphs that compute confidence, or have no phases.
    """
    found = [node for node in model.get_ops() if node.get_type_name() == "TopK"]
    by_phase = found[0].input_value(0) if len(found) == 1 else None
    if by_phase is None or by_phase.get_node().get_type_name() != "Reshape":
        return None
    logits = by_phase.get_node().input_value(0)
    biased = logits.get_node()
    if biased.get_type_name() != "Add" or biased.input_value(0).get_node().get_type_name() != "Convolution":
        return None
    return logits if len(_readers(logits)) == len(_readers(by_phase)) == 1 else None


def _readers(output: Any) -> list[Any]:
    """The inputs that read its values, not its shape alone."""
    ports = output.get_target_inputs()
    return [port for port in ports if port.get_node().get_type_name() != "ShapeOf"]


def weight_bits(isa: str = "") -> int:
    """Bits of a weight in int8 on this CPU: 7 where sums of products of 8 would overflow, else 8.

    255 * 64 twice fits 16 bits with their sign; 255 * 127 twice does not, and becomes the largest number
    that does, a wrong one.

    Args:
        isa: see `cpu.int8_sums_overflow`.
    """
    return 7 if cpu.int8_sums_overflow(isa) else 8


def quantize(
    model: openvino.Model, ranges: QuantizationRanges, manifest: ModelManifest, bits: int = 8
) -> None:
    """Put the ranges into a model's graph, which OpenVINO then computes in int8 wherever they allow it.

    Args:
        model: read from the exported graph, of any size; changed in place.
        ranges: of the same model.
        manifest: for messages.
        bits: of a weight, see `weight_bits`.

    Raises:
        EngineError: the graph lacks something that the ranges name.
    """
    from openvino import opset13

    tensors: dict[str, Any] = {}
    ports: dict[str, Any] = {}
    for node in model.get_ops():
        results = {name: output for output in node.outputs() for name in output.get_names()}
        tensors.update(results)
        names = list(results)
        if node.get_type_name() == "Convolution":
            names = [node.input_value(1).get_node().get_friendly_name()]
        ports.update({f"{name}:{port.get_index()}": port for name in names for port in node.inputs()})
    wanted_ports = [*ranges.inputs, *(f"{name}:1" for name in ranges.convolutions)]
    missing = [name for name in ranges.tensors if name not in tensors]
    missing += [name for name in wanted_ports if name not in ports]
    if missing:
        raise EngineError(
            f"int8 ranges {ranges_path(manifest)} do not fit the graph: {len(missing)} names are not in it"
            f" (first '{missing[0]}'); {_how(manifest)} makes them again"
        )

    def fake_quantize(output: Any, low: Any, high: Any, levels: int) -> Any:
        limits = np.asarray(low, np.float32), np.asarray(high, np.float32)
        return opset13.fake_quantize(output, *limits, *limits, levels).output(0)

    logits = compared_logits(model)
    if logits is not None and ranges.top_logit is not None:
        (reader,) = _readers(logits)
        low, high = (np.asarray(bound, np.float32) for bound in ranges.top_logit)
        zero, largest = np.zeros((), np.float32), np.asarray(ACTIVATION_LEVELS - 1, np.float32)
        levels = opset13.fake_quantize(logits, low, high, zero, largest, ACTIVATION_LEVELS)
        reader.replace_source_output(opset13.convert(levels, "u8").output(0))

    for name in ranges.convolutions:
        port = ports[f"{name}:1"]
        weights = port.get_source_output()
        limit = np.abs(tensors[name].get_node().data).max((1, 2, 3), keepdims=True)
        # A channel of zeros still needs a range. Bits that stay empty are those of twice the range.
        limit = np.maximum(limit, np.finfo(np.float32).tiny) * 2 ** (8 - bits)
        port.replace_source_output(fake_quantize(weights, -limit, limit, WEIGHT_LEVELS))
    for name, limits in ranges.inputs.items():
        port = ports[name]
        port.replace_source_output(fake_quantize(port.get_source_output(), *limits, ACTIVATION_LEVELS))
    for name, limits in ranges.tensors.items():
        readers = tensors[name].get_target_inputs()
        quantized = fake_quantize(tensors[name], *limits, ACTIVATION_LEVELS)
        for port in readers:
            port.replace_source_output(quantized)
    model.validate_nodes_and_infer_types()


def _range(limits: Any) -> Range:
    low, high = (float(limit) for limit in limits)
    if not low < high:
        raise ValueError(f"range {low} to {high} is empty")
    return low, high


def _how(manifest: ModelManifest) -> str:
    return f"`rt_seg export --model {model_argument(manifest)} --precision int8 --calibrate DATASET`"


def _json_lines(value: Any) -> str:
    """A line for each element: ranges that change show as such in version control."""
    if not isinstance(value, (dict, list)) or not value:
        return json.dumps(value)
    if isinstance(value, dict):
        lines = [f"  {json.dumps(key)}: {json.dumps(inner)}" for key, inner in value.items()]
        return "{\n" + ",\n".join(lines) + "\n }"
    return "[\n" + ",\n".join(f"  {json.dumps(inner)}" for inner in value) + "\n ]"
