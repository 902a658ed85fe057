"""Which files a network of the user's is made of; found without importing any of them."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

_LIBRARIES = {"site-packages", "dist-packages"}
"""Folders of installed packages, whose code changes with their version alone."""


def source_files(network: str | Callable[..., Any]) -> list[Path]:
    """The source files that decide what a network computes: its module, and what that imports of the user's.

    The user's are modules of the network's own package, modules that lie beside it or in folders beside it,
    and others that are in no folder of installed packages; these last are not followed further. What a
    program imports by a name that it puts together is not seen.

    Args:
        network: where its class is, ``package.module:Class``, or the class.

    Returns:
        Its own module's file first, the others by their modules' names; empty where it has no file.
    """
    if not callable(network):
        module = network.split(":")[0]
        files = dict(_chain(module))
        own = files.get(module)
    else:
        module, own = network.__module__, _file_of(network)
        bases = inspect.getmro(network) if inspect.isclass(network) else ()
        files = {**dict(_chain(module)), **{base.__module__: _file_of(base) for base in bases}}
    if own is None:
        return []
    first = module.split(".")[0]
    # The folder of the outermost package, or of a module in none.
    root = own.parents[module.count(".") + (own.name == "__init__.py")]
    found = {module: own}
    waiting = [(module, own), *((name, file) for name, file in files.items() if file is not None)]
    while waiting:
        name, file = waiting.pop()
        if name != module and (name in found or not _is_users(name, file, first)):
            continue
        found[name] = file
        if name == module or name.split(".")[0] == first or root in file.parents:
            for imported in _imports(name, file):
                waiting += [(n, f) for n, f in _chain(imported) if f is not None and n not in found]
    return [own, *(found[name] for name in sorted(found) if name != module)]


def _is_users(name: str, file: Path, first: str) -> bool:
    outermost = name.split(".")[0]
    if outermost == "rt_segmentation" or outermost in sys.stdlib_module_names:
        return False
    return outermost == first or _LIBRARIES.isdisjoint(file.parts)


def _file_of(thing: Callable[..., Any]) -> Path | None:
    try:
        file = inspect.getsourcefile(thing)
    except (TypeError, OSError):
        # Of a class that was typed in, or is none of Python's.
        return None
    return Path(file) if file is not None and Path(file).is_file() else None


def _imports(name: str, file: Path) -> Iterator[str]:
    """Names of what may be modules, in all import statements of a module's file."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            parts = [*parents, *(node.module.split(".") if node.module else ())]
            yield from (".".join((*parts, alias.name)) for alias in node.names)


def _chain(module: str) -> Iterator[tuple[str, Path | None]]:
    """A module and the packages that it is in, outermost first, with their files; it ends where one lacks.

    The packages are not imported: nobody may have allowed it, and they may need torch.
    """
    first, *inner = module.split(".")
    name = first
    try:
        found: ModuleSpec | None = importlib.util.find_spec(first)
        while found is not None:
            file = Path(found.origin) if found.origin and found.origin.endswith(".py") else None
            yield name, file if file is None or file.is_file() else None
            inside = found.submodule_search_locations
            if not inner or inside is None:
                return
            name = f"{name}.{inner.pop(0)}"
            found = PathFinder.find_spec(name, list(inside))
    except (ImportError, ValueError, AttributeError):
        return
