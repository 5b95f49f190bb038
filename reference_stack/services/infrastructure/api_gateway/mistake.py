"""What is said of a mistake of the gateway itself: to the client nothing but that, to the log where it was made."""

from __future__ import annotations

import logging
import traceback

from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

log = logging.getLogger(__name__)


def log_mistake(error: BaseException, call: Call) -> None:
    """Log where `error` was raised; its message may hold what the client sent, and is not logged."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    log.error("request %s: %s at %s:%s", call.id, type(error).__name__, frame.filename, frame.lineno)


def our_mistake() -> Refusal:
    return Refusal(500, "internal_error", "the gateway made a mistake")
