"""The golden server: an OpenAI-compatible server whose timing is exactly known, and which keeps a log of the truth.

    python -m hxp_harness.certify.golden --port 0 --ttft-s 0.1 --itl-s 0.01 --log truth.jsonl

It prints one JSON line when it listens, and ends at SIGTERM, SIGINT, the end of a piped stdin or its parent's death.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import itertools
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from hxp_harness.certify import wire
from hxp_harness.certify.behaviour import ANY_MODEL, Behaviour, changed
from hxp_harness.certify.connection import SO_TIMESTAMPNS, Connection, Request
from hxp_harness.certify.exchange import Exchange, Slots
from hxp_harness.certify.script import refusal, streamed, whole
from hxp_harness.certify.timer import Deadlines
from hxp_harness.certify.truth import Truth, TruthLog
from hxp_harness.errors import UsageError

_PR_SET_PDEATHSIG = 1


class Golden:
    """Answers requests on one listening socket. `model` is the only model; `seed` makes the jitter."""

    def __init__(
        self, behaviour: Behaviour, log: TruthLog, *, slots: int = 0, model: str = "golden", seed: int = 0
    ) -> None:
        self._behaviour = behaviour
        self._log = log
        self._model = model
        self._seed = seed
        self._slots = Slots(slots)
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop)
        self._numbers = itertools.count()
        self._connections: set[Connection] = set()
        self._listener: socket.socket | None = None

    def listen(self, listener: socket.socket) -> None:
        """Serve on `listener`."""
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)  # inherited: covers what comes before accept
        self._listener = listener
        self._loop.add_reader(listener.fileno(), self._accept, listener)

    def close(self) -> None:
        """Close every socket; answers that go on are logged as stopped."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for connection in list(self._connections):
            connection.close("stopped")
        self._deadlines.close()
        self._log.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(64):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                break
            self._connections.add(Connection(self._loop, sock, self._answer))
        if len(self._connections) % 64 == 0:
            self._connections = {connection for connection in self._connections if not connection.closed}

    def _answer(self, connection: Connection, request: Request) -> Callable[[str], None] | None:
        path = urlsplit(request.path).path
        request_id = request.headers.get("x-request-id") or f"golden-{next(self._numbers)}"
        if request.method == "POST" and path in {"/v1/chat/completions", "/v1/completions"}:
            try:
                return self._generate(connection, request, request_id, chat=path == "/v1/chat/completions")
            except (msgspec.DecodeError, UsageError) as error:
                connection.send(wire.answer(400, wire.error(400, str(error)), request_id))
        elif path == "/health":
            connection.send(wire.answer(200, None, request_id))
        elif path == "/v1/models":
            connection.send(wire.answer(200, wire.models(self._model), request_id))
        else:
            connection.send(wire.answer(404, {"detail": "Not Found"}, request_id))
        connection.finish("end")
        return None

    def _generate(
        self, connection: Connection, request: Request, request_id: str, *, chat: bool
    ) -> Callable[[str], None] | None:
        body = msgspec.json.decode(request.body)
        if not isinstance(body, dict):
            raise UsageError("the body is not an object")
        behaviour = self._behaviour_of(request, body)
        asked = body.get("model", self._model)
        if asked != self._model != ANY_MODEL and behaviour.status == 200:
            connection.send(wire.answer(404, wire.no_model(asked, self._model), request_id))
            connection.finish("end")
            return None
        tokens = behaviour.output_tokens or _asked_tokens(body)
        prompt_tokens = wire.count_words(body)
        stream = body.get("stream") is True
        speech = wire.Speech(
            request_id,
            self._model,
            chat=chat,
            prompt_tokens=prompt_tokens,
            continuous_usage=behaviour.usage and _option(body, "continuous_usage_stats"),
            letter=b"x" if 0 <= behaviour.garble_from <= self._slots.open else b"t",
        )
        if stream and not _option(body, "include_usage"):
            behaviour = changed(behaviour, {"usage": False})
        if behaviour.status != 200:
            steps = refusal(behaviour, request_id)
        else:
            steps = (streamed if stream else whole)(behaviour, speech, tokens, request_id, f"{self._seed}:{request_id}")
        truth = Truth(request_id, request.arrived_s, request.read_s, request.arrived_s, stream, prompt_tokens, tokens)
        exchange = Exchange(connection, steps, truth, deadlines=self._deadlines, slots=self._slots, log=self._log)
        self._slots.enter(exchange)
        return exchange.cancel

    def _behaviour_of(self, request: Request, body: Mapping[str, object]) -> Behaviour:
        """Return the server's behaviour with what the request's header X-Golden or its field `golden` changes."""
        header = request.headers.get("x-golden")
        wanted = msgspec.json.decode(header) if header else body.get("golden")
        if wanted is None:
            return self._behaviour
        if not isinstance(wanted, dict):
            raise UsageError("golden is not an object of behaviours")
        return changed(self._behaviour, wanted)


def _asked_tokens(body: Mapping[str, object]) -> int:
    asked = body.get("max_completion_tokens") or body.get("max_tokens") or 16
    if not isinstance(asked, int) or asked < 1:
        raise UsageError("max_tokens is not a positive integer")
    return asked


def _option(body: Mapping[str, object], name: str) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get(name) is True


async def _serve(options: argparse.Namespace, behaviour: Behaviour) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    code = 0

    def broken(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        nonlocal code
        code = 1  # a server of known timing must not limp on
        print(f"golden: {context.get('exception') or context['message']}", file=sys.stderr, flush=True)
        stopped.set()

    loop.set_exception_handler(broken)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        loop.add_reader(0, stopped.set)  # readable: whoever held the other end is gone
    else:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    golden = Golden(behaviour, TruthLog(options.log), slots=options.slots, model=options.model, seed=options.seed)
    listener = socket.socket(fileno=options.fd) if options.fd is not None else _bound(options.host, options.port)
    listener.listen(4096)
    golden.listen(listener)
    host, port = listener.getsockname()[:2]
    ready = {"ready": True, "port": port, "base_url": f"http://{host}:{port}/v1", "pid": os.getpid()}
    print(json.dumps(ready), flush=True)
    gc.freeze()
    gc.disable()  # a collection in the middle would be a late token
    await stopped.wait()
    golden.close()
    return code


def _bound(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hxp_harness.certify.golden", description=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--fd", type=int, help="an inherited, bound socket")
    where.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--log", type=Path, default=Path("/dev/null"), help="where the truth is appended")
    parser.add_argument("--ttft-s", type=float, default=Behaviour().ttft_s)
    parser.add_argument("--itl-s", type=float, default=Behaviour().itl_s)
    parser.add_argument("--jitter-s", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slots", type=int, default=0, help="requests at a time, the rest queue; 0 is no bound")
    parser.add_argument("--model", default="golden", help="its name; * answers to every name")
    parser.add_argument("--behaviour", default="{}", help="more of Behaviour's fields, as a JSON object")
    options = parser.parse_args(argv)
    try:
        behaviour = changed(
            changed(Behaviour(), {"ttft_s": options.ttft_s, "itl_s": options.itl_s, "jitter_s": options.jitter_s}),
            json.loads(options.behaviour),
        )
        return asyncio.run(_serve(options, behaviour))
    except UsageError as error:
        print(f"golden: {error}", file=sys.stderr)
    except (OSError, ValueError) as error:
        print(f"golden: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
