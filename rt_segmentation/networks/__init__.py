"""The networks by name, ours and the user's; a name is known without importing torch.

A network is any module from images, float (N, 3, H, W), to logits (N, num_classes, H, W), whose class takes
the number of classes as its first argument. What else it may say:

- ``multiple``: H and W must be multiples of it (1 if it does not say); images are padded.
- More arguments with defaults, which a recipe sets as ``options``.
- A dictionary of logits in place of the logits, ``{"out": logits, "aux": logits, …}``: all others than
  ``out`` help in training alone.

A network of the user's is made known in one of these ways. A model's manifest is none of them: it is data,
and never imports code.

- `register_network`, in a program.
- An entry point of the group ``rt_segmentation.networks``, in an installed package.
- ``module:Class`` in a recipe, in ``rt_seg --network``, or in the environment variable ``RT_SEG_NETWORKS``,
  where commas separate several. The module is looked for in the working directory as well.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.networks.sources import source_files

if TYPE_CHECKING:
    from torch import nn

NETWORKS: dict[str, str] = {
    "linknet": "rt_segmentation.networks.linknet:LinkNet",
    "enet": "rt_segmentation.networks.enet:ENet",
    "enet_encoder": "rt_segmentation.networks.enet:ENetEncoderClassifier",
    "lednet": "rt_segmentation.networks.lednet:LEDNet",
    "segnet": "rt_segmentation.networks.segnet:SegNet",
}
"""The package's own."""

ENTRY_POINTS = "rt_segmentation.networks"
ENVIRONMENT = "RT_SEG_NETWORKS"

_registered: dict[str, str | Callable[..., Any]] = {}


class NetworkError(RtSegmentationError, ValueError):
    """An unknown network or option; the message says which ones there are."""


def register_network(name: str, network: str | Callable[..., nn.Module]) -> None:
    """Make a network known by a name, in this process.

    Args:
        name: new; those of the package stay what they are.
        network: its class, or where that is, as ``package.module:Class``.

    Raises:
        NetworkError: the name is taken, or `network` is no class and no such place.
    """
    if name in NETWORKS or _registered.get(name, network) != network:
        raise NetworkError(f"a network '{name}' is known already; give yours another name")
    if not callable(network) and not is_place(network):
        raise NetworkError(f"network '{name}' is at {network!r}; give its class, or 'package.module:Class'")
    _registered[name] = network


def registered_networks() -> dict[str, str | Callable[..., Any]]:
    """What `register_network` has made known in this process."""
    return dict(_registered)


def allow_network(place: str) -> None:
    """Let this process, and those that it starts, import a network that is named by its place.

    Args:
        place: ``module:Class``.

    Raises:
        NetworkError: it is no such place.
    """
    if not is_place(place):
        raise NetworkError(f"network '{place}' is no place of a class; give it as 'module:Class'")
    if place not in allowed_networks():
        os.environ[ENVIRONMENT] = ",".join((*allowed_networks(), place))


def is_place(name: str) -> bool:
    """Whether this is a place in the form ``package.module:Class``."""
    module, _, attribute = name.partition(":")
    return attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def network_names() -> list[str]:
    """Names of all networks that are known, sorted."""
    return sorted({*NETWORKS, *_registered, *_installed(), *allowed_networks()})


def is_network(name: str) -> bool:
    """Whether a model may have this network: one that is known, or one that lies in a ``module:Class``."""
    # Entry points are looked for last: that reads the metadata of all packages.
    return name in NETWORKS or name in _registered or is_place(name) or name in _installed()


def code_digest(name: str) -> str:
    """Digest of the source files of a user's network: its engines are built again when one changes.

    They are its own file and those of the user's that it imports (`sources.source_files`). Empty for the
    package's own networks, whose changes are known otherwise, and where there is no source file.
    """
    if name in NETWORKS:
        return ""
    _look_here()
    files = source_files(_registered.get(name) or _installed().get(name) or name)
    # No source has a NUL, so that what moves from one file to another changes the digest.
    return hashlib.sha256(b"\0".join(map(Path.read_bytes, files))).hexdigest()[:16] if files else ""


def build_network(name: str, num_classes: int, /, **options: Any) -> nn.Module:
    """Build an untrained network.

    Args:
        name: one of `network_names()`.
        num_classes: channels of the logits.
        options: keyword arguments of the network's class, e.g. ``upsampling="sub_pixel"`` for LinkNet.

    Returns:
        A module from float images (N, 3, H, W) to logits (N, num_classes, H, W); the package's own take any
        H and W from 32 up.

    Raises:
        NetworkError: the name or an option is unknown, an option has a value that the network refuses, or a
            network of the user's fails or is none.
    """
    from torch import nn

    network = _find(name)
    if not callable(network):
        raise NetworkError(f"network '{name}' is {network!r}; it must be a class of a torch.nn.Module")
    parameters = list(inspect.signature(network).parameters.values())
    if not parameters:
        raise NetworkError(f"network '{name}' takes no arguments; its first must be the number of classes")
    known = [p.name for p in parameters[1:] if p.kind is not p.VAR_KEYWORD]
    unknown = [] if len(known) < len(parameters) - 1 else sorted(set(options) - set(known))
    if unknown:
        raise NetworkError(
            f"network '{name}' has no option '{unknown[0]}'; it has {', '.join(known) if known else 'none'}"
        )
    if num_classes < 1:
        raise NetworkError(f"network '{name}' needs at least 1 class, not {num_classes}")
    try:
        module = network(num_classes, **options)
    except ValueError as error:
        raise NetworkError(f"network '{name}': {error}") from error
    except Exception as error:
        if name in NETWORKS and not options:
            raise
        raise NetworkError(f"network '{name}' cannot be built: {_told(error)}") from error
    if not isinstance(module, nn.Module):
        raise NetworkError(f"network '{name}' gives a {type(module).__name__}; it must be a torch.nn.Module")
    return module


def _told(error: Exception) -> str:
    """What code of the user's raised, and how to see where."""
    return f"{type(error).__name__}: {error}; with RT_SEG_TRACEBACK=1 rt_seg shows where"


def _find(name: str) -> Callable[..., Any]:
    known = NETWORKS.get(name) or _registered.get(name) or _installed().get(name)
    if known is None:
        if not is_place(name):
            raise NetworkError(f"unknown network {name!r}; there are {', '.join(network_names())}")
        if name not in allowed_networks():
            raise NetworkError(
                f"network '{name}' is code that nobody has allowed; give `rt_seg --network {name} …`, or set"
                f" {ENVIRONMENT}={name} for nodes"
            )
        known = name
    if callable(known):
        return known
    module_name, attribute = known.split(":")
    try:
        _look_here()
        found: Callable[..., Any] = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise NetworkError(f"network '{name}' cannot be imported from '{known}': {error}") from error
    except Exception as error:
        raise NetworkError(f"network '{name}' cannot be imported from '{known}': {_told(error)}") from error
    return found


def allowed_networks() -> list[str]:
    """The places from which this process may import networks, as `allow_network` and the environment say."""
    return [part.strip() for part in os.environ.get(ENVIRONMENT, "").split(",") if part.strip()]


@cache
def _installed() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


def _look_here() -> None:
    """Let modules be found in the working directory; installed programs do not look there by themselves."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
