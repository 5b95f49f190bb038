"""Whether a file is safetensors: a format that cannot run code, with every byte accounted for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

_LONGEST_HEADER = 100_000_000
_BITS: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    "F4": 4,
}


def safetensors_problem(path: Path) -> str:
    """Return what is wrong with a safetensors file's header, or "". Reads the header alone.

    Format: 8 bytes of little-endian length, so much JSON, then the tensors back to back with no hole or overlap.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            return "its safetensors header is longer than the file or 100 MB"
        raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        return "its safetensors header is not JSON"
    if not isinstance(header, dict):
        return "its safetensors header is not an object"
    return _tensors_problem({name: row for name, row in header.items() if name != "__metadata__"}, size - 8 - length)


def _tensors_problem(tensors: Mapping[str, object], data_bytes: int) -> str:
    spans = []
    for row in tensors.values():
        span = _span(row)
        if span is None:
            return "its safetensors header describes a tensor whose type, shape and place do not fit together"
        spans.append(span)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            return "its safetensors header leaves a hole or lays tensors over each other"
        end = stop
    return "" if end == data_bytes else "its tensors do not fill the file exactly"


def _span(row: object) -> tuple[int, int] | None:
    match row:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(start), int(stop)]} if kind in _BITS:
            if not all(type(side) is int and side >= 0 for side in shape) or not 0 <= start <= stop:
                return None
            bits = math.prod(shape) * _BITS[kind]
            return (start, stop) if bits == 8 * (stop - start) else None
        case _:
            return None
