"""Where annotations lie: a file, a folder or a zip, read without unpacking it; and what is written whole."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rt_segmentation.data.exchange.frames import ExchangeError, safe_name
from rt_segmentation.files import replacing
from rt_segmentation.text import printable

MAX_BYTES = 2**30
"""Of one file of a zip, unpacked."""


class Container:
    """The files of a folder or a zip by name, with '/' between folders; hidden ones are left out.

    Args:
        path: a folder, a zip, or one file, which is then the only one.

    Attributes:
        names: of all files, sorted.

    Raises:
        ExchangeError: there is nothing, the zip is damaged, or a name leads out of its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._files: dict[str, Path | str] = {}
        if path.is_dir():
            for file in path.rglob("*"):
                if file.is_file():
                    self._files[file.relative_to(path).as_posix()] = file
        elif not path.is_file():
            raise ExchangeError(f"{printable(path)} does not exist")
        elif zipfile.is_zipfile(path):
            try:
                self._zip = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, OSError) as error:
                raise ExchangeError(f"{printable(path)} is a damaged zip: {error}") from error
            for info in self._zip.infolist():
                if not info.is_dir():
                    self._files[safe_name(info.filename, path)] = info.filename
        elif path.suffix.lower() == ".zip":
            raise ExchangeError(f"{printable(path)} is no whole zip; it is truncated, or of another format")
        else:
            self._files[path.name] = path
        self.names = sorted(
            name
            for name in self._files
            if not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
        )

    def endings(self, *endings: str) -> list[str]:
        """Names with one of some endings, in lower or upper case."""
        return [name for name in self.names if name.lower().endswith(endings)]

    def only(self, ending: str, what: str) -> str:
        """The name of the one file with an ending.

        Raises:
            ExchangeError: there is none, or there are several.
        """
        found = self.endings(ending)
        if len(found) != 1:
            number = f"{len(found)} files" if found else "no file"
            raise ExchangeError(
                f"{printable(self.path)} has {number} *{ending}; {what} is one, alone or in a zip or folder"
                + (f": {', '.join(found[:5])}" if found else "")
            )
        return found[0]

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            ExchangeError: it cannot be read, or is larger than `MAX_BYTES` in a zip.
        """
        inner = self._files[name]
        try:
            if isinstance(inner, Path):
                return inner.read_bytes()
            assert self._zip is not None
            if self._zip.getinfo(inner).file_size > MAX_BYTES:
                raise ExchangeError(f"{self.text(name)} is larger than {MAX_BYTES >> 20} MiB")
            return self._zip.read(inner)
        except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError) as error:
            raise ExchangeError(f"{self.text(name)} cannot be read: {error}") from error

    def text(self, name: str) -> str:
        """How a file is called in a sentence."""
        return printable(self._files[name] if self._zip is None else f"{self.path}/{name}")

    def json(self, name: str) -> Any:
        """A file's content as JSON.

        Raises:
            ExchangeError: it is none.
        """
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise ExchangeError(f"{self.text(name)} is not JSON: {error}") from error


@contextmanager
def new_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip to write; it has its name when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        yield archive
