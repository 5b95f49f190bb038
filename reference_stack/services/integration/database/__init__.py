"""The database service: API keys and the usage log in PostgreSQL."""

from reference_stack.services.integration.database.app import create_app

__all__ = ["create_app"]
