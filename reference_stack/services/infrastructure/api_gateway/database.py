"""The database as the gateway is told of it: a connection URL."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.postgres import PostgresDatabase

# One connection writes usage rows; the others look keys up that are not remembered.
_CONNECTIONS = 8


def database_at(dsn: str) -> PostgresDatabase:
    """Return the database at postgresql://USER[:PASSWORD]@HOST[:PORT]/NAME; it connects when first used.

    Raises SettingsError, which never repeats the URL: it may hold a password.
    """
    try:
        settings = _settings(dsn)
    except ValueError:
        hint = "for example: postgresql://citadel@127.0.0.1:5433/citadel_ai"
        raise SettingsError("api_gateway: setting 'database_dsn' is not a PostgreSQL URL", hint=hint) from None
    return PostgresDatabase(settings)


def address_of(dsn: str) -> str:
    """Return where a database is and what it is called, without user and password; `database_at` took the URL."""
    settings = _settings(dsn)
    return f"{settings.host}:{settings.port}/{settings.database}"


def _settings(dsn: str) -> DatabaseSettings:
    parts = urlsplit(dsn)
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not parts.username:
        raise ValueError("not a PostgreSQL URL")
    user = unquote(parts.username)
    return DatabaseSettings.model_validate(
        {
            "backend": "external",
            "host": parts.hostname,
            "port": parts.port or 5432,
            "database": unquote(parts.path.removeprefix("/")) or user,
            "user": user,
            "password": unquote(parts.password or ""),
            "connection_pool_size": _CONNECTIONS,
        }
    )
