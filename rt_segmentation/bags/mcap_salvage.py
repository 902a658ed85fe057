"""MCAP files record after record: ones that are damaged, or of messages that rosbags does not read.

The format (mcap.dev/spec): a magic, then records of an opcode (1 byte), a length (8 bytes, little endian) and
as many bytes. Schemas, channels and messages are records of their own, or lie in records that are chunks.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from rt_segmentation.bags.errors import Places

MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
_WANTED = (_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK)
_HEADER = 0x01
_ROS1, _ROS2 = "ros1", "cdr"
"""Encodings of messages."""
FOREIGN_SCHEMAS = ("ros1msg", "protobuf", "jsonschema", "flatbuffer")
"""Encodings of schemas that rosbags does not know and raises as a KeyError."""
_DAMAGE = (ValueError, LookupError, struct.error)


Found = tuple[str, str, int, bytes, bool]


def is_foreign(path: Path, error: Exception) -> bool:
    """Whether rosbags' reader failed because a file holds other messages than ROS 2's, and not for damage.

    Args:
        path: of the file.
        error: that the reader raised.
    """
    if isinstance(error, KeyError):
        return error.args[0] in FOREIGN_SCHEMAS
    with path.open("rb") as file:
        head = file.read(len(MAGIC) + 13)
        if len(head) < len(MAGIC) + 13 or not head.startswith(MAGIC) or head[len(MAGIC)] != _HEADER:
            return False
        return file.read(min(struct.unpack("<I", head[-4:])[0], 64)) != b"ros2"


def salvage(path: Path, topics: Collection[str] | None) -> Iterator[Found]:
    """Messages as `storage.Record`, by time within a chunk; `topics` None is for all.

    A chunk that is damaged is left out. Messages that are neither ROS 2's nor ROS 1's have their encoding
    behind their type, as 'foxglove.CompressedImage (protobuf)'.

    Raises:
        Broken: at the end, if something is damaged or missing.
    """
    places, read = Places(), 0
    records = _Records(topics)
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            places.add(0, "it does not begin as an MCAP file does")
        else:
            size = path.stat().st_size
            while True:
                try:
                    record = _next_record(file, size)
                except ValueError as error:
                    places.add(read, str(error))
                    break
                if record is None:
                    break
                try:
                    found = records.messages(*record)
                except _DAMAGE as error:
                    places.add(read, f"a {'chunk' if record[0] == _CHUNK else 'record'} is damaged ({error})")
                    continue
                read += len(found)
                yield from found
    places.check()


def _next_record(file: BinaryIO, size: int) -> tuple[int, bytes] | None:
    """Opcode and content, empty for records that hold no messages; None at the end of the data."""
    head = file.read(9)
    if not head:
        raise ValueError("it ends without the footer of a closed file")
    opcode, length = struct.unpack("<BQ", head) if len(head) == 9 else (0, size)
    if opcode in (_FOOTER, _DATA_END):
        return None
    if file.tell() + length > size:
        raise ValueError("it ends within a record")
    if opcode in _WANTED:
        return opcode, file.read(length)
    file.seek(length, os.SEEK_CUR)
    return opcode, b""


class _Records:
    """Reads records, and remembers the channels that they declare."""

    def __init__(self, topics: Collection[str] | None) -> None:
        self._topics = topics
        self._types: dict[int, str] = {}
        self._channels: dict[int, tuple[str, str, bool]] = {}

    def messages(self, opcode: int, content: bytes) -> list[Found]:
        """The wanted messages in a record, by time."""
        if opcode == _CHUNK:
            inner = io.BytesIO(_decompressed(content))
            size = len(inner.getbuffer())
            found = []
            while inner.tell() < size:
                record = _next_record(inner, size)
                if record is not None:
                    found += self.messages(*record)
            return sorted(found, key=lambda message: message[2])
        if opcode == _SCHEMA:
            self._types[struct.unpack_from("<H", content)[0]] = _text(content, 2)[0]
        elif opcode == _CHANNEL:
            number, schema = struct.unpack_from("<HH", content)
            topic, end = _text(content, 4)
            encoding = _text(content, end)[0]
            kind = self._types.get(schema, "no type") if schema == 0 else self._types[schema]
            if encoding == _ROS1:
                kind = kind.replace("/", "/msg/")
            elif encoding != _ROS2:
                kind = f"{kind} ({encoding or 'encoding not stated'})"
            self._channels[number] = topic, kind, encoding == _ROS1
        elif opcode == _MESSAGE:
            number, _, recorded_ns = struct.unpack_from("<HIQ", content)
            topic, kind, ros1 = self._channels.get(number, ("", "", False))
            if topic and (self._topics is None or topic in self._topics):
                return [(topic, kind, recorded_ns, content[22:], ros1)]
        return []


def _decompressed(chunk: bytes) -> bytes:
    from rosbags.rosbag2.storage_mcap import decompress

    size, crc = struct.unpack_from("<QI", chunk, 16)
    compression, start = _text(chunk, 28)
    # The decompressors have errors of their own.
    try:
        return bytes(decompress(chunk[start + 8 :], compression, size, crc))
    except Exception as error:
        raise ValueError(str(error)) from error


def _text(data: bytes, start: int) -> tuple[str, int]:
    """A string, and where it ends."""
    end = start + 4 + int(struct.unpack_from("<I", data, start)[0])
    return data[start + 4 : end].decode(), end
