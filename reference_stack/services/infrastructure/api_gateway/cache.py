"""The cache as the gateway is told of it: a connection URL."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.integration.cache.client import RedisCache, connect


def cache_at(url: str, answer_s: float) -> RedisCache:
    """Return the cache at redis://[:PASSWORD@]HOST[:PORT][/INDEX]; a call takes `answer_s` at most.

    Raises SettingsError, which never repeats the URL: it may hold a password.
    """
    try:
        return connect(_settings(url, answer_s))
    except ValueError:
        hint = "for example: redis://127.0.0.1:6379/0"
        raise SettingsError("api_gateway: setting 'cache_url' is not a Redis URL", hint=hint) from None


def _settings(url: str, answer_s: float) -> CacheSettings:
    parts = urlsplit(url)
    if parts.scheme != "redis" or not parts.hostname:
        raise ValueError("not a Redis URL")
    return CacheSettings.model_validate(
        {
            "backend": "external",
            "host": parts.hostname,
            "port": parts.port or 6379,
            "index": int(parts.path.strip("/") or 0),
            "password": unquote(parts.password or ""),
            "connect_s": answer_s,
            "command_s": answer_s,
        }
    )
