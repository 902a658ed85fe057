"""Settings of a build, and the builder."""

from __future__ import annotations

import pickle
from typing import Any

from .dla import _dla_problem
from .enums import DLA_CORES, LEVEL, VERSION, BuilderFlag, DeviceType
from .foundations import _LOGGER, _MAGIC, IHostMemory, ILogger, _error, _Invalid
from .network import INetworkDefinition
from .plan import _plan
from .running import Runtime
from .tensors import ILayer, _dims

ALL_MEMORY = 8 << 30


class IOptimizationProfile:
    """Shapes of the inputs."""

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._shapes[input] = (_dims(min), _dims(opt), _dims(max))


class IBuilderConfig:
    """Settings of a build."""

    def __init__(self) -> None:
        self._flags = {BuilderFlag.TF32}
        self._devices: dict[ILayer, Any] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._pools: dict[Any, int] = {}
        self.DLA_core = -1
        self.default_device_type = DeviceType.GPU
        self.avg_timing_iterations = 1
        self.progress_monitor: Any = None
        if LEVEL < 10:
            self.max_workspace_size = 0
        self.int8_calibrator: Any = None

    def __setattr__(self, key: str, value: Any) -> None:
        known = {"DLA_core", "default_device_type", "avg_timing_iterations", "int8_calibrator"}
        known |= {"max_workspace_size"} if LEVEL < 10 else {"progress_monitor"}
        if not key.startswith("_") and key not in known and not (key == "progress_monitor" and value is None):
            raise AttributeError(f"'IBuilderConfig' object has no attribute '{key}'")
        object.__setattr__(self, key, value)

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: Any) -> Any:
        return flag in self._flags

    def _has(self, name: str) -> Any:
        return any(flag.name == name for flag in self._flags)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool, ALL_MEMORY)

    def set_device_type(self, layer: ILayer, device_type: Any) -> None:
        self._devices[layer] = device_type

    def get_device_type(self, layer: ILayer) -> Any:
        return self._devices.get(layer, self.default_device_type)

    def can_run_on_DLA(self, layer: ILayer) -> Any:
        return _dla_problem(layer) is None

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def set_calibration_profile(self, profile: IOptimizationProfile) -> Any:
        return True


class IProgressMonitor:
    """Is told how far a build is."""

    def __init__(self) -> None:
        pass


if LEVEL < 10:
    del IProgressMonitor


class Builder:
    """Makes networks and engines."""

    num_DLA_cores = DLA_CORES
    platform_has_fast_fp16 = platform_has_fast_int8 = True

    def __init__(self, logger: Any) -> None:
        if not isinstance(logger, ILogger):
            raise TypeError("incompatible constructor arguments")

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        if LEVEL < 10 and not flags & 1:
            raise NotImplementedError("implicit batch")
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        monitor = config.progress_monitor
        try:
            if monitor is not None:
                monitor.phase_start("Building Engine", None, 3)
                monitor.phase_start("Tactics", "Building Engine", 2)
            plan = _plan(network, config)
            if monitor is not None:
                for step in range(2):
                    if not monitor.step_complete("Tactics", step):
                        _error("the build was cancelled by its monitor")
                        return None
                monitor.phase_finish("Tactics")
                monitor.phase_finish("Building Engine")
        except _Invalid as error:
            _error(f"IBuilder::buildSerializedNetwork: Error Code 4: Internal Error ({error})")
            return None
        return IHostMemory(_MAGIC + VERSION.encode() + b"\0" + pickle.dumps(plan))

    if LEVEL < 10:

        def build_engine(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
            serialized = self.build_serialized_network(network, config)
            return None if serialized is None else Runtime(_LOGGER).deserialize_cuda_engine(serialized)
