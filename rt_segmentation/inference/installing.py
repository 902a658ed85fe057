"""Puts a model where nodes and commands find it by its name: whole, checked, and run once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import write_atomically
from rt_segmentation.labels import store_label_set
from rt_segmentation.models import ModelError, ModelManifest, list_models, read_manifest, write_manifest
from rt_segmentation.resources import MODELS_VARIABLE, installed_models_dir
from rt_segmentation.text import is_name, one_line, printable
from rt_segmentation.weights import check_weights, read_golden, read_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rt_segmentation.inference.parity import Gate

DIGITS = 8
"""Of the sha256 in a file's name."""


class InstallError(RtSegmentationError, ValueError):
    """A model cannot be installed; the message says why."""


def install_model(
    manifest: ModelManifest,
    name: str = "",
    aliases: Sequence[str] | None = None,
    overwrite: bool = False,
    engine: str = "auto",
    precision: str = "auto",
    gate: Gate | None = None,
) -> tuple[ModelManifest, list[str]]:
    """Copy a model into the folder of installed models.

    The copy is made beside its place, its files' sha256 are checked there, and an engine must label frames
    as the network does (the parity gate) before anything changes. Then its files get their names, the
    manifest last: a node that starts meanwhile finds the old model or the new one, whole.

    Args:
        manifest: the model.
        name: that it gets; its own by default.
        aliases: short names; None takes those of its own that are free.
        overwrite: replace an installed model of that name, and take aliases and names of others.
        engine: that the gate runs, see `build_engine`.
        precision: its arithmetic.
        gate: what the labels must reach.

    Returns:
        The installed model, and sentences about what changed beside it.

    Raises:
        InstallError: a name is no name or is taken.
        ModelError, EngineError: the model is damaged, or no engine runs it as its network does.
        OSError: the folder cannot be written.
    """
    from rt_segmentation.inference.engines import build_engine

    folder = installed_models_dir()
    name = name or manifest.name
    check_name("name", name)
    wanted, notes = _names(manifest, name, aliases, overwrite, folder)
    check_weights(manifest)
    with _staged(folder) as staging:
        copy = _copied(manifest, staging / f"{name}.yaml", wanted)
        built = build_engine(copy, engine, precision, gate)
        built.prepare(1, copy.height, copy.width, copy.has_confidence)
        passed = f"{built.name} {built.precision} on {built.device}, {copy.width}x{copy.height}"
        about = {
            "from": printable(manifest.path.resolve()),
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "gate": passed,
        }
        copy = write_manifest(replace(copy, training={**copy.training, "installed": about}))
        before = _files_of(folder / copy.path.name)
        _move(staging, folder, copy.path.name)
        notes += _give_up_aliases(folder, name, wanted)
        installed = read_manifest(folder / copy.path.name)
        for path in before - _files_of(installed.path):
            path.unlink(missing_ok=True)
    return installed, notes


def check_name(what: str, name: str) -> None:
    """Refuse a name that is none of a file.

    Raises:
        InstallError: it is.
    """
    if not name or Path(name).name != name or name.startswith((".", "_")) or "/" in name or "\\" in name:
        raise InstallError(f"{what} '{name}' cannot be a file's name; give one of letters, digits and '_'")
    if not is_name(name):
        raise InstallError(f"{what} '{one_line(printable(name))}' must be a text of one line, in UTF-8")
    if name.endswith((".yaml", ".yml")):
        raise InstallError(f"{what} '{name}' ends as a path of a manifest does; leave the ending out")


def _names(
    manifest: ModelManifest, name: str, aliases: Sequence[str] | None, overwrite: bool, folder: Path
) -> tuple[tuple[str, ...], list[str]]:
    """The short names that the model gets, and sentences about those it does not get."""
    others = [m for m in list_models() if m.name != name]
    target = folder / f"{name}.yaml"
    if target.exists() and not overwrite:
        raise InstallError(f"a model '{name}' is installed already ({target}); give --overwrite, or a --name")
    shipped = next((m for m in list_models() if m.name == name and m.path != target), None)
    if shipped is not None and not overwrite:
        raise InstallError(
            f"a model '{name}' comes with the package; give another --name, or --overwrite to use yours"
        )
    taken = {word: m for m in reversed(others) for word in (m.name, *m.aliases)}
    if name in taken and not overwrite:
        raise InstallError(
            f"'{name}' is a short name of '{taken[name].name}'; give another --name, or --overwrite"
        )
    asked = manifest.aliases if aliases is None else tuple(dict.fromkeys(aliases))
    wanted, notes = [], []
    for alias in asked:
        check_name("alias", alias)
        if alias == name:
            continue
        owner = taken.get(alias)
        if owner is not None and aliases is None:
            notes.append(f"'{alias}' stays '{owner.name}'; --alias {alias} with --overwrite takes it")
        elif owner is not None and (alias == owner.name or not overwrite):
            how = "give another one" if alias == owner.name else "give another one, or --overwrite to take it"
            raise InstallError(f"alias '{alias}' is taken by model '{owner.name}'; {how}")
        else:
            wanted.append(alias)
            if owner is not None:
                notes.append(f"'{alias}' was '{owner.name}' and is '{name}' now")
    return tuple(wanted), notes


def _copied(manifest: ModelManifest, path: Path, aliases: tuple[str, ...]) -> ModelManifest:
    """The model in another folder, its files named by their content; their sha256 are checked."""
    stem = f"{path.stem}.{manifest.sha256[:DIGITS]}"
    # A name of its own for other weights: a manifest never points to files that are being replaced.
    weights = f"{stem}{manifest.weights_path.suffix}"
    write_atomically(path.parent / weights, read_weights(manifest))
    ranges = manifest.weights_path.with_suffix(".int8.json")
    if ranges.is_file():
        write_atomically((path.parent / weights).with_suffix(".int8.json"), ranges.read_bytes())
    label_set = manifest.label_set
    beside = manifest.path.parent / label_set
    if beside.suffix in (".yaml", ".yml"):
        label_set = store_label_set(beside, path.parent, stem)
    onnx = manifest.onnx
    golden = read_golden(manifest)
    if onnx is not None and golden is not None:
        onnx = replace(onnx, golden=f"{stem}.golden.npz")
        write_atomically(path.parent / onnx.golden, golden)
    copy = write_manifest(
        replace(
            manifest,
            path=path,
            name=path.stem,
            weights=weights,
            label_set=label_set,
            onnx=onnx,
            aliases=aliases,
        )
    )
    check_weights(copy)
    return copy


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A hidden folder within a folder, gone at the end.

    Raises:
        InstallError: it cannot be made.
    """
    staging = folder / f".{os.urandom(8).hex()}.partial"
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise InstallError(
            f"folder {folder} of installed models cannot be written: {error.strerror}; the environment"
            f" variable {MODELS_VARIABLE} names another"
        ) from error
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move(staging: Path, folder: Path, manifest: str) -> None:
    """Move all files, the manifest last."""
    files = [path for path in staging.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda p: p.name == manifest):
        target = folder / path.relative_to(staging)
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)


def _files_of(path: Path) -> set[Path]:
    """The files of an installed model, without its manifest; none where it cannot be read."""
    with suppress(ModelError):
        manifest = read_manifest(path)
        files = {manifest.weights_path, manifest.weights_path.with_suffix(".int8.json")}
        if manifest.label_set.endswith((".yaml", ".yml")):
            files.add(path.parent / manifest.label_set)
        if manifest.onnx is not None and manifest.onnx.golden:
            files.add(path.parent / manifest.onnx.golden)
        return files
    return set()


def _give_up_aliases(folder: Path, name: str, aliases: tuple[str, ...]) -> list[str]:
    """Take short names from other installed models; those of the package come after all installed ones."""
    notes = []
    for path in sorted(folder.glob("*.yaml")):
        with suppress(ModelError):
            other = read_manifest(path)
            kept = tuple(alias for alias in other.aliases if alias not in (name, *aliases))
            if other.name != name and kept != other.aliases:
                write_manifest(replace(other, aliases=kept))
                shown = ", ".join(kept) or "none now"
                notes.append(f"the manifest of '{other.name}' was changed: its aliases are {shown}")
    return notes
