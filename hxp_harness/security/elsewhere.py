"""Requests that name another server, and whether the one that was asked goes there (OWASP API7:2023)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hxp_harness.security.case import Case, Expected, key_header, request_of, sound_body, sound_bytes
from hxp_harness.target import Target

# What a sound message may carry beside its text, by vLLM's and OpenAI's schemas; `~` stands for the URL.
CONTENTS: dict[str, str] = {
    "image": '{"type": "image_url", "image_url": {"url": "~"}}',
    "image as a text": '{"type": "image_url", "image_url": "~"}',
    "image with its size": '{"type": "image_url", "image_url": {"url": "~", "detail": "high"}}',
    "audio": '{"type": "audio_url", "audio_url": {"url": "~"}}',
    "video": '{"type": "video_url", "video_url": {"url": "~"}}',
    "audio of input": '{"type": "input_audio", "input_audio": {"data": "~", "format": "wav"}}',
    "image of input": '{"type": "input_image", "image_url": "~"}',
    "file": '{"type": "file", "file": {"file_data": "~", "file_id": "~", "filename": "~"}}',
    "text": '{"type": "text", "text": "![image](~) <img src=~> ~"}',
}
FIELDS: dict[str, str] = {
    "model": '"~"',
    "user": '"~"',
    "tools": '[{"type": "function", "function": {"name": "f", "description": "~", "parameters": {"$ref": "~"}}}]',
    "response_format": '{"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "~"}}}',
    "guided_grammar": '"%import ~"',
    "structured_outputs": '{"json": {"$ref": "~"}}',
    "chat_template": "\"{% include '~' %}\"",
    "chat_template_kwargs": '{"documents": ["~"]}',
    "mm_processor_kwargs": '{"url": "~"}',
    "documents": '[{"url": "~"}]',
    "web_search_options": '{"user_location": {"url": "~"}}',
    "kv_transfer_params": '{"do_remote_prefill": true, "remote_host": "127.0.0.1", "remote_port": @}',
    "metadata": '{"webhook": "~", "callback_url": "~"}',
    "base_url": '"~"',
    "api_base": '"~"',
    "lora_path": '"~"',
}
HEADERS: dict[str, bytes] = {
    "forwarded host": b"x-forwarded-host: 127.0.0.1:@",
    "forwarded": b"forwarded: host=127.0.0.1:@;proto=http",
    "forwarded server": b"x-forwarded-server: 127.0.0.1:@",
    "original URL": b"x-original-url: ~",
    "rewritten URL": b"x-rewrite-url: ~",
    "upstream": b"x-upstream-url: ~",
    "endpoint": b"x-gateway-destination-endpoint: 127.0.0.1:@",
    "referrer": b"referer: ~",
    "callback": b"callback-url: ~",
    "profile": b"x-wap-profile: ~",
    "trace": b"tracestate: url=~",
}
# Routes of vLLM and of gateways that take an address; nobody who asks for chat should reach them.
SIDE_ROUTES: dict[str, str] = {
    "POST load_lora_adapter": '{"lora_name": "a", "lora_path": "~"}',
    "POST audio/transcriptions": '{"model": "a", "file": "~"}',
    "POST files": '{"url": "~"}',
    "POST model/new": '{"model_name": "a", "litellm_params": {"api_base": "~"}}',
    "GET proxy?url=~": "",
}


@dataclass(slots=True)
class Canary:
    """A server that nobody has a reason to ask; `heard` are the paths that were asked for, in order."""

    port: int
    heard: list[str] = field(default_factory=list)

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.port}/{number}"


@contextmanager
def canary() -> Iterator[Canary]:
    """Listen on a free port of 127.0.0.1 while the block runs."""
    listening = Canary(0)

    class Hears(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            line = self.rfile.readline(4096).decode("latin-1")
            listening.heard.append(line.split(" ")[1] if line.count(" ") > 1 else "")
            self.wfile.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Hears) as server:
        listening.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield listening
        finally:
            server.shutdown()
            thread.join()


def cases(target: Target, listening: Canary) -> list[Case]:
    """Return every place in which an address may stand; the number of a case is the path of its URL."""
    numbered: list[Case] = []

    def said(text: str) -> str:
        return text.replace("~", listening.url(len(numbered))).replace("@", str(listening.port))

    def add(name: str, body: str, *headers: bytes, route: str = "POST chat/completions", host: bytes = b"") -> None:
        lines = (*key_header(target), *headers)
        build = partial(request_of, headers=lines, body=body.encode(), route=route, host=host)
        numbered.append(Case(f"address: {name}", Expected.TOLERATED, build, ()))

    for name, content in CONTENTS.items():
        messages = [{"role": "user", "content": [json.loads(said(content))]}]
        add(f"content {name}", json.dumps(sound_body(target) | {"messages": messages}))
    for name, value in FIELDS.items():
        add(f"field {name}", json.dumps(sound_body(target) | {name: json.loads(said(value))}))
    sound = sound_bytes(target).decode()
    for name, line in HEADERS.items():
        add(f"header {name}", sound, said(line.decode()).encode())
    for route, body in SIDE_ROUTES.items():
        add(f"route {route.partition('?')[0]}", said(body), route=said(route))
    add("host", sound, host=f"127.0.0.1:{listening.port}".encode())
    return numbered


def contacts(found: list[Case], listening: Canary) -> list[tuple[str, str]]:
    """Return what the canary heard as (case, problem); what came without a number is named by its path."""
    told = []
    for path in dict.fromkeys(listening.heard):
        number = path.lstrip("/")
        known = number.isdecimal() and int(number) < len(found)
        told.append((found[int(number)].name if known else "address", f"the server asked another one for {path!r}"))
    return told
