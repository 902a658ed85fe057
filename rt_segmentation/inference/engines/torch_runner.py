"""Runs an engine's graph in PyTorch, on the CPU or as one CUDA graph."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import torch

from rt_segmentation.inference.deploy import DeployedNetwork
from rt_segmentation.inference.engines.graph import EngineGraph
from rt_segmentation.inference.engines.interface import Runner

# cuDNN tries its algorithms in the first, TensorRT allocates; what a CUDA graph records must do neither.
_WARM_UP = 3

# While a graph is recorded no other thread may ask CUDA for memory or wait for it.
_RECORDING = threading.Lock()


class TorchGraph(EngineGraph):
    """Normalisation in float32, the network in a precision of its own, confidence where it is asked for.

    Args:
        network: deployed, on its device and in its precision.
        mean, std: normalisation of images in [0, 1], by channel (R, G, B).
        dtype: what the network takes.
        memory_format: what the network takes.
        temperature: as in `EngineGraph`.
    """

    def __init__(
        self,
        network: DeployedNetwork,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        dtype: torch.dtype,
        memory_format: torch.memory_format = torch.channels_last,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(network, mean, std, temperature)
        self._dtype = dtype
        self._memory_format = memory_format

    def segment(self, images: torch.Tensor, confidence: bool) -> list[torch.Tensor]:
        """Labels, and confidence if asked for, of uint8 (N, H, W, 3); see `EngineGraph.forward`."""
        pixels = self.normalise(images).to(self._dtype, memory_format=self._memory_format)
        logits = self.by_phase(self.network.coarse(pixels))
        top, labels = logits.max(1)
        outputs = [self.image(labels)]
        if confidence:
            outputs.append(self.image(self.confidence(logits.float(), top.float())))
        return outputs


def cpu_runner(graph: TorchGraph, confidence: bool, threads: int = 0) -> Runner:
    """Run a graph on the CPU, with so many threads; 0 for as many as the process uses."""
    own = _own_threads()
    wanted = threads or own

    def run(images: np.ndarray) -> list[np.ndarray]:
        # It is of the thread that calls, which another runner may have told another number.
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)
        with torch.inference_mode():
            return [output.numpy() for output in graph.segment(torch.from_numpy(images), confidence)]

    return run


@cache
def _own_threads() -> int:
    """As many as PyTorch used before a runner told it a number."""
    return torch.get_num_threads()


class CudaRunner:
    """A graph for frames of one shape, recorded as one CUDA graph: the host starts one thing, not hundreds.

    Bytes go in and bytes come out, through page-locked memory and buffers that stay where they are, all on
    one stream.

    Args:
        graph: on the GPU.
        shape: of the frames, (N, H, W, 3).
        confidence: whether to compute it.
        recorded: False where a part of it cannot be recorded; the rest is as before.
    """

    def __init__(
        self,
        graph: TorchGraph,
        shape: tuple[int, int, int, int],
        confidence: bool,
        recorded: bool = True,
    ) -> None:
        # What is recorded uses its tensors' memory.
        self._graph = graph
        self._confidence = confidence
        self._host_images = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        self._images = torch.zeros(shape, dtype=torch.uint8, device="cuda")
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        # The buffer was filled on another stream.
        self._stream.wait_stream(torch.cuda.current_stream())
        self._recording = torch.cuda.CUDAGraph() if recorded else None
        # In fp32 all bits count: by default cuDNN takes 10 of 23.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        with _RECORDING, torch.inference_mode(), exact:
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UP):
                    self._outputs = graph.segment(self._images, confidence)
            self._stream.synchronize()
            if self._recording is not None:
                with torch.cuda.graph(self._recording, stream=self._stream):
                    self._outputs = graph.segment(self._images, confidence)
        self._host_outputs = [
            torch.empty(output.shape, dtype=output.dtype, pin_memory=True) for output in self._outputs
        ]

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Segment a batch."""
        self._host_images.numpy()[...] = images
        with _RECORDING, torch.inference_mode(), torch.cuda.stream(self._stream):
            self._images.copy_(self._host_images, non_blocking=True)
            if self._recording is not None:
                self._recording.replay()
            else:
                self._outputs = self._graph.segment(self._images, self._confidence)
            for host, output in zip(self._host_outputs, self._outputs):
                host.copy_(output, non_blocking=True)
            self._stream.synchronize()
        # The buffers take the next frames while these are still being published.
        return [host.numpy().copy() for host in self._host_outputs]
