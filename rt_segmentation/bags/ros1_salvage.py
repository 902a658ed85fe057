"""ROS 1 bags without an index, as a killed recorder leaves them: their chunks one after the other.

The format (wiki.ros.org/Bags/Format/2.0): records of a header (length, then fields `name=value`) and data
(length, bytes); `op` 5 is a chunk, in which lie connections (7) and messages (2).
"""

from __future__ import annotations

import bz2
import io
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from rt_segmentation.bags.errors import Places

MAGIC = b"#ROSBAG V2.0\n"
_MESSAGE, _CHUNK, _CONNECTION = 2, 5, 7


class _Torn(ValueError):
    """The file ends within a record, or a chunk is damaged."""


def salvage(path: Path, topics: Collection[str] | None = None) -> Iterator[tuple[str, str, int, bytes, bool]]:
    """Messages as `storage.Record`, in the order in which they lie there.

    A chunk that is damaged is left out.

    Args:
        path: of the bag.
        topics: wanted ones; None for all.

    Raises:
        Broken: at the end, if something is damaged or missing.
    """
    places, read = Places(), 0
    names: dict[int, tuple[str, str]] = {}
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            places.add(0, "it does not begin as a ROS 1 bag of version 2.0 does")
        else:
            try:
                for header, data in _records(file):
                    if header["op"][0] != _CHUNK:
                        continue
                    try:
                        for message in _messages(_decompress(header, data), names):
                            if topics is None or message[0] in topics:
                                yield *message, True
                                read += 1
                    except (_Torn, LookupError, UnicodeDecodeError, struct.error) as error:
                        places.add(read, f"a chunk is damaged ({error})")
            except (_Torn, LookupError) as error:
                places.add(read, str(error))
    places.check()


def _messages(chunk: bytes, names: dict[int, tuple[str, str]]) -> Iterator[tuple[str, str, int, bytes]]:
    """The messages in a chunk; the connections in it are added to `names`."""
    for header, content in _records(io.BytesIO(chunk)):
        if header["op"][0] == _CONNECTION:
            kind = _fields(content)["type"].decode()
            names[_connection(header)] = header["topic"].decode(), kind.replace("/", "/msg/")
        elif header["op"][0] == _MESSAGE:
            seconds, nanoseconds = struct.unpack("<II", header["time"])
            yield *names[_connection(header)], seconds * 1_000_000_000 + nanoseconds, content


def _connection(header: dict[str, bytes]) -> int:
    return int(struct.unpack("<I", header["conn"])[0])


def _records(file: BinaryIO) -> Iterator[tuple[dict[str, bytes], bytes]]:
    while True:
        start = file.read(4)
        if not start:
            return
        header = _fields(_exactly(file, _length(start)))
        if "op" not in header:
            raise _Torn("a record has no operation code")
        yield header, _exactly(file, _length(file.read(4)))


def _length(data: bytes) -> int:
    if len(data) < 4:
        raise _Torn("it ends within a record")
    return int(struct.unpack("<I", data)[0])


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise _Torn("it ends within a record")
    return data


def _fields(data: bytes) -> dict[str, bytes]:
    fields = {}
    while data:
        size = _length(data[:4])
        name, _, value = data[4 : 4 + size].partition(b"=")
        fields[name.decode("ascii", "replace")] = value
        data = data[4 + size :]
    return fields


def _decompress(header: dict[str, bytes], data: bytes) -> bytes:
    kind = header.get("compression", b"none")
    try:
        if kind == b"bz2":
            return bz2.decompress(data)
        if kind == b"lz4":
            import lz4.frame

            return bytes(lz4.frame.decompress(data))
    except (OSError, ValueError, RuntimeError) as error:
        raise _Torn(f"it does not decompress: {error}") from error
    return data
