"""Asks one server over HTTP and returns answers as they came, bytes included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx

from hxp_harness.target import Target

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What is inside of `{"error": ...}`."""
        assert list(self.json) == ["error"], self.text
        inside: dict[str, Any] = self.json["error"]
        return inside

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON of each event of a stream before [DONE]; fails where the framing is wrong."""
        assert self.status == 200, self.text
        assert self.body.endswith(b"\n\n"), self.body[-80:]
        lines = self.body[:-2].split(b"\n\n")
        assert all(line.startswith(b"data: ") for line in lines), lines
        assert lines[-1] == b"data: [DONE]", lines[-1]
        return [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]

    @property
    def usage(self) -> dict[str, Any]:
        """The usage of a whole answer, or of the last event of a stream."""
        assert self.status == 200, self.text
        found: dict[str, Any] = (self.events[-1] if self.is_stream else self.json)["usage"]
        return found

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def choice(self, index: int = 0) -> dict[str, Any]:
        """Return one choice of a whole answer."""
        assert self.status == 200, self.text
        [found] = [choice for choice in self.json["choices"] if choice["index"] == index]
        return dict(found)


class Server:
    """One server under test: `target` says where, `engine` what it calls itself (sim, vllm or unknown)."""

    def __init__(self, target: Target, *, timeout_s: float = 60.0) -> None:
        self.target = target
        self.root = target.base_url.removesuffix("/v1")
        self._client = httpx.Client(base_url=self.root, timeout=timeout_s, trust_env=False)
        self._key = {"authorization": f"Bearer {target.api_key}"} if target.api_key else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, key: bool = True
    ) -> Answer:
        """Send `body` as it is; with the key unless told otherwise."""
        all_headers = {**(self._key if key else {}), **(headers or {})}
        got = self._client.request(method, path, content=body or None, headers=all_headers)
        return Answer(got.status_code, {name.lower(): value for name, value in got.headers.items()}, got.content)

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
        """Send `body` as JSON. Where it is an object without `model`, the server's own model stays unnamed."""
        raw = json.dumps(body).encode("utf-8", "surrogatepass")
        return self.send("POST", path, raw, {**_JSON, **(headers or {})})

    def chat(self, text: str = "Say something about the weather.", /, **fields: object) -> Answer:
        """Ask for a chat completion of one user's message, greedily, of 8 tokens unless `fields` say otherwise."""
        return self.post(CHAT, self._body(fields, messages=[{"role": "user", "content": text}]))

    def complete(self, prompt: object = "Hello world", /, **fields: object) -> Answer:
        """Ask for a text completion, greedily, of 8 tokens unless `fields` say otherwise."""
        return self.post(COMPLETIONS, self._body(fields, prompt=prompt))

    def ask(self, path: str, **fields: object) -> Answer:
        """Ask a chat or a text completion, as `path` says, for the same."""
        return self.chat(**fields) if path == CHAT else self.complete(**fields)

    @contextmanager
    def opened(self, path: str, **fields: object) -> Iterator[Iterator[bytes]]:
        """Open a stream, give its bytes as they come, and hang up at the end of the block."""
        prompt: dict[str, object] = {"messages": [{"role": "user", "content": "Go on."}]}
        body = self._body(fields, **(prompt if path == CHAT else {"prompt": "Go on."})) | {"stream": True}
        with self._client.stream("POST", path, json=body, headers={**_JSON, **self._key}) as response:
            assert response.status_code == 200, response.read()
            yield response.iter_raw()

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return every sample of /metrics by its name and labels."""
        from prometheus_client.parser import text_string_to_metric_families

        page = self.get("/metrics")
        assert page.status == 200, page.text
        families = text_string_to_metric_families(page.text)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples called `name` that have `labels`; fails where there is none."""
        found = [value for (own, has), value in self.samples().items() if own == name and labels.items() <= set(has)]
        assert found, f"no sample {name} {labels}"
        return sum(found)

    def _body(self, fields: Mapping[str, object], **prompt: object) -> dict[str, object]:
        return {"model": self.target.api_model, **prompt, "max_tokens": 8, "temperature": 0} | dict(fields)
