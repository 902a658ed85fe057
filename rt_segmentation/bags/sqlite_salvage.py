"""SQLite storage of rosbag2 whose end or pages are missing: its messages up to the damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from rt_segmentation.bags.errors import Broken, Places


def open_database(path: Path) -> sqlite3.Connection:
    """Open a storage file for reading only.

    Raises:
        sqlite3.DatabaseError: not even its first page is there.
    """
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    # SQLite refuses a file that is shorter than its header says, but not if it is to be recovered.
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def missing_bytes(path: Path) -> int:
    """How many bytes a storage file lacks at its end, by its header; 0 where that does not say.

    SQLite reads zeros for the end of a last page that is cut off, and says nothing. Its own check reads the
    whole file.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100:
        return 0
    # The database file format, 1.3.2, 1.3.7 and 1.3.16: of two counters that differ, the older wrote no size.
    page_size, changed, pages, valid_for = (
        int.from_bytes(header[begin:end], "big") for begin, end in ((16, 18), (24, 28), (28, 32), (92, 96))
    )
    if changed != valid_for:
        return 0
    return max((1 << 16 if page_size == 1 else page_size) * pages - path.stat().st_size, 0)


def salvage(path: Path, topics: Collection[str] | None) -> Iterator[tuple[str, str, int, bytes, bool]]:
    """Messages as `storage.Record`, one by one in the order of their row ids.

    `topics` None is for all. Reading by id needs no index, which lies behind the messages and is damaged with
    them.

    Raises:
        Broken: at the first damaged page, after all messages before it.
    """
    places, read = Places(), 0
    try:
        connection = open_database(path)
    except sqlite3.DatabaseError as error:
        raise Broken(f"cannot be opened: {error}") from error
    try:
        names = {i: (n, t) for i, n, t in connection.execute("SELECT id, name, type FROM topics")}
        rows = connection.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY rowid")
        for topic_id, recorded_ns, data in rows:
            name, kind = names[topic_id]
            if topics is None or name in topics:
                yield name, kind, recorded_ns, data, False
                read += 1
    except (sqlite3.DatabaseError, LookupError) as error:
        places.add(read, str(error))
    finally:
        connection.close()
    places.check()
