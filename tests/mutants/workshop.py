"""Opens what all mutants are made of: a simulated engine with a key, on a real socket."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hxp_harness.target import Target
from reference_stack.schemas.configuration.model import ModelSettings
from tests.mutants.middleman import in_front_of
from tests.mutants.mutant import Workshop
from tests.mutants.wire import KEY, KEY_VARIABLE
from tests.reference_stack.ai_models.conftest import serving

MODEL = "hermes"


@contextmanager
def opened(*, by_command: bool) -> Iterator[Workshop]:
    """Yield a workshop; its engine and its files go with it."""
    os.environ[KEY_VARIABLE] = KEY
    settings = ModelSettings(service=MODEL, speed=2.0, api_key_env=KEY_VARIABLE, max_model_len=2048, kv_tokens=16384)
    with serving(settings) as sim, tempfile.TemporaryDirectory() as folder:
        root = f"http://127.0.0.1:{sim.port}"
        target = Target(f"{root}/v1", MODEL, KEY, f"{root}/metrics")
        yield Workshop(lambda change: in_front_of(target, change), Path(folder), by_command)
