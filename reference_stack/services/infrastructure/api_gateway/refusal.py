"""A request that the gateway does not serve, as OpenAI's clients expect to be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

_LONGEST_NAME = 64
JSON = b"application/json"


class Refusal(Exception):
    """Answer with `status` and an OpenAI-shaped error; `message` is ours and never repeats a value of the request.

    `retry_after_s` asks the client to come back; `close` ends the connection, for a body that was not read; `more` are
    headers that go with it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        close: bool = False,
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.close = close
        self._more = more

    @property
    def kind(self) -> str:
        """OpenAI's word for the class of error."""
        return _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    def body(self, request_id: str) -> bytes:
        """Return the JSON body, under 8 KiB."""
        return msgspec.json.encode(
            {
                "error": {
                    "message": self.message,
                    "type": self.kind,
                    "param": self.param,
                    "code": self.code,
                    "request_id": request_id,
                }
            }
        )

    def headers(self) -> Mapping[bytes, bytes]:
        """Return the headers that belong to this refusal, beside its type and length."""
        headers = dict(self._more)
        if self.status == 401:
            headers[b"www-authenticate"] = b"Bearer"
        if self.retry_after_s is not None:
            headers[b"retry-after"] = str(self.retry_after_s).encode()
        if self.close:
            headers[b"connection"] = b"close"
        return headers

    def event(self, request_id: str) -> bytes:
        """Return the same error as one event of a stream that had begun."""
        return b"data: " + self.body(request_id) + b"\n\n"


_KINDS: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def shown(name: str) -> str:
    """Return a field's name as an error may show it: printable and at most 64 characters, else a placeholder."""
    if len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable():
        return name
    return "(a name that is too long or not plain ASCII)"


def bad_request(code: str, message: str, param: str | None = None) -> Refusal:
    return Refusal(400, code, message, param=param)


def stopping() -> Refusal:
    """Return what a request is told whose gateway ends."""
    return Refusal(503, "shutting_down", "the gateway is being stopped", retry_after_s=1)


def overloaded(message: str) -> Refusal:
    return Refusal(503, "overloaded", message, retry_after_s=1)


def unavailable(message: str) -> Refusal:
    """Return what a request is told that may come back at once: nothing was done for it, and not for want of trying."""
    return Refusal(503, "model_unavailable", message, retry_after_s=1)


def bad_upstream(message: str = "the model's server did not answer properly") -> Refusal:
    return Refusal(502, "upstream_failed", message)


def upstream_timeout() -> Refusal:
    return Refusal(504, "upstream_timeout", "the model's server did not finish in time")
