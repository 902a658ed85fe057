"""A stand-in for NVIDIA's `tensorrt` that executes layers with PyTorch on the CPU.

Made to run torch2trt, and what is built on it, without a GPU. Names, arguments and what is missing at each
level follow NVIDIA's public Python bindings (8.6.1, 10.3.0, 11.1.0); semantics follow the documentation of
the layers. It checks what TensorRT checks when it infers shapes: ranks, types, counts of weights, bounds.

Environment:
    FAKE_TENSORRT_API: 8, 10 (default) or 11, which has no weak types.
    FAKE_TENSORRT_INT8: which tensors int8 rounds: 'fused' (default: those that cross a boundary between a
        chain of pointwise layers and another layer), 'all', or 'conv' (inputs and weights of convolutions).
    FAKE_TENSORRT_DLA: number of DLA cores, 2 by default.
"""

# ruff: noqa: F403
from .building import *
from .calibration import *
from .enums import *
from .enums import VERSION
from .enums import DataType as _DataType
from .foundations import *
from .moving import *
from .network import *
from .parsing import *
from .pointwise import *
from .running import *
from .tensors import *
from .windows import *

__version__ = VERSION
float32, float16, int8, int32 = _DataType.FLOAT, _DataType.HALF, _DataType.INT8, _DataType.INT32
bool, uint8 = _DataType.BOOL, _DataType.UINT8
