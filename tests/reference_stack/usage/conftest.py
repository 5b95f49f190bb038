"""The PostgreSQL of the integration tests."""

from __future__ import annotations

from tests.reference_stack.integration.conftest import postgres

__all__ = ["postgres"]
