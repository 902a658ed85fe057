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
