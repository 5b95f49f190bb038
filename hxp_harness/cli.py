"""The `hxp` program: what people type, turned into calls."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hxp_harness import interrupt
from hxp_harness.arguments import QUICK_SEARCH_MINUTES, parser
from hxp_harness.errors import ExitCode, HxpError, UsageError

if TYPE_CHECKING:  # pydantic costs a quarter of a second that --help does not have
    from hxp_harness.request import PerfRequest


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hxp`; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(words)
    interrupt.install()
    run: Callable[[argparse.Namespace], int] = {
        "perf": _run_perf,
        "capacity": _run_capacity,
        "compare": _run_compare,
        "history": _run_history,
        "judge": _run_judge,
        "explain": _run_explain,
        "report": _run_report,
        "certify": _run_certify,
        "selfcheck": _run_selfcheck,
        "worker": _run_worker,
    }[options.command]
    try:
        code = run(options)
        sys.stdout.flush()
    except HxpError as error:
        print(f"hxp: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of a pipe had enough: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.USAGE
    except KeyboardInterrupt:
        print("hxp: stopped before there was anything to judge", file=sys.stderr)
        return ExitCode.INVALID
    return code


def _run_perf(options: argparse.Namespace) -> int:
    from hxp_harness.run import perf

    return perf(_perf_request(options, quick=options.quick, rate=options.rate))


def _run_capacity(options: argparse.Namespace) -> int:
    from hxp_harness.capacity.story import CapacityRequest, capacity

    shared = _perf_request(options, quick=not options.full)
    most = options.max_minutes
    if most is None and not options.full:
        most = QUICK_SEARCH_MINUTES
    return capacity(CapacityRequest(shared, options.expect, options.start, options.resolution, most))


def _run_compare(options: argparse.Namespace) -> int:
    from hxp_harness.units import parse_quantity

    margin = parse_quantity(options.margin, "ratio").value
    if not 0 < margin < 1:
        raise UsageError(f"--margin: {options.margin!r} is not between 0 % and 100 %")
    if len(options.runs) == 2 and not options.target:
        _refuse_without_target(options, "api_model", "api_key_env", "tag_key")
        from hxp_harness.compare_runs import compare_runs

        return compare_runs(*options.runs, margin=margin, out=options.out)
    if options.runs or len(options.target) != 2 or (options.model is None) == (options.profile is None):
        raise UsageError(
            "give two run folders, or --target twice and one of --model and --profile", hint="hxp compare --help"
        )
    return _take_turns(options, margin)


def _run_history(options: argparse.Namespace) -> int:
    from hxp_harness.comparison.history_words import history
    from hxp_harness.units import parse_quantity

    margin = parse_quantity(options.margin, "ratio").value
    print(history(options.reports, profile=options.model, margin=margin))
    return ExitCode.PASS


def _take_turns(options: argparse.Namespace, margin: float) -> int:
    from hxp_harness.abba import TurnsRequest, take_turns
    from hxp_harness.request import PerfRequest

    models = (options.api_model or [None]) * (2 if len(options.api_model) < 2 else 1)
    perf = PerfRequest(
        profile_name=options.model,
        profile_file=options.profile,
        target_url=options.target[0],
        api_model=models[0],
        api_key=_api_key(options.api_key_env),
        tag_keys=_tag_keys(options.tag_key),
        out=options.out,
        requests=options.requests,
    )
    return take_turns(TurnsRequest(perf, options.target[1], models[1], options.pairs, margin))


def _api_key(variable: str | None) -> str:
    """Return the key in the environment variable; raise UsageError when there is none of that name."""
    if not variable:
        return ""
    if variable not in os.environ:
        hint = f"export {variable}=... and run again"
        raise UsageError(f"--api-key-env: the environment has no {variable}", hint=hint)
    return os.environ[variable]


def _refuse_without_target(options: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(options, name) and not options.target:
            raise UsageError(f"--{name.replace('_', '-')} says something of --target, which is missing")


def _tag_keys(pairs: Sequence[str]) -> dict[str, str]:
    """Return where the key of each tag is; raise UsageError where one of them cannot be had."""
    from hxp_harness.load import tag_keys

    references = tag_keys.parse(pairs)
    tag_keys.read(references, os.environ)
    return references


def _perf_request(options: argparse.Namespace, *, quick: bool, rate: str | None = None) -> PerfRequest:
    """Return what the options that runs share ask for; raise UsageError where they contradict each other."""
    from hxp_harness.request import PerfRequest

    api_key = _api_key(options.api_key_env)
    _refuse_without_target(options, "api_model", "api_key_env", "metrics_url", "tag_key")
    return PerfRequest(
        profile_name=options.model,
        profile_file=options.profile,
        engine=options.engine,
        weights=options.weights,
        target_url=options.target,
        api_model=options.api_model,
        api_key=api_key,
        metrics_url=options.metrics_url,
        tag_keys=_tag_keys(options.tag_key),
        through_gateway=options.through == "gateway",
        out=options.out,
        quick=quick,
        replicates=options.replicates,
        requests=options.requests,
        rate=rate,
        seed=options.seed,
        require_hardware=options.require_hardware,
        settings=tuple(options.set),
        clients=options.clients,
        hosts=options.hosts,
        listen=options.listen,
        web_port=options.web_port,
        baseline=getattr(options, "baseline", None),
        max_minutes=options.max_minutes if options.command == "perf" else None,
    )


def _run_judge(options: argparse.Namespace) -> int:
    from hxp_harness.rejudge import judge_again, judge_file

    if options.made_by:
        if options.verify:
            raise UsageError("--verify looks at a run of ours, and --from names another tool's file")
        return judge_file(
            options.run, options.made_by, tuple(options.gate), options.gates, client_proved=options.client_proved
        )
    if options.client_proved:
        raise UsageError("--client-proved says something of --from, which is missing")
    return judge_again(options.run, tuple(options.gate), options.gates, verified=options.verify)


def _run_explain(options: argparse.Namespace) -> int:
    from hxp_harness.stories import tell

    print(tell(options.run))
    return ExitCode.PASS


def _run_report(options: argparse.Namespace) -> int:
    if options.rosetta:
        from hxp_harness.report.rosetta import page

        print(page(options.run))
        return ExitCode.PASS
    from hxp_harness.stories import write_views

    for path in write_views(options.run):
        print(path)
    return ExitCode.PASS


def _run_certify(options: argparse.Namespace) -> int:
    from hxp_harness.instrument import certify_profile, witness_golden
    from hxp_harness.request import PerfRequest

    if options.witness:
        return witness_golden(options.out)
    if options.model is None and options.profile is None:
        raise UsageError("certify: whose load? --model or --profile is missing", hint="hxp certify --model phi3")
    if options.search_minutes < 0:
        raise UsageError(f"--search-minutes {options.search_minutes:g}: less than nothing", hint="0 searches nothing")
    search_s = options.search_minutes * 60
    request = PerfRequest(
        profile_name=options.model,
        profile_file=options.profile,
        out=options.out,
        clients=options.clients,
        hosts=options.hosts,
        listen=options.listen,
        web_port=options.web_port,
    )
    return certify_profile(request, search_s)


def _run_worker(options: argparse.Namespace) -> int:
    from hxp_harness.worker import work

    work(options.master, options.clients, options.name, _api_key(options.api_key_env))


def _run_selfcheck(options: argparse.Namespace) -> int:
    from hxp_harness.selfcheck.program import FULL, POWER, SHORT, selfcheck
    from hxp_harness.selfcheck.servers import SERVERS, replayed

    servers = SERVERS if options.traces is None else (replayed(options.traces),)
    size = FULL if options.full else POWER if options.power else SHORT
    return selfcheck(size, options.seed, lambda text: print(text, file=sys.stderr), servers, page=options.page)
