"""What stands behind the seams where nothing more is configured: no limits, no cache."""

from __future__ import annotations

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.services.infrastructure.api_gateway.asked import Asked
from reference_stack.services.infrastructure.api_gateway.call import Call


class Unlimited:
    """Grants everything; is its own grant, since there is nothing to remember."""

    lines = b""

    def take_at_once(self, _key: ApiKey, _estimated_tokens: int) -> Unlimited:
        return self

    async def take(self, _key: ApiKey, _estimated_tokens: int) -> Unlimited:
        return self

    def settle(self, tokens: int) -> None:
        pass


class NoAnswers:
    """Keeps nothing."""

    def wants(self, _call: Call, _asked: Asked) -> bool:
        return False

    async def find(self, _call: Call, _asked: Asked) -> bytes | None:
        return None

    async def keep(self, _call: Call, _asked: Asked, _answer: bytes) -> None:
        pass
