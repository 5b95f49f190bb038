"""One chunk of a body on the wire: a line with its size in hexadecimal digits, so many bytes, and the end of a line.

Chunks that are spelt as usual are told here without the parser: under 4 KiB, small letters, no zeros before them and no
extension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MOST_BYTES = 4096
LINE_END = b"\r\n"
_LONGEST_LINE_BYTES = len(b"fff\r\n")

_SIZES: Mapping[bytes, int] = {b"%x\r\n" % size: size for size in range(1, MOST_BYTES)}


def _lines() -> Sequence[bytes | tuple[()]]:
    """Return by the size of a whole chunk the line that it begins with; MOST_BYTES stands for all larger sizes.

    Where there is no such line there is what `startswith` finds nowhere.
    """
    lines: list[bytes | tuple[()]] = [()] * (MOST_BYTES + 1)
    for line, size in _SIZES.items():
        whole = len(line) + size + len(LINE_END)
        if whole < MOST_BYTES:
            lines[whole] = line
    return lines


LINES = _lines()


def chunk_at(read: bytes, at: int) -> tuple[int, int]:
    """Return where the payload of the whole chunk that begins at `at` begins and ends; (0, 0) where there is none."""
    begins = read.find(LINE_END, at, at + _LONGEST_LINE_BYTES) + len(LINE_END)
    size = _SIZES.get(read[at:begins])
    if size is None or not read.startswith(LINE_END, begins + size):
        return 0, 0
    return begins, begins + size
