from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gateway.programs import CannotRun, Programs, compiled, compiler


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    try:
        compiler()
    except CannotRun as error:
        pytest.skip(str(error))  # no C compiler here; the error says how to get one
    return compiled(Path(tmp_path_factory.mktemp("programs")))
