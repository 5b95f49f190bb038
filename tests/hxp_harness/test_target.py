"""A target is a URL that ends in /v1, and its key stays out of what is printed."""

import pytest

from hxp_harness.errors import UsageError
from hxp_harness.target import Target, check_base_url


@pytest.mark.parametrize("text", ["http://127.0.0.1:8000/v1", "https://llm.example/api/v1/"])
def test_a_base_url_is_taken(text: str) -> None:
    """Any http(s) URL that ends in /v1 will do; a last slash does not matter."""
    assert check_base_url(text) == text.rstrip("/")


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("127.0.0.1:8000/v1", "is not an http", "http://127.0.0.1:8000/v1"),
        ("ftp://host/v1", "is not an http", "--target"),
        ("http://", "is not an http", "--target"),
        ("http://host:8000", "does not end in /v1", "--target http://host:8000/v1"),
        ("http://host:8000/v1/chat/", "does not end in /v1", "/v1"),
    ],
)
def test_another_url_is_refused(text: str, says: str, hint: str) -> None:
    """What is no base URL is refused with the one that was probably meant."""
    with pytest.raises(UsageError) as refusal:
        check_base_url(text)

    assert says in refusal.value.message
    assert hint in refusal.value.hint


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("http://127.0.0.1:8000/v1", "127.0.0.1", 8000, False),
        ("http://llm.example/v1", "llm.example", 80, False),
        ("https://llm.example/v1", "llm.example", 443, True),
        ("https://[::1]:8443/v1", "::1", 8443, True),
    ],
)
def test_where_it_listens(url: str, host: str, port: int, *, tls: bool) -> None:
    """Host, port and TLS come from the URL, with the scheme's own port where none is named."""
    target = Target(url, "m")

    assert (target.host, target.port, target.tls) == (host, port, tls)


def test_the_key_is_not_shown() -> None:
    """A target can be logged without giving its key away."""
    assert "secret" not in repr(Target("http://h/v1", "m", api_key="secret"))  # pragma: allowlist secret
