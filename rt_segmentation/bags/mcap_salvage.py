"""MCAP files record after record: damaged ones, and those of which rosbags does not read everything.

The format (mcap.dev/spec): a magic, then records of an opcode (1 byte), a length (8 bytes, little endian) and
as many bytes. Schemas, channels and messages are records of their own, or lie in records that are chunks.
"""

from __future__ import annotations

import io
import struct
from array import array
from collections.abc import Collection, Iterator
from contextlib import suppress
from heapq import heappop, heappush
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from rt_segmentation.bags.errors import Places, rosbags_missing

MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
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
    """Messages as `storage.Record`, by time; `topics` None is for all.

    The file is gone through twice: for where its parts are, then for these by time. Chunks that overlap in
    time are in memory together. A chunk that is damaged is left out. Messages that are neither ROS 2's nor
    ROS 1's have their encoding behind their type, as 'foxglove.CompressedImage (protobuf)'.

    Raises:
        Broken: at the end, if something is damaged or missing.
        BagError: rosbags is not installed, or too old.
    """
    places, read = Places(), 0
    records = _Records(topics)
    waiting: list[tuple[int, int, int, Found]] = []
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            places.add(0, "it does not begin as an MCAP file does")
            places.check()
        parts, end = _survey(file, path.stat().st_size, records, places)
        for part in parts.by_time():
            while waiting and waiting[0][0] < part.begin_ns:
                yield heappop(waiting)[-1]
            try:
                found = records.messages(part.opcode, part.content(file))
            except _DAMAGE as error:
                places.add(read, f"a {'chunk' if part.opcode == _CHUNK else 'record'} is damaged ({error})")
                continue
            read += len(found)
            for number, message in enumerate(found):
                heappush(waiting, (message[2], part.position, number, message))
        while waiting:
            yield heappop(waiting)[-1]
    if end:
        places.add(read, end)
    places.check()


class _Part(NamedTuple):
    """A chunk, or a message that lies in none: its first recorded time [ns], and where its content is."""

    begin_ns: int
    position: int
    length: int
    opcode: int

    def content(self, file: BinaryIO) -> bytes:
        file.seek(self.position)
        return file.read(self.length)


class _Parts:
    """The parts of a file as they lie there: numbers alone, as there may be tens of millions of messages."""

    def __init__(self) -> None:
        self._numbers = [array("Q") for _ in _Part._fields]
        self._last_ns = 0
        self.are_by_time = True

    def __len__(self) -> int:
        return len(self._numbers[0])

    def __iter__(self) -> Iterator[_Part]:
        return (_Part(*numbers) for numbers in zip(*self._numbers))

    def add(self, part: _Part) -> None:
        """Note the next one."""
        self.are_by_time &= part.begin_ns >= self._last_ns
        self._last_ns = part.begin_ns
        for numbers, number in zip(self._numbers, part):
            numbers.append(number)

    def by_time(self) -> Iterator[_Part]:
        """Those that begin at the same time as they lie there."""
        if self.are_by_time:
            yield from self
            return
        for place in np.argsort(np.frombuffer(self._numbers[0], np.uint64), kind="stable"):
            yield _Part(*(numbers[place] for numbers in self._numbers))


def _survey(file: BinaryIO, size: int, records: _Records, places: Places) -> tuple[_Parts, str]:
    """The parts of a file that hold messages, as they lie there, and what is wrong with its end, or ''.

    `records` knows all channels then that the parts may need, but for those in chunks before them.
    """
    parts = _Parts()
    end = ""
    while True:
        try:
            head = _next_head(file, size)
        except ValueError as error:
            end = str(error)
            break
        if head is None:
            break
        opcode, length = head
        position = file.tell()
        try:
            if opcode == _CHUNK:
                (begin_ns,) = struct.unpack("<Q", file.read(8))
                part = _Part(begin_ns, position, length, opcode)
                if not begin_ns:
                    # A writer that tells no times: with them the chunk need not wait for all others.
                    found = records.messages(opcode, part.content(file))
                    part = part._replace(begin_ns=found[0][2] if found else 0)
                parts.add(part)
            elif opcode == _MESSAGE:
                channel, _, recorded_ns = struct.unpack("<HIQ", file.read(14))
                if records.wants(channel):
                    parts.add(_Part(recorded_ns, position, length, opcode))
            elif opcode in (_SCHEMA, _CHANNEL):
                records.messages(opcode, file.read(length))
        except _DAMAGE as error:
            places.add(len(parts), f"a record is damaged ({error})")
        file.seek(position + length)
    if not parts.are_by_time:
        # A chunk may need the channels of one that lies before it and is read after it.
        for part in parts:
            if part.opcode == _CHUNK:
                with suppress(*_DAMAGE):
                    records.messages(part.opcode, part.content(file))
    return parts, end


def _next_head(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Opcode and length of the content, which follows and is there; None at the end of the data."""
    head = file.read(9)
    if not head:
        raise ValueError("it ends without the footer of a closed file")
    opcode, length = struct.unpack("<BQ", head) if len(head) == 9 else (0, size)
    if opcode in (_FOOTER, _DATA_END):
        return None
    if file.tell() + length > size:
        raise ValueError("it ends within a record")
    return opcode, length


class _Records:
    """Reads records, and remembers the channels that they declare."""

    def __init__(self, topics: Collection[str] | None) -> None:
        self._topics = topics
        self._types: dict[int, str] = {}
        self._channels: dict[int, tuple[str, str, bool]] = {}
        try:
            from rosbags.rosbag2.storage_mcap import decompress
        except ImportError as error:
            raise rosbags_missing(error) from None
        self._decompress = decompress

    def wants(self, channel: int) -> bool:
        """Whether its messages are asked for."""
        topic = self._channels.get(channel, ("",))[0]
        return bool(topic) and (self._topics is None or topic in self._topics)

    def messages(self, opcode: int, content: bytes) -> list[Found]:
        """The wanted messages in a record, by time."""
        if opcode == _CHUNK:
            inner = io.BytesIO(self._decompressed(content))
            size = len(inner.getbuffer())
            found = []
            while inner.tell() < size:
                head = _next_head(inner, size)
                if head is not None:
                    found += self.messages(head[0], inner.read(head[1]))
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
            if self.wants(number):
                topic, kind, ros1 = self._channels[number]
                return [(topic, kind, recorded_ns, content[22:], ros1)]
        return []

    def _decompressed(self, chunk: bytes) -> bytes:
        size, crc = struct.unpack_from("<QI", chunk, 16)
        compression, start = _text(chunk, 28)
        # The decompressors have errors of their own.
        try:
            return bytes(self._decompress(chunk[start + 8 :], compression, size, crc))
        except Exception as error:
            raise ValueError(str(error)) from error


def _text(data: bytes, start: int) -> tuple[str, int]:
    """A string, and where it ends."""
    end = start + 4 + int(struct.unpack_from("<I", data, start)[0])
    return data[start + 4 : end].decode(), end
