"""Names and numbers of the API, at the level that `FAKE_TENSORRT_API` names: 8, 10 or 11."""

from __future__ import annotations

import enum
import os
from typing import Any

import torch

LEVEL = int(os.environ.get("FAKE_TENSORRT_API", "10"))
VERSION = {8: "8.6.2", 10: "10.3.0", 11: "11.1.0"}[LEVEL]
DLA_CORES = int(os.environ.get("FAKE_TENSORRT_DLA", "2"))


def _enum(name: str, *members: str) -> Any:
    return enum.IntEnum(name, [(member, number) for number, member in enumerate(members)], module="tensorrt")


def _since(level: int, *members: str) -> tuple[str, ...]:
    return members if level <= LEVEL else ()


def _until(level: int, *members: str) -> tuple[str, ...]:
    return members if level >= LEVEL else ()


DataType = _enum(
    "DataType", "FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8", *_since(10, "BF16", "INT64", "INT4")
)

_TORCH_TYPES = {
    DataType.FLOAT: torch.float32,
    DataType.HALF: torch.float16,
    DataType.INT8: torch.int8,
    DataType.INT32: torch.int32,
    DataType.BOOL: torch.bool,
    DataType.UINT8: torch.uint8,
}
if LEVEL >= 10:
    _TORCH_TYPES[DataType.INT64] = torch.int64
    _TORCH_TYPES[DataType.BF16] = torch.bfloat16
_TRT_TYPES = {value: key for key, value in _TORCH_TYPES.items()}
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_INTS = (torch.int32, torch.int64)

LayerType = _enum(
    "LayerType", "CONVOLUTION", *_until(8, "FULLY_CONNECTED"), "CAST", "ACTIVATION", "POOLING", "LRN",
    "SCALE", "SOFTMAX", "DECONVOLUTION", "CONCATENATION", "ELEMENTWISE", "PLUGIN", "UNARY", "PADDING",
    "SHUFFLE", "REDUCE", "TOPK", "GATHER", "MATRIX_MULTIPLY", "CONSTANT", "IDENTITY", "SLICE", "SHAPE",
    "PARAMETRIC_RELU", "RESIZE", "SELECT", "EINSUM",
)  # fmt: skip
ActivationType = _enum(
    "ActivationType", "RELU", "SIGMOID", "TANH", "LEAKY_RELU", "ELU", "SELU", "SOFTSIGN", "SOFTPLUS", "CLIP",
    "HARD_SIGMOID", "SCALED_TANH", "THRESHOLDED_RELU", *_since(10, "GELU_ERF", "GELU_TANH"),
)  # fmt: skip
PoolingType = _enum("PoolingType", "MAX", "AVERAGE", "MAX_AVERAGE_BLEND")
PaddingMode = _enum("PaddingMode", "EXPLICIT_ROUND_DOWN", "EXPLICIT_ROUND_UP", "SAME_UPPER", "SAME_LOWER")
ElementWiseOperation = _enum(
    "ElementWiseOperation", "SUM", "PROD", "MAX", "MIN", "SUB", "DIV", "POW", "FLOOR_DIV", "AND", "OR",
    "XOR", "EQUAL", "GREATER", "LESS",
)  # fmt: skip
UnaryOperation = _enum(
    "UnaryOperation", "EXP", "LOG", "SQRT", "RECIP", "ABS", "NEG", "SIN", "COS", "TAN", "SINH", "COSH",
    "ASIN", "ACOS", "ATAN", "ASINH", "ACOSH", "ATANH", "CEIL", "FLOOR", "ERF", "NOT", "SIGN", "ROUND",
    "ISINF",
)  # fmt: skip
ReduceOperation = _enum("ReduceOperation", "SUM", "PROD", "MAX", "MIN", "AVG")
ScaleMode = _enum("ScaleMode", "UNIFORM", "CHANNEL", "ELEMENTWISE")
SampleMode = _enum("SampleMode", "STRICT_BOUNDS", "WRAP", "CLAMP", "FILL", "REFLECT")
InterpolationMode = _enum("InterpolationMode", "NEAREST", "LINEAR", "CUBIC")
if LEVEL < 10:
    ResizeMode, SliceMode = InterpolationMode, SampleMode
ResizeCoordinateTransformation = _enum(
    "ResizeCoordinateTransformation", "ALIGN_CORNERS", "ASYMMETRIC", "HALF_PIXEL"
)
ResizeSelector = _enum("ResizeSelector", "FORMULA", "UPPER")
ResizeRoundMode = _enum("ResizeRoundMode", "HALF_UP", "HALF_DOWN", "FLOOR", "CEIL")
MatrixOperation = _enum("MatrixOperation", "NONE", "TRANSPOSE", "VECTOR")
TopKOperation = _enum("TopKOperation", "MAX", "MIN")
TensorLocation = _enum("TensorLocation", "DEVICE", "HOST")
TensorIOMode = _enum("TensorIOMode", "NONE", "INPUT", "OUTPUT")
DeviceType = _enum("DeviceType", "GPU", "DLA")
BuilderFlag = _enum(
    "BuilderFlag", *_until(10, "FP16", "INT8"), "DEBUG", "GPU_FALLBACK", *_until(8, "STRICT_TYPES"), "REFIT",
    "DISABLE_TIMING_CACHE", "TF32", "SPARSE_WEIGHTS", "SAFETY_SCOPE",
    *_until(10, "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS", "REJECT_EMPTY_ALGORITHMS"),
    "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", *_until(10, "FP8"),
)  # fmt: skip
_CREATION_FLAGS = [
    *([("EXPLICIT_BATCH", 0)] if LEVEL < 11 else []),
    *([("EXPLICIT_PRECISION", 1)] if LEVEL < 10 else [("STRONGLY_TYPED", 1)]),
]
NetworkDefinitionCreationFlag: Any = enum.IntEnum("NetworkDefinitionCreationFlag", _CREATION_FLAGS)  # type: ignore[misc]
MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE", "DLA_MANAGED_SRAM", "DLA_LOCAL_DRAM", "DLA_GLOBAL_DRAM")
CalibrationAlgoType = _enum(
    "CalibrationAlgoType", "LEGACY_CALIBRATION", "ENTROPY_CALIBRATION", "ENTROPY_CALIBRATION_2",
    "MINMAX_CALIBRATION",
)  # fmt: skip
