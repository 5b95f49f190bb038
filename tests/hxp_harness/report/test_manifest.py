"""Facts about the machine and the installation."""

from __future__ import annotations

import platform

from hxp_harness.report.manifest import environment


def test_every_fact_is_a_short_text() -> None:
    """What a run was made with is known, or said to be not known."""
    facts = environment()
    assert facts["python"] == platform.python_version()
    assert int(facts["cores"]) >= 1
    assert "numpy==" in facts["packages"]
    for fact in facts.values():
        assert 0 < len(fact) < 500
