"""Writes result files as other tools write them: the same made-up requests in three shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., Path]


def vllm(count: int, e2e_s: float, failing: int, gap_s: float) -> str:
    """As `vllm bench serve --save-detailed` does; the n-th of `failing` fails."""
    bad = [failing > 0 and index % failing == 0 for index in range(count)]
    return json.dumps(
        {
            "duration": 99.0,
            "input_lens": [10] * count,
            "output_lens": [0 if one else 4 for one in bad],
            "ttfts": [0.0 if one else e2e_s - 0.3 for one in bad],
            "itls": [[] if one else [0.1, 0.1, 0.1] for one in bad],
            "start_times": [1000.0 + gap_s * index for index in range(count)],
            "errors": ["Connection reset" if one else "" for one in bad],
            "generated_texts": ["a b c d"] * count,
        }
    )


def guidellm(count: int, e2e_s: float, failing: int, gap_s: float) -> str:
    """As GuideLLM's benchmarks.json, with what else stands in it left out."""
    successful: list[dict[str, Any]] = []
    errored: list[dict[str, Any]] = []
    for index in range(count):
        due_s = 1000.0 + gap_s * index
        start_s, end_s = due_s + 0.01, due_s + 0.01 + e2e_s
        timings = {"targeted_start": due_s, "request_start": start_s, "request_end": end_s + 0.001}
        request = {
            "info": {"timings": timings, "error": None},
            "input_metrics": {"text_tokens": 10},
            "output_metrics": {"text_tokens": 4},
        }
        if failing and index % failing == 0:
            errored.append(request | {"info": {"timings": timings, "error": "Connection reset"}})
            continue
        timings |= {"first_token_iteration": end_s - 0.3, "last_token_iteration": end_s}
        successful.append(request)
    return json.dumps({"benchmarks": [{"requests": {"successful": successful, "errored": errored, "incomplete": []}}]})


def aiperf(count: int, e2e_s: float, failing: int, gap_s: float) -> str:
    """As AIPerf's profile_export.jsonl, two warm-up requests first."""
    lines = []
    for index in range(-2, count):
        start_s = 1000.0 + gap_s * index
        bad = failing > 0 and index % failing == 0
        metrics: dict[str, Any] = {
            "time_to_first_token": {"value": (e2e_s - 0.3) * 1e3, "unit": "ms"},
            "request_latency": {"value": e2e_s * 1e3, "unit": "ms"},
            "inter_chunk_latency": {"value": [100.0, 100.0, 100.0], "unit": "ms"},
            "input_sequence_length": {"value": 10, "unit": "tokens"},
            "output_sequence_length": {"value": 4, "unit": "tokens"},
        }
        lines.append(
            json.dumps(
                {
                    "metadata": {
                        "session_num": index,
                        "request_start_ns": round(start_s * 1e9),
                        "request_end_ns": round((start_s + e2e_s) * 1e9),
                        "benchmark_phase": "warmup" if index < 0 else "profiling",
                    },
                    "metrics": {} if bad else metrics,
                    "error": {"code": 0, "type": "ConnectionError", "message": "Connection reset"} if bad else None,
                }
            )
        )
    return "\n".join(lines) + "\n"


SHAPES = {"vllm-bench": vllm, "guidellm": guidellm, "aiperf": aiperf}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a run of so many requests, each taking `e2e_s`, every `failing`-th of them failed."""

    def make(tool: str, count: int = 800, *, e2e_s: float = 0.5, failing: int = 0, gap_s: float = 0.05) -> Path:
        file = tmp_path / f"{tool}.json"
        file.write_text(SHAPES[tool](count, e2e_s, failing, gap_s), encoding="utf-8")
        return file

    return make
