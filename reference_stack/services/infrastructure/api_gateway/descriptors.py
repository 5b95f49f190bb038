"""How many connections this process has descriptors for: one too many is told so, and not closed without a word."""

from __future__ import annotations

import logging
import resource

from reference_stack.schemas.configuration.api_gateway import LimitSettings

log = logging.getLogger(__name__)

# For files, database, cache and probes, and for connections that are being told that they are too many.
SPARE = 256


def fitted(limits: LimitSettings) -> LimitSettings:
    """Return `limits` as far as this process has descriptors for them; its soft limit is raised if need be.

    Without any left clients could not be accepted, and a model's server that cannot be connected to would look dead.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + limits.in_flight + SPARE
    if soft < wanted and soft != resource.RLIM_INFINITY:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most = wanted if soft == resource.RLIM_INFINITY else soft
    found = within(limits, most)
    if found is not limits:
        log.warning(
            "%d descriptors allow connections: %d and in_flight: %d, fewer than the settings; ulimit -n %d allows all",
            most,
            found.connections,
            found.in_flight,
            wanted,
        )
    return found


def within(limits: LimitSettings, descriptors: int) -> LimitSettings:
    """Return `limits` cut to so many descriptors: a connection takes one, and a request in flight another."""
    room = max(descriptors - SPARE, 2)
    if limits.connections + limits.in_flight <= room:
        return limits
    in_flight = min(limits.in_flight, room // 2)
    return limits.model_copy(update={"in_flight": in_flight, "connections": min(limits.connections, room - in_flight)})
