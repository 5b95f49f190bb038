"""Our gateway and its peers under the same load, on one core: `python benchmarks/gateway_peers.py [--part NAME]`.

Everything takes turns in every round. CPU time is read from /proc. The parts: `peers` compares gateways, `features`
shows what each of ours costs, `growth` how cost grows (`keys` is a part of it), `isolation` what a tenant pays for
another that misbehaves. Peers come from packages (`--fetch` only fetches them); one that cannot be had is said and left
out. Needs two cores, a C compiler and a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from benchmarks.gateway.backing import backing
from benchmarks.gateway.experiments import LOADS
from benchmarks.gateway.measure import Bench
from benchmarks.gateway.parts import PARTS, Asked, Part
from benchmarks.gateway.peers import nginx, python_peers
from benchmarks.gateway.programs import CannotRun, backend, compiled
from benchmarks.gateway.room import Room
from benchmarks.gateway.turns import Say

_ROOT = Path(__file__).parents[1]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), action="append", help="only this (may be repeated)")
    parser.add_argument("--only", action="append", default=[], metavar="SUBJECT", help="of the peers only these")
    parser.add_argument(
        "--load", action="append", choices=LOADS, help="of the peers' loads only this (may be repeated)"
    )
    parser.add_argument("--rounds", type=int, help="how often everything takes its turn (each part has its own number)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=1.5,
        help="how long one reading of peers measures (1.5); half of it in the other parts",
    )
    parser.add_argument("--fetch", action="store_true", help="fetch and compile what is needed, then stop")
    parser.add_argument("--json", type=Path, default=_ROOT / "reports" / "gateway-peers.json", metavar="FILE")
    parser.add_argument("--cache", type=Path, default=_ROOT / ".hxp" / "cache" / "peers", metavar="FOLDER")
    return parser.parse_args()


def _split(cores: list[int]) -> tuple[frozenset[int], frozenset[int]]:
    """Return the cores of the gateways, which is one, and those of the backend and the client."""
    if len(cores) < 2:
        raise CannotRun("two cores are needed: one for the gateway, the other for the backend and the client")
    return frozenset(cores[-1:]), frozenset(cores[:-1])


def _fetch(cache: Path, say: Say) -> None:
    compiled(cache)
    for fetch in (nginx, python_peers):
        try:
            say(f"here: {fetch(cache, say)}")
        except CannotRun as error:
            say(f"left out: {error}")


def main() -> int:
    options = _options()
    began_s = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began_s:4.0f} s] {text}", file=sys.stderr, flush=True)

    cache = options.cache.resolve()
    try:
        if options.fetch:
            _fetch(cache, say)
            return 0
        subject_cores, client_cores = _split(sorted(os.sched_getaffinity(0)))
        with ExitStack() as held:
            folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
            programs = compiled(cache)
            served = held.enter_context(backend(programs, client_cores))
            say("starting PostgreSQL and Valkey")
            (folder / "backing").mkdir()
            behind = held.enter_context(backing(folder / "backing", cache.parent, client_cores))
            room = Room(Bench(programs, served, folder, client_cores), behind, subject_cores, cache, say)
            names = options.part or list(PARTS)
            asked = Asked(options.only, options.load or LOADS, options.rounds, options.seconds)
            done: dict[str, Part] = {}
            for name in names:  # what is done is kept, whatever becomes of the rest
                done[name] = PARTS[name](room, asked)
                _write(options.json, done)
                print(f"{done[name].markdown}\n", flush=True)
    except CannotRun as error:
        print(f"gateway_peers: {error}", file=sys.stderr)
        return 2
    say(f"done; every reading is in {options.json}")
    return 0


def _write(file: Path, done: dict[str, Part]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    parts = {name: asdict(part) for name, part in done.items()}
    file.write_text(json.dumps({"machine": machine, "load_average": os.getloadavg(), "parts": parts}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
