"""The cache's own scripts on a clock that a test moves: Lua, with the few commands that they use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from lupa.lua51 import LuaRuntime  # type: ignore[import-untyped]  # it has no types, and comes with fakeredis

# The version that Redis has; one for all, as it does not like to be thrown away.
_LUA = LuaRuntime()
_table = _LUA.table_from


class MovedScripts:
    """Stands where a client of Redis makes scripts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.hashes: dict[str, dict[str, str]] = {}

    def register_script(self, text: str) -> Callable[..., Awaitable[Any]]:
        """Return what runs `text`, as redis-py's own scripts are run."""
        run = _LUA.eval(f"function(KEYS, ARGV, redis)\n{text}\nend")

        async def script(keys: Sequence[str], args: Sequence[object]) -> Any:
            values = [str(each) for each in args]
            return run(_table(list(keys)), _table(values), _table({"call": self._call}))

        return script

    def _call(self, command: str, key: str = "", *rest: object) -> Any:
        if command == "TIME":
            micros = round(self._clock() * 1e6)
            return _table([str(micros // 10**6), str(micros % 10**6)])
        kept = self.hashes.setdefault(key, {})
        if command == "HGETALL":
            return _table([each for pair in kept.items() for each in pair])
        if command == "HSET":
            kept[str(rest[0])] = str(rest[1])
        elif command == "HDEL":
            kept.pop(str(rest[0]), None)
        else:
            assert command == "PEXPIRE", command
        return None
