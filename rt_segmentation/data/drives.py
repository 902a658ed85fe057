"""Which frames were recorded in one go: drives, told from names, stamps or folders; and honest splits.

Frames of one drive are alike. A model that is measured on a drive it was trained on gets too good a score.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from rt_segmentation.data.dataset import DatasetError
from rt_segmentation.text import counted

GAP_S = 10.0
"""Two frames further apart than this are of two drives."""
TRIES = 2000

# A whole number of ns, µs, ms or s since the epoch, of the years 2001 to 2286; by the number of digits.
_UNITS = {19: 1e9, 16: 1e6, 13: 1e3, 10: 1.0}
_STAMP = re.compile(r"(?<!\d)(\d{10})[._](\d{9})(?!\d)|(?<!\d)(\d{19}|\d{16}|\d{13}|\d{10})(?!\d)")
_DATE = re.compile(
    r"(?<!\d)(20\d\d)[-_]?(\d\d)[-_]?(\d\d)[-_T ]?(\d\d)[-_:]?(\d\d)[-_:]?(\d\d)(?:[._](\d{1,9}))?(?!\d)"
)
# Not the 8 of leftImg8bit.
_NUMBER = re.compile(r"\d+(?![0-9A-Za-z])")


def stamp_of(name: str) -> float | None:
    """When a frame was taken, from its name [s since the epoch]; None where the name does not say.

    Stamps are s, ms, µs or ns since the epoch, SECONDS_NANOSECONDS, or a date with a time.
    """
    dates = list(_DATE.finditer(name))
    if dates:
        *parts, fraction = dates[-1].groups()
        try:
            time = datetime(*(int(part) for part in parts), tzinfo=timezone.utc)  # type: ignore[misc,arg-type]
        except ValueError:
            pass
        else:
            return time.timestamp() + float(f"0.{fraction or 0}")
    stamps = list(_STAMP.finditer(name))
    if not stamps or not (stamps[-1][1] or stamps[-1][3]).startswith(tuple("123456789")):
        return None
    seconds, nanoseconds, whole = stamps[-1].groups()
    return int(seconds) + int(nanoseconds) / 1e9 if seconds else int(whole) / _UNITS[len(whole)]


def series_of(name: str) -> tuple[str, int | None]:
    """What a name has before its last number, and that number: frames count up in a drive."""
    found = list(_NUMBER.finditer(name))[-1:]
    if not found:
        return name, None
    return name[: found[0].start()].rstrip("-_. "), int(found[0][0])


def drives_by_pattern(names: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
    """The drive of each frame: what the pattern's first group matches, or all of the pattern.

    Raises:
        DatasetError: a name does not match.
    """
    drives = []
    for name in names:
        match = pattern.search(name)
        drive = "" if match is None else (match[1] if pattern.groups else match[0]) or ""
        if not drive:
            count = sum(not pattern.search(other) for other in names)
            raise DatasetError(
                f"pattern '{pattern.pattern}' finds no drive in the name '{name}'"
                + (f", nor in {count - 1} others" if count > 1 else "")
                + "; a frame without a drive could be in two splits"
            )
        drives.append(drive)
    return drives


def drives_by_stamp(names: Sequence[str], gap_s: float = GAP_S) -> list[str]:
    """The drive of each frame: a pause of more than `gap_s` [s] begins another one.

    Raises:
        DatasetError: a name has no stamp.
    """
    stamps = [stamp_of(name) for name in names]
    known = [(stamp, index) for index, stamp in enumerate(stamps) if stamp is not None]
    if len(known) < len(names):
        raise DatasetError(
            f"{len(names) - len(known)} of {len(names)} names have no stamp, as"
            f" '{names[stamps.index(None)]}'; stamps are seconds, ms, µs or ns since the epoch, or a date"
            " with a time"
        )
    drives = [""] * len(names)
    last, number = None, 0
    for stamp, index in sorted(known):
        number += last is None or stamp - last > gap_s
        drives[index], last = f"{number:03d}", stamp
    return drives


def drives_by_name(names: Sequence[str]) -> list[str]:
    """The drive of each frame: its name without the last number."""
    return [series_of(name)[0] for name in names]


def assign(sizes: Mapping[str, int], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """A split for each drive, so that the splits have about their shares of the frames.

    Of many random assignments, the one that comes closest is taken.

    Args:
        sizes: frames of each drive.
        shares: of each split; their sum is 1.
        seed: the same one gives the same splits.

    Raises:
        DatasetError: there are fewer drives than splits.
    """
    if len(sizes) < len(shares):
        raise DatasetError(
            f"there {'is' if len(sizes) == 1 else 'are'} {counted(len(sizes), 'drive')}"
            f" ({', '.join(sorted(sizes)[:5]) or 'none'}) for {len(shares)} splits"
            f" ({', '.join(shares)}), and a drive cannot be in two; record another drive, or tell drives"
            " apart otherwise"
        )
    generator = random.Random(seed)
    drives, total = sorted(sizes), sum(sizes.values())
    best: tuple[float, dict[str, str]] | None = None
    for _ in range(TRIES):
        generator.shuffle(drives)
        # Each split has one; the others go where most is missing.
        missing = {split: share * total for split, share in shares.items()}
        chosen = {}
        for index, drive in enumerate(drives):
            split = list(shares)[index] if index < len(shares) else max(missing, key=lambda s: missing[s])
            chosen[drive] = split
            missing[split] -= sizes[drive]
        error = sum(abs(left) for left in missing.values())
        if best is None or error < best[0]:
            best = error, chosen
        if len(sizes) > 1000:
            break
    assert best is not None
    return best[1]
