"""Versions of what the networks become, raised by hand: what the cache holds of an older one is made again.

A test compares what each network becomes with what was noted at its version, and tells whoever changes it to
raise the number. They are here, and not beside what they count, because a warm cache is used without torch.
"""

from __future__ import annotations

GRAPH = 1
"""Of what is around every network: `engines.graph`, `engines.export`, `deploy.body`, `deploy.folding`."""

REFERENCE = 1
"""Of what engines are compared with: the frames that `parity` shows them, and how they are labelled."""

NETWORKS = {"linknet": 1, "enet": 1, "enet_encoder": 1, "lednet": 1, "segnet": 1}
"""Of each network of the package with its deploy graph."""

FOREIGN = 1
"""Of what is around an ONNX graph of somebody else's, and of what it is compared with: `foreign`."""


def graph_version(network: str) -> str:
    """For keys of the cache: of the graph of a network, by its name; '' is an ONNX graph.

    A user's own networks are known by their code.
    """
    if not network:
        return f"foreign.{FOREIGN}"
    return f"{GRAPH}.{NETWORKS.get(network, 0)}"
