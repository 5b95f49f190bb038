"""What stands behind the seams where nothing more is configured: no limits, one backend a model, no cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.services.infrastructure.api_gateway.asked import Asked
from reference_stack.services.infrastructure.api_gateway.backend import Backend
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.ports import Ended


class Unlimited:
    """Grants everything; is its own grant, since there is nothing to remember."""

    headers: Sequence[tuple[bytes, bytes]] = ()

    async def take(self, _key: ApiKey, _model: str, _estimated_tokens: int) -> Unlimited:
        return self

    def settle(self, tokens: int) -> None:
        pass


class _PlainLease:
    """Says nothing to anybody of how the backend did, so one serves all requests."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def heard(self) -> None:
        pass

    def end(self, how: Ended, status: int = 0) -> None:
        pass


class OneBackend:
    """Each model has one backend; nothing is tried again, for there is nowhere else to try."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._leases = {model: _PlainLease(backend) for model, backend in backends.items()}

    async def pick(self, _call: Call, asked: Asked, _tried: Sequence[Backend]) -> _PlainLease:
        return self._leases[asked.model]

    def again(self, _call: Call, _asked: Asked, _tried: Sequence[Backend], _how: Ended, _status: int) -> bool:
        return False


class NoAnswers:
    """Keeps nothing."""

    def wants(self, _call: Call, _asked: Asked) -> bool:
        return False

    async def find(self, _call: Call, _asked: Asked) -> bytes | None:
        return None

    async def keep(self, _call: Call, _asked: Asked, _answer: bytes) -> None:
        pass
