"""The base of every service's settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Unknown keys are errors: a misspelt limit must never be a limit that silently does not hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)
