"""Questions to a target before any load: is it there, does it speak OpenAI, how does it count tokens."""

from __future__ import annotations

import random
import re
import ssl
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import httpx
import msgspec

from hxp_harness.errors import NotReady, UsageError, nearest
from hxp_harness.load.answer import NO_JSON, Answer, Read, read_stream, read_whole, said_by
from hxp_harness.load.plan import LoadPlan
from hxp_harness.load.prompts import WORDS
from hxp_harness.load.request import PATHS, body_of, headers_of
from hxp_harness.load.tokenizer import measure
from hxp_harness.target import Target

if TYPE_CHECKING:
    from hxp_harness.profile import Contract

_CONNECT_S = 5.0
_ANSWER_S = 60.0  # a server may load a model at its first request
_BODY_LIMIT_BYTES = 1024 * 1024
_FEW_WORDS = 16
_FINGERPRINT = re.compile(rb'"system_fingerprint"\s*:\s*"([\w.+-]{1,80})"')
_MANY_WORDS = 144  # enough to average over the tokenizer's view of our words, short for every context window


def preflight(target: Target, contract: Contract) -> LoadPlan:
    """Ask `target` a few short questions and return how to send it load.

    Raises NotReady when it is down, does not answer within 60 s, or is not OpenAI-shaped; UsageError when the key or
    the model is wrong.
    """
    if any(ord(character) <= 32 or ord(character) > 126 for character in target.api_key):
        raise UsageError("the API key has characters that no header can carry", hint="check --api-key-env VARIABLE")
    plan = LoadPlan(
        base_url=target.base_url,
        api_model=target.api_model,
        api=contract.api,
        stream=contract.stream,
        timeout_s=contract.timeout_s,
        temperature=contract.temperature,
        concurrency=contract.concurrency,
        tag_keys=target.tag_keys,
    )
    # As the hot loop does: no proxy from the environment, certificates as OpenSSL finds them.
    tls = ssl.create_default_context()
    timeout = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S)
    with httpx.Client(timeout=timeout, verify=tls, trust_env=False) as client:
        examiner = _Examiner(client, target)
        models = examiner.models()
        plan, few = examiner.accepted(plan, models, (False,) if contract.natural else (True, False))
        many = examiner.prompt_tokens(plan, examiner.ask(plan, _MANY_WORDS))
        tokens_per_word = (many - few) / (_MANY_WORDS - _FEW_WORDS)
        if tokens_per_word <= 0:
            raise NotReady(
                f"{target.base_url} counts {few} prompt tokens for {_FEW_WORDS} words and {many} for {_MANY_WORDS}",
                hint="its usage.prompt_tokens cannot be right, so prompts of a known length cannot be made",
            )
        told = replace(plan, tokens_per_word=tokens_per_word, overhead_tokens=few - tokens_per_word * _FEW_WORDS)
        return examiner.measured(told, few)


def _words(count: int) -> str:
    return " ".join(random.Random(count).sample(WORDS, count))  # noqa: S311 - no secret


def _fingerprint(body: bytes) -> dict[str, str]:
    """Return what the target calls its engine, wherever in its answer it says so; empty where it does not."""
    match = _FINGERPRINT.search(body)
    return {} if match is None else {"system_fingerprint": match[1].decode("ascii")}


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class _Examiner:
    client: httpx.Client
    target: Target

    def models(self) -> list[str]:
        """Return the model names that the target offers; none where it has no such page."""
        url = f"{self.target.base_url}/models"
        reply = self._call("GET", url)
        self._refuse_wrong_key(reply)
        try:
            listing = msgspec.json.decode(reply.body, type=_Models) if reply.status == 200 else _Models()
        except NO_JSON:
            listing = _Models()
        return [model.id for model in listing.data]

    def accepted(self, plan: LoadPlan, models: list[str], allowed: tuple[bool, ...]) -> tuple[LoadPlan, int]:
        """Return the plan with as many of our extra fields as the target takes, and the tokens of the short prompt.

        `allowed` are the values of ignore_eos to try, the best first.
        """
        reply = _Reply(0, b"")
        for continuous_usage, ignore_eos in product((True, False) if plan.stream else (False,), allowed):
            plan = replace(plan, continuous_usage=continuous_usage, ignore_eos=ignore_eos)
            reply = self.ask(plan, _FEW_WORDS)
            if reply.status not in {400, 422}:
                break
        if reply.status == 404 or (reply.status == 400 and models and plan.api_model not in models):
            said = said_by(reply.body)
            hint = nearest(plan.api_model, models) if models else f"it says: {said}"
            raise UsageError(f"{plan.base_url} has no model {plan.api_model!r}", hint=f"--api-model: {hint}")
        tokens = self.prompt_tokens(plan, reply)
        return replace(plan, facts=_fingerprint(reply.body)), tokens

    def ask(self, plan: LoadPlan, words: int) -> _Reply:
        """Send a prompt of `words` different words and ask for one token."""
        text = _words(words)
        headers = headers_of(plan, self.target.api_key)
        return self._call("POST", plan.base_url + PATHS[plan.api], headers, msgspec.json.encode(body_of(plan, text, 1)))

    def measured(self, plan: LoadPlan, few: int) -> LoadPlan:
        """Return `plan` with the cost of each word, where the target has a tokenizer page that agrees with its usage.

        `few` are the prompt tokens that usage counted for a short prompt.
        """
        exact = measure(plan, partial(self.count, plan)) if self.count(plan, _words(_FEW_WORDS)) == few else None
        return plan if exact is None else replace(exact, facts=plan.facts | {"prompt_lengths": "by /tokenize"})

    def count(self, plan: LoadPlan, text: str) -> int | None:
        """Return the tokens of a prompt as the target's tokenizer counts them; None where it has no such page."""
        url = plan.base_url.removesuffix("/v1") + "/tokenize"
        asked = {"messages": [{"role": "user", "content": text}]} if plan.api == "chat" else {"prompt": text}
        body = msgspec.json.encode({"model": plan.api_model, **asked})
        try:
            reply = self._call("POST", url, headers_of(plan, self.target.api_key), body)
            return msgspec.json.decode(reply.body, type=_Tokens).count if reply.status == 200 else None
        except (*NO_JSON, NotReady):  # a page that only some targets have
            return None

    def prompt_tokens(self, plan: LoadPlan, reply: _Reply) -> int:
        """Return how many prompt tokens the target counted. Raises NotReady when the reply does not say."""
        self._refuse_wrong_key(reply)
        url = self.target.base_url
        if reply.status != 200:
            raise NotReady(
                f"{url} answers with status {reply.status}: {said_by(reply.body) or 'nothing'}",
                hint=f"check by hand: curl {url}/models",
            )
        answer = _answer(plan, reply.body)
        if answer.prompt_tokens is None and not (answer.chunks or answer.finish_reason):
            raise NotReady(
                f"{url} answers, but not as OpenAI's API does: {answer.detail or 'no choices in the answer'}",
                hint="--target is the base URL of an OpenAI-compatible server and ends in /v1",
            )
        if answer.prompt_tokens is None:
            raise NotReady(f"{url} does not say usage.prompt_tokens", hint="tokens cannot be counted without usage")
        return answer.prompt_tokens

    def _refuse_wrong_key(self, reply: _Reply) -> None:
        if reply.status in {401, 403}:
            state = "refuses the API key" if self.target.api_key else "wants an API key"
            raise UsageError(
                f"{self.target.base_url} {state} (status {reply.status})",
                hint="put the key into an environment variable and name that one: --api-key-env VARIABLE",
            )

    def _call(self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b"") -> _Reply:
        if headers is None:
            headers = {"Authorization": f"Bearer {self.target.api_key}"} if self.target.api_key else {}
        until_s = time.monotonic() + _ANSWER_S
        received = bytearray()
        try:
            with self.client.stream(method, url, headers=headers, content=body) as response:
                for part in response.iter_bytes():
                    received += part
                    if time.monotonic() > until_s or len(received) > _BODY_LIMIT_BYTES:
                        raise NotReady(
                            f"{url} did not end its answer within {_ANSWER_S:g} s and {_BODY_LIMIT_BYTES} bytes",
                            hint="is this the right server?",
                        )
                return _Reply(response.status_code, bytes(received))
        except httpx.TimeoutException as error:
            slow = "took no connection" if isinstance(error, httpx.ConnectTimeout) else "gave no answer"
            limit_s = _CONNECT_S if isinstance(error, httpx.ConnectTimeout) else _ANSWER_S
            raise NotReady(
                f"{url} {slow} within {limit_s:g} s", hint="is the server overloaded or behind a wall?"
            ) from None
        except httpx.ConnectError as error:
            raise NotReady(f"nothing answers at {url}: {error}", hint=_unconnected(url, str(error))) from None
        except httpx.HTTPError as error:
            raise NotReady(f"{url} does not speak HTTP: {error}", hint="are host, port and scheme right?") from None


def _unconnected(url: str, why: str) -> str:
    """Return what to do about a connection that did not come about."""
    if "CERTIFICATE_VERIFY_FAILED" in why:
        return "where you trust who signed it: SSL_CERT_FILE=THEIR.pem before the command"
    if "WRONG_VERSION_NUMBER" in why or "record layer failure" in why:
        return f"it speaks no TLS there: --target {url.replace('https:', 'http:', 1).partition('/v1')[0]}/v1"
    return "is the server started, are host and port right?"


class _Model(msgspec.Struct):
    id: str


class _Tokens(msgspec.Struct):
    count: int


class _Models(msgspec.Struct):
    data: list[_Model] = []


def _answer(plan: LoadPlan, body: bytes) -> Answer:
    reads = [Read(len(body), 0, 0, 0)]
    return read_stream(body, reads) if plan.stream else read_whole(body, reads)
