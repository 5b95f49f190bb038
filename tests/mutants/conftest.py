"""The conformance suite's marker, for its tests that are called from here."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vllm: what vLLM answers beyond OpenAI's API")
