"""One chunk of a body on the wire: a line with its size in hexadecimal digits, so many bytes, and the end of a line."""

from __future__ import annotations

_MOST_BYTES = 4096
_LINE_END = b"\r\n"


def _lines() -> list[bytes]:
    """Return by the size of a whole chunk the line that it begins with; where there is no such size, the end of one."""
    lines = [_LINE_END] * _MOST_BYTES
    for payload in range(1, _MOST_BYTES):
        line = b"%x\r\n" % payload
        whole = len(line) + payload + len(_LINE_END)
        if whole < _MOST_BYTES:
            lines[whole] = line
    return lines


_LINES = _lines()


def payload_at(data: bytes) -> int:
    """Return where the payload begins when `data` is one chunk, under 4 KiB and spelt as usual; else return 0.

    Usual are small letters, no zeros before them and no extension. The payload ends two bytes before the end of `data`.
    """
    size = len(data)
    if size >= _MOST_BYTES:
        return 0
    line = _LINES[size]
    return len(line) if data.startswith(line) and data.endswith(_LINE_END) and line is not _LINE_END else 0
