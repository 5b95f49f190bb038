"""Our own client as a program: `python benchmarks/load/ours.py JOB.json`; prints one JSON line."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

from hxp_harness.load.plan import LoadPlan
from hxp_harness.load.schedule import draw
from hxp_harness.load.session import LoadSession
from hxp_harness.profile import Contract, Replicates
from hxp_harness.trace import Trace


def main(asked: dict[str, object], folder: Path) -> None:
    from benchmarks.load.job import statistics

    arrival = "poisson" if asked["poisson"] else "constant"
    contract = Contract.model_validate(
        {"prompt_tokens": 16, "output_tokens": asked["tokens"], "rate_rps": asked["rate_rps"], "arrival": arrival}
    )
    replicates = Replicates.model_validate({"count": 2, "requests": int(str(asked["requests"])) // 2, "warm_up_s": 0.0})
    plan = LoadPlan(f"{asked['url']}/v1", "golden", "chat", stream=True, timeout_s=60.0)
    traces: list[Trace] = []
    with LoadSession(folder, plan, draw(contract, replicates, 1)) as session:
        while not session.finished:
            traces += session.poll(1.0)
        traces += session.poll(0.0)
        summary = session.summary
    good = [trace for trace in traces if trace.ok]
    gaps_s = [later - sooner for trace in good for sooner, later in pairwise(trace.token_hi_s)]

    def begun(trace: Trace) -> float:
        return trace.intended_s if asked["from_intended"] else trace.sent_s or 0.0

    told = {
        "ok": len(good),
        "failed": len(traces) - len(good),
        "figures": {
            "ttft": statistics([trace.token_hi_s[0] - begun(trace) for trace in good]),
            "itl": statistics(gaps_s),
            "e2e": statistics([trace.token_hi_s[-1] - begun(trace) for trace in good]),
        },
        "cpu_s": summary.cpu_s,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    job = Path(sys.argv[1])
    main(json.loads(job.read_text(encoding="utf-8")), job.parent / "session")
