from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.gateway.programs import CannotRun, Load, Programs, ask, backend, compiled

_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_FEW = Load(connections=2, warm_s=0.0, seconds=10.0, requests=4)


def _post(port: int, asked: dict[str, object]) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(asked))
        reply = connection.getresponse()
        return reply, reply.read()


def _events(body: bytes) -> list[bytes]:
    parts = body.split(b"\n\n")
    assert parts.pop() == b""
    assert all(part.startswith(b"data: ") for part in parts)
    return [part.removeprefix(b"data: ") for part in parts]


@contextmanager
def _canned(answer: Callable[[int, bytes], list[bytes]]) -> Iterator[int]:
    """Serve on a free port: what the n-th connection gets for its n-th request, one write a part; b"" closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        count = 0

        def serve(sock: socket.socket) -> None:
            nonlocal count
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with sock:
                while (request := _request(sock)) is not None:
                    parts = answer(count, request)
                    count += 1
                    for part in parts:
                        if not part:
                            return
                        sock.sendall(part)

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _request(sock: socket.socket) -> bytes | None:
    held = b""
    while b"\r\n\r\n" not in held:
        try:
            more = sock.recv(65536)
        except OSError:
            return None
        if not more:
            return None
        held += more
    head, _, body = held.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += sock.recv(65536)
    return head


def _whole(text: str, status: str = "200 OK") -> bytes:
    body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def _stream(indices: list[int], *, done: bool = True) -> bytes:
    now_ns = time.monotonic_ns()
    events = [b'data: {"content":"@%019d.%06d@"}\n\n' % (now_ns, index) for index in indices]
    events += [b"data: [DONE]\n\n"] if done else []
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def test_backend_answers_whole(programs: Programs) -> None:
    """A whole answer is a chat completion with a text of the size asked for."""
    with backend(programs) as served:
        served.set(answer_bytes=30)
        reply, body = _post(served.port, {"model": "m", "messages": []})
    answer = json.loads(body)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert answer["choices"][0]["message"]["content"] == f"@{_ALPHABET}abcd@"
    assert answer["usage"]["total_tokens"] == 80


def test_backend_sends_a_large_answer_to_a_slow_reader(programs: Programs) -> None:
    """An answer larger than any socket buffer arrives whole when its reader takes its time."""
    with backend(programs) as served:
        served.set(answer_bytes=30_000_000)
        _, body = _post(served.port, {})
        _, again = _post(served.port, {})
    assert json.loads(body)["choices"][0]["message"]["content"].strip("@") == (_ALPHABET * 1_200_000)[:30_000_000]
    assert body == again


@pytest.mark.parametrize("usage", [False, True])
def test_backend_streams(programs: Programs, usage: bool) -> None:
    """Events come in order, stamped, one gap apart and not before, with a usage summary only if asked for."""
    asked: dict[str, object] = {"model": "m", "stream": True}
    with backend(programs) as served:
        served.set(events=5, gap_us=20_000)
        began_ns = time.monotonic_ns()
        reply, body = _post(served.port, asked | ({"stream_options": {"include_usage": True}} if usage else {}))
    *events, done = _events(body)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert done == b"[DONE]"
    if usage:
        assert json.loads(events.pop())["usage"]["completion_tokens"] == 5
    last = json.loads(events.pop())["choices"][0]
    assert last == {"index": 0, "delta": {}, "finish_reason": "length"}
    stamps, indices = zip(
        *(json.loads(e)["choices"][0]["delta"]["content"].strip("@").split(".") for e in events), strict=True
    )
    assert [int(index) for index in indices] == [0, 1, 2, 3, 4]
    assert int(stamps[0]) >= began_ns
    assert int(stamps[4]) - int(stamps[0]) >= 80_000_000
    assert all(int(later) > int(earlier) for earlier, later in pairwise(stamps))


def test_client_and_backend_agree(programs: Programs, tmp_path: Path) -> None:
    """Whole answers of any size and streams are found right by the client, every one."""
    with backend(programs) as served:
        for size in (0, 1, 1024, 200_000):
            served.set(answer_bytes=size)
            seen = ask(programs, served.port, replace(_FEW, answer_bytes=size, body_bytes=100_000), tmp_path)
            assert (seen.requests, seen.failed, seen.latency_us["count"]) == (4, 0, 4)
        served.set(events=50, gap_us=500)
        seen = ask(programs, served.port, replace(_FEW, events=50), tmp_path)
    assert (seen.requests, seen.events, seen.failed, seen.first_error) == (4, 200, 0, "")
    assert (seen.first_event_us["count"], seen.event_delay_us["count"]) == (4, 200)


@pytest.mark.parametrize("step", [1, 2, 7, 100])
def test_client_reads_answers_split_anywhere(programs: Programs, tmp_path: Path, step: int) -> None:
    """However its bytes are cut, a stream is read to its end and a whole answer is compared in full."""

    def cut(_count: int, _head: bytes) -> list[bytes]:
        whole = _stream([0, 1, 2])
        return [whole[at : at + step] for at in range(0, len(whole), step)]

    with _canned(cut) as port:
        seen = ask(programs, port, replace(_FEW, events=3), tmp_path)
    assert (seen.requests, seen.events, seen.failed) == (4, 12, 0)


_WRONG: dict[str, tuple[int, str, list[bytes]]] = {
    "503": (0, "status", [_whole("@abc@", "503 Service Unavailable")]),
    "other text": (0, "body", [_whole("@abd@")]),
    "shorter text": (0, "body", [_whole("@ab@")]),
    "no text": (0, "body", [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]),
    "more than its length": (0, "framing", [_whole("@abc@") + b"x"]),
    "no length": (0, "framing", [b"HTTP/1.1 200 OK\r\n\r\n"]),
    "cut off": (0, "closed", [_whole("@abc@")[:-3], b""]),
    "an event lost": (3, "body", [_stream([0, 2])]),
    "an event twice": (3, "body", [_stream([0, 1, 1, 2])]),
    "too few events": (3, "body", [_stream([0, 1])]),
    "too many events": (3, "body", [_stream([0, 1, 2, 3])]),
    "no [DONE]": (3, "body", [_stream([0, 1, 2], done=False)]),
    "a stream broken off": (3, "closed", [_stream([0, 1, 2])[:-40], b""]),
}


@pytest.mark.parametrize("name", _WRONG)
def test_client_sees_what_is_wrong(programs: Programs, tmp_path: Path, name: str) -> None:
    """An answer that is not the right one is an error of its kind, is shown once, and counts as no request."""
    events, kind, parts = _WRONG[name]
    with _canned(lambda _count, _head: parts) as port:
        seen = ask(programs, port, replace(_FEW, events=events, answer_bytes=3), tmp_path)
    assert seen.errors == {**dict.fromkeys(seen.errors, 0), kind: 4}
    assert (seen.requests, seen.latency_us["count"]) == (0, 0)
    assert seen.first_error.startswith(f"client: first error, {kind}")


def test_client_gives_up_on_what_never_answers(programs: Programs, tmp_path: Path) -> None:
    """Requests without an answer are counted as unfinished."""
    with _canned(lambda _count, _head: [b"HTTP/1.1 200 OK\r\n"]) as port:
        seen = ask(programs, port, Load(connections=3, warm_s=0.0, seconds=0.1, drain_s=0.1), tmp_path)
    assert seen.errors["unfinished"] == 3


def test_client_goes_on_after_a_closed_idle_connection(programs: Programs, tmp_path: Path) -> None:
    """A server that closes behind each answer costs a new connection, not an error."""
    reply = _whole("@abc@").replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    with _canned(lambda _count, _head: [reply, b""]) as port:
        seen = ask(programs, port, replace(_FEW, answer_bytes=3), tmp_path)
    assert (seen.requests, seen.failed) == (4, 0)


def test_rate_is_kept_and_latency_counts_from_when_it_was_due(programs: Programs, tmp_path: Path) -> None:
    """At a fixed rate that one connection cannot carry, the queue's time is part of the latency."""

    def slow(_count: int, _head: bytes) -> list[bytes]:
        time.sleep(0.02)  # the slowness of the server is what is looked at
        return [_whole("@abc@")]

    with _canned(slow) as port:
        load = Load(connections=1, rate_rps=100, warm_s=0.0, seconds=1.0, requests=20, answer_bytes=3)
        seen = ask(programs, port, load, tmp_path)
    assert (seen.requests, seen.failed) == (20, 0)
    assert seen.latency_us["max"] >= 19 * 10_000  # 20 ms a request, due every 10 ms
    with backend(programs) as served:
        seen = ask(programs, served.port, Load(connections=8, rate_rps=500, warm_s=0.2, seconds=0.8), tmp_path)
    assert seen.requests in range(499, 502)
    assert seen.latency_us["count"] == pytest.approx(400, abs=20)


def test_keys_take_turns(programs: Programs, tmp_path: Path) -> None:
    """Each request shows the next key."""
    heads: list[bytes] = []

    def note(_count: int, head: bytes) -> list[bytes]:
        heads.append(head)
        return [_whole("@abc@")]

    with _canned(note) as port:
        load = replace(_FEW, connections=1, requests=5, answer_bytes=3, keys=(b"key-a", b"key-b"))
        ask(programs, port, load, tmp_path)
    shown = [head.rpartition(b"Bearer ")[2] for head in heads]
    assert shown == [b"key-a", b"key-b", b"key-a", b"key-b", b"key-a"]


def test_body_has_the_size_asked_for() -> None:
    """A request's body is JSON of exactly the size asked for, streaming or not."""
    for size in (200, 1024, 131_072):
        for events in (0, 5):
            body = Load(body_bytes=size, events=events).body()
            assert len(body) == size
            assert json.loads(body).get("stream", False) is bool(events)


def test_client_says_what_it_cannot_do(programs: Programs, tmp_path: Path) -> None:
    """A port where nobody listens, and an option that there is not, are errors with words."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(CannotRun, match="cannot connect"):
        ask(programs, port, _FEW, tmp_path)
    done = subprocess.run([programs.client, "--speed", "9"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "client: what is --speed?\n")


def test_programs_are_compiled_once(programs: Programs) -> None:
    """Compiling again the same sources gives the same files, untouched."""
    made_ns = programs.client.stat().st_mtime_ns
    assert compiled(programs.client.parents[1]) == programs
    assert programs.client.stat().st_mtime_ns == made_ns


def test_no_compiler_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a C compiler the error names the package to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRun, match="apt-get install gcc"):
        compiled(tmp_path)
