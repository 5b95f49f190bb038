"""What is asked for on the command line becomes one profile and one target, or a clear refusal."""

from pathlib import Path
from typing import Any

import pytest

from hxp_harness.errors import UsageError
from hxp_harness.profile import find_profile
from hxp_harness.request import PerfRequest, refuse_without_hardware, resolve_profile, target_from_url


def test_a_named_profile_comes_as_it_stands() -> None:
    """Without options the profile is the file's, to the letter."""
    assert resolve_profile(PerfRequest(profile_name="mixtral")) == find_profile("mixtral")


def test_quick_windows_hold_whole_sessions(tmp_path: Path) -> None:
    """Fewer requests are still a whole number of sessions."""
    file = tmp_path / "talk.yaml"
    file.write_text(
        "{schema: 1, name: talk, title: t, service: mixtral, gates: [ttft p95 <= 1 s], replicates: {requests: 2100},"
        " contract: {prompt_tokens: 8, output_tokens: 4, rate: 10 rps, cache: any, sessions: {turns: 6, think: 1 s}}}"
    )
    assert resolve_profile(PerfRequest(profile_file=file, quick=True)).replicates.requests == 1602


def test_options_replace_what_they_name() -> None:
    """Each option changes its own value and nothing else; a changed rate is visible in the title."""
    profile = resolve_profile(
        PerfRequest(profile_name="phi3", replicates=3, requests=100, rate="20 rps", seed=7, quick=True)
    )

    assert profile.replicates.count == 3
    assert profile.replicates.requests == 100
    assert profile.contract.rate_rps == 20
    assert profile.seed == 7
    assert "20 rps" in profile.title
    assert profile.gates == find_profile("phi3").gates


@pytest.mark.parametrize(("name", "requests"), [("mixtral", 1600), ("api_gateway", 5000)])
def test_quick_keeps_enough_requests_to_bound_the_error_rate(name: str, requests: int) -> None:
    """--quick runs four windows whose 6,400 requests or more can still show an error rate under 0.1 %."""
    replicates = resolve_profile(PerfRequest(profile_name=name, quick=True)).replicates

    assert replicates.count == 4
    assert replicates.requests == requests
    assert replicates.count * replicates.requests >= 4605


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile_name": "mixtrall"}, "did you mean 'mixtral'"),
        ({"profile_name": None, "profile_file": Path("nowhere.yaml")}, "nowhere.yaml"),
        ({"rate": "50"}, "no unit"),
        ({"rate": "0 rps"}, "not above zero"),
        ({"rate": "50 ms"}, "not a rate"),
        ({"replicates": 1}, "at least 2"),
        ({"requests": 3}, "at least 10"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    """A wrong option is refused with the reason or the nearest right spelling."""
    with pytest.raises(UsageError, match=message):
        resolve_profile(PerfRequest(**{"profile_name": "mixtral"} | change))


def test_a_target_knows_where_its_metrics_would_be() -> None:
    """The metrics page is looked for beside /v1 unless the user names it."""
    profile = find_profile("mixtral")
    target = target_from_url(PerfRequest(target_url="http://127.0.0.1:9/v1/"), profile)
    named = target_from_url(
        PerfRequest(target_url="https://127.0.0.1/x/v1", api_model="m", metrics_url="http://127.0.0.1:1/m"), profile
    )

    assert (target.base_url, target.metrics_url) == ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/metrics")
    assert (target.api_model, target.port, target.tls) == ("mixtral", 9, False)
    assert (named.metrics_url, named.api_model, named.port, named.tls) == ("http://127.0.0.1:1/m", "m", 443, True)


@pytest.mark.parametrize("url", ["127.0.0.1:9/v1", "http://127.0.0.1:9", "ftp://127.0.0.1/v1", ""])
def test_a_url_that_cannot_be_a_target_is_refused(url: str) -> None:
    """A target is an http(s) URL that ends in /v1."""
    with pytest.raises(UsageError, match="--target"):
        target_from_url(PerfRequest(target_url=url), find_profile("mixtral"))


def test_hardware_evidence_cannot_come_from_a_simulation_or_a_toy() -> None:
    """--require-hardware refuses the simulation and tiny weights before anything starts."""
    with pytest.raises(UsageError, match="simulation"):
        refuse_without_hardware(PerfRequest(require_hardware=True))
    with pytest.raises(UsageError, match="tiny"):
        refuse_without_hardware(PerfRequest(require_hardware=True, engine="vllm", weights="tiny"))
    refuse_without_hardware(PerfRequest(require_hardware=True, engine="vllm", weights="dummy"))
    refuse_without_hardware(PerfRequest(require_hardware=True, target_url="http://127.0.0.1:9/v1"))
    refuse_without_hardware(PerfRequest())
