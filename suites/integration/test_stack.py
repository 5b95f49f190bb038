"""All twelve services together: a request on its whole way, and what it leaves behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from hxp_harness.faults.fixture import Faults
from hxp_harness.probe import Probe
from hxp_harness.stack import RunningStack
from hxp_harness.target import Target
from reference_stack.catalogue import load_catalogue

Ask = Callable[[Target], Probe]
MODELS = [name for name, spec in load_catalogue().items() if spec.group == "ai_models"]
SETTLE_S = 10.0
QUIET_S = 1.0
RENEWED_S = 60.0
COLLECTED_S = 45.0  # three collections
NOT_HERE = 503
SERVED = 'vllm:request_success_total{model_name="openchat"}'


@pytest.fixture(scope="session")
def gateway(stack: RunningStack) -> Target:
    """The stack's gateway as a target."""
    return stack.target("api_gateway")


def get(stack: RunningStack, service: str, path: str, **query: str) -> httpx.Response:
    """GET `path` from the face of `service`."""
    root = str(stack.services[service]["health_url"]).removesuffix("/health")
    return httpx.get(root + path, params=query, timeout=20, trust_env=False)


def usage_of(stack: RunningStack, model: str) -> int:
    """Return the output tokens that the usage log has for `model`."""
    rows = get(stack, "database", "/v1/usage").json()
    return sum(row["output_tokens"] for row in rows if row["model"] == model)


def settled_usage_of(stack: RunningStack, model: str) -> int:
    """Return the same once no row has come for a while: those of earlier tests are written behind their answers."""
    tokens, since_s = usage_of(stack, model), time.monotonic()
    while time.monotonic() < since_s + QUIET_S:
        time.sleep(0.05)  # polls until nothing more comes
        if (now := usage_of(stack, model)) != tokens:
            tokens, since_s = now, time.monotonic()
    return tokens


@pytest.mark.parametrize("name", load_catalogue())
def test_every_service_is_ready(stack: RunningStack, name: str) -> None:
    """In a started stack each of the twelve says that it is ready."""
    answer = httpx.get(str(stack.services[name]["health_url"]), timeout=20, trust_env=False)

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("model", MODELS)
def test_a_request_goes_through_the_gateway(gateway: Target, probe: Ask, model: str) -> None:
    """Each model answers through the gateway, whole and streamed, with the same text."""
    ask = probe(replace(gateway, api_model=model))
    whole = ask.complete("hello", max_tokens=6, temperature=0)
    streamed = ask.stream("hello", max_tokens=6, temperature=0)

    assert whole.ok, whole.error
    assert streamed.ok, streamed.error
    assert streamed.text == whole.text


def test_what_was_said_is_in_the_usage_log(stack: RunningStack, gateway: Target, probe: Ask) -> None:
    """The database has as many tokens more as the answers had, streamed or not."""
    before = settled_usage_of(stack, "hermes")
    ask = probe(replace(gateway, api_model="hermes"))
    said = sum((reply.output_tokens or 0) for reply in (ask.complete("one"), ask.stream("two"), ask.complete("three")))
    assert said > 0

    deadline = time.monotonic() + SETTLE_S
    while usage_of(stack, "hermes") < before + said and time.monotonic() < deadline:
        time.sleep(0.05)  # rows are written behind the answer

    assert usage_of(stack, "hermes") == before + said


def test_what_was_asked_is_seen_in_prometheus(stack: RunningStack, gateway: Target, probe: Ask) -> None:
    """The counts of the gateway and of the model server reach Prometheus with the next collection."""
    first = get(stack, "metrics", "/v1/query", expression="1")
    if first.status_code == NOT_HERE and str(first.json()["detail"]).startswith("no Prometheus"):
        pytest.skip(str(first.json()["detail"]))  # this machine has none; one that died is no reason
    assert first.status_code == 200, first.text
    asked = ('sum(hxp_gateway_requests_total{model="openchat",status="200"})', f"sum({SERVED})")
    before = [counted(stack, expression) for expression in asked]
    assert probe(replace(gateway, api_model="openchat")).complete("hello", max_tokens=2).ok

    deadline = time.monotonic() + COLLECTED_S
    while any(counted(stack, text) <= was for text, was in zip(asked, before, strict=True)):
        assert time.monotonic() < deadline, "it was not collected"
        time.sleep(0.5)  # polls what Prometheus has; it collects every 15 s


def counted(stack: RunningStack, expression: str) -> float:
    """The value of an expression that Prometheus has, 0 where it has none."""
    rows = get(stack, "metrics", "/v1/query", expression=expression).json()
    return float(rows[0]["points"][0][1]) if rows else 0.0


def test_the_gateway_lists_the_models(gateway: Target, probe: Ask) -> None:
    """A key that may use every model sees every model."""
    listed = probe(gateway)._client.get(f"{gateway.base_url}/models").json()

    assert {row["id"] for row in listed["data"]} == set(MODELS)


def test_monitoring_sees_all_twelve(stack: RunningStack) -> None:
    """The status page and its JSON name every service of the stack."""
    deadline = time.monotonic() + SETTLE_S
    while not get(stack, "monitoring", "/status").json()["all_up"] and time.monotonic() < deadline:
        time.sleep(0.1)  # its first round comes after its own start
    status = get(stack, "monitoring", "/status").json()
    page = get(stack, "monitoring", "/")

    assert page.status_code == 200
    assert {row["name"] for row in status["services"] if row["up"]} == set(load_catalogue())
    assert all(name in page.text for name in load_catalogue())


def test_a_slow_way_to_the_gateway_is_survived(gateway: Target, probe: Ask, faults: Faults) -> None:
    """Two hundred milliseconds more on the wire delay an answer and break nothing."""
    with faults.latency(gateway, delay_s=0.2) as slow:
        begin = time.monotonic()
        reply = probe(slow).complete("hello", max_tokens=4)

    assert reply.ok, reply.error
    assert time.monotonic() - begin >= 0.2


def test_a_cut_stream_is_no_success(gateway: Target, probe: Ask, faults: Faults) -> None:
    """A stream that the network cuts in the middle is not taken for a complete answer."""
    with faults.toxic(gateway, "limit_data", limit_bytes=900) as cut:
        reply = probe(cut).stream("hello", max_tokens=16, ignore_eos=True)

    assert not reply.ok


def test_the_gateways_workers_are_renewed(stack: RunningStack, gateway: Target, probe: Ask) -> None:
    """One signal renews the workers of a running gateway, and not a request fails meanwhile."""
    import psutil

    parent = psutil.Process(int(stack.services["api_gateway"]["pid"]))
    before = set(parent.children())
    ask = probe(replace(gateway, api_model="mixtral"))
    parent.send_signal(signal.SIGUSR2)
    deadline = time.monotonic() + RENEWED_S
    while before & set(parent.children()):
        assert time.monotonic() < deadline, "the old workers are still there"
        reply = ask.complete("hello", max_tokens=2)
        assert reply.ok, reply.error

    assert before
    assert parent.children()
    assert ask.complete("hello", max_tokens=2).ok


def test_a_model_that_is_killed_hurts_no_other_and_comes_back(
    start_stack: Callable[..., RunningStack], probe: Ask
) -> None:
    """While a killed model is away it costs an error in OpenAI's shape or a wait; others are served, and it returns."""
    import psutil

    stack = start_stack("api_gateway", "phi3")
    door = stack.target("api_gateway")
    phi3 = probe(replace(door, api_model="phi3"))
    assert phi3.complete("hello", max_tokens=2).ok
    victim = psutil.Process(int(stack.services["phi3"]["pid"]))
    victim.kill()
    victim.wait(5)

    gone = phi3.complete("hello", max_tokens=2)
    other = probe(replace(door, api_model="mixtral")).complete("hello", max_tokens=2)

    assert gone.ok or (gone.status in {502, 503, 504} and '"error"' in gone.error), gone.error
    assert other.ok, other.error
    deadline = time.monotonic() + RENEWED_S
    while not (back := phi3.complete("hello", max_tokens=2)).ok and time.monotonic() < deadline:
        time.sleep(0.1)  # polls until it serves again
    assert back.ok, back.error
