"""The simulated vLLM started for embeddings: vLLM's own answers, and vectors that one can rely on."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_stack.schemas.configuration.model import ModelSettings
from tests.reference_stack.ai_models.conftest import Sim, SimFactory, serving
from tests.reference_stack.ai_models.test_conformance import shape

# Of vllm serve --runner pooling --convert embed with a tiny model; of each vector the first four numbers.
RECORDING = Path(__file__).with_name("data") / "vllm-0.32-embeddings.json"
PROBES: list[dict[str, Any]] = json.loads(RECORDING.read_text(encoding="utf-8"))
# vLLM tries seven kinds of body and tells what is wrong with each; the simulation knows one.
OTHER_MESSAGE = {"emb format bad", "emb no input", "emb input null", "emb number", "emb object", "emb mixed"}
PATH = "/v1/embeddings"


@pytest.fixture(scope="module")
def embedder() -> Iterator[Sim]:
    with serving(
        ModelSettings(service="phi3", device="ideal", max_model_len=2048, kv_tokens=16_384, runner="pooling")
    ) as sim:
        yield sim


def embed(sim: Sim, given: object, **more: object) -> Any:
    return sim.request("POST", PATH, {"model": sim.service, "input": given, **more})


def vectors(sim: Sim, given: object, **more: object) -> list[Any]:
    answer = embed(sim, given, **more)
    assert answer.status == 200, answer.body
    assert [row["index"] for row in answer.json["data"]] == list(range(len(answer.json["data"])))
    return [row["embedding"] for row in answer.json["data"]]


@pytest.mark.parametrize("probe", PROBES, ids=[probe["tag"] for probe in PROBES])
def test_answers_as_vllm_did(embedder: Sim, probe: dict[str, Any]) -> None:
    """Each recorded request gets the recorded status and the same keys and types, or the same error."""
    request, headers = probe["request"], {}
    if probe["tag"] == "emb too long":
        request = {**request, "input": "hello world " * 2000}
    if probe["tag"] == "emb wrong type":
        headers = {"content-type": "text/plain"}
    if probe["tag"] == "emb request id":
        headers = {"x-request-id": "abc-123"}
    answer = embedder.request("POST", probe["path"], request.encode() if isinstance(request, str) else request, headers)

    assert answer.status == probe["status"], answer.body
    assert answer.headers["content-type"] == probe["headers"]["content-type"]
    said, expected = answer.json, json.loads(probe["body"])
    if "error" in expected and probe["tag"] not in OTHER_MESSAGE:
        assert said == expected
    elif "error" in expected:
        assert {**said["error"], "message": ""} == {**expected["error"], "message": ""}
    else:
        assert shape(said) == shape(expected)
        assert list(said) == list(expected)


def test_recording_is_there() -> None:
    """The recording holds answers and refusals."""
    assert sum(probe["status"] == 200 for probe in PROBES) >= 12
    assert sum(probe["status"] >= 400 for probe in PROBES) >= 18


def test_the_same_text_has_the_same_vector(embedder: Sim) -> None:
    """Vectors are of length 1, the model's width, equal for equal texts and far apart for others."""
    one, two, again = vectors(embedder, ["hello world", "a second one", "hello world"])

    assert one == again == vectors(embedder, "hello world")[0]
    assert len(one) == 3072
    assert math.isclose(sum(x * x for x in one), 1.0, rel_tol=1e-5)
    assert abs(sum(x * y for x, y in zip(one, two, strict=True))) < 0.2


def test_base64_holds_the_same_numbers(embedder: Sim) -> None:
    """The other encoding is the little-endian 32-bit floats."""
    (text,) = vectors(embedder, "hello world", encoding_format="base64")
    (plain,) = vectors(embedder, "hello world")
    assert np.frombuffer(base64.b64decode(text), "<f4").tolist() == plain


def test_nothing_is_generated(embedder: Sim) -> None:
    """Prompt tokens are counted, output tokens are not, and the request ends with stop."""
    prompt = embedder.metric("vllm:prompt_tokens_total")
    done = embedder.metric("vllm:request_success_total", finished_reason="stop")

    used = embed(embedder, [[1, 2, 3], [4]]).json["usage"]

    assert (used["prompt_tokens"], used["completion_tokens"], used["total_tokens"]) == (4, 0, 4)
    assert embedder.metric("vllm:prompt_tokens_total") == prompt + 4
    assert embedder.metric("vllm:request_success_total", finished_reason="stop") == done + 2
    assert embedder.metric("vllm:generation_tokens_total") == 0
    assert embedder.metric("vllm:num_requests_running") == 0


def test_a_vector_takes_the_time_of_its_prefill(start: SimFactory) -> None:
    """Embeddings go through the same engine: a long text takes longer than a short one on a slow device."""
    slow = start("phi3", device="cpu", runner="pooling", speed=1000)
    took = []
    for words in (4, 400):
        before = slow.metric("vllm:e2e_request_latency_seconds_sum")
        embed(slow, "word " * words)
        took.append(slow.metric("vllm:e2e_request_latency_seconds_sum") - before)
    assert took[1] > took[0]


def test_an_empty_text_is_a_vector_where_texts_begin_with_a_sign(start: SimFactory) -> None:
    """Of the four models phi3 alone puts nothing before a text, as the recording shows; the others embed that sign."""
    others = start("hermes", device="ideal", runner="pooling")
    assert embed(others, "").json["usage"]["prompt_tokens"] == 1
    assert len(vectors(others, ["", "x"])) == 2
    assert embed(others, [[]]).status == 400


def test_a_model_that_generates_has_no_embeddings(ideal: Sim) -> None:
    """Each server has the routes of what it was started for."""
    assert ideal.request("POST", PATH, {"input": "x"}).status == 404
