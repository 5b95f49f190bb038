"""What `hxp` takes on its command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from hxp_harness.options_parser import OptionsParser

QUICK_SEARCH_MINUTES = 10.0
_EXIT_CODES = "exit codes: 0 PASS, 1 FAIL, 2 usage, 3 INCONCLUSIVE, 4 INVALID, 5 stack not ready"
_PERF_EXAMPLES = f"""\
examples:
  hxp perf --model mixtral                      the embedded stack, simulated engine
  hxp perf --model mixtral --quick              fewer replicates: minutes, and a wider bound
  hxp perf --model mixtral --engine vllm --weights tiny     real vLLM on the CPU, a toy model
  hxp perf --model mixtral --target http://127.0.0.1:9000/v1 --api-model my-model --api-key-env MY_KEY
{_EXIT_CODES}"""
_CAPACITY_EXAMPLES = f"""\
examples:
  hxp capacity --model mixtral                  passes at ..., fails at ...: each end a verdict
  hxp capacity --model mixtral --expect 50rps   a gate: 0 reached, 1 not, 3 not certain
  hxp capacity --model mixtral --target http://127.0.0.1:9000/v1 --api-model my-model
{_EXIT_CODES}"""
_COMPARE_EXAMPLES = """\
examples:
  hxp compare reports/A reports/B               two stored runs of one profile; sends nothing
  hxp compare --model mixtral --target http://127.0.0.1:9000/v1 --target http://127.0.0.1:9001/v1
                                                two servers, taking turns
exit codes: 0 better, or no difference beyond the margin; 1 worse; 2 usage; 3 INCONCLUSIVE; 4 INVALID; 5 not ready"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command and option."""
    root = OptionsParser(
        prog="hxp",
        description="Judge an LLM serving stack: load it, measure it, and say PASS, FAIL, INCONCLUSIVE or INVALID.",
        epilog=_EXIT_CODES,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _perf(_command(commands, "perf", "run a profile and judge it", _PERF_EXAMPLES))
    _capacity(_command(commands, "capacity", "search the highest rate that passes", _CAPACITY_EXAMPLES))
    _compare(_command(commands, "compare", "say whether B is better or worse than A", _COMPARE_EXAMPLES))
    history = _command(commands, "history", "show where the figures of stored runs changed their level")
    history.add_argument("reports", type=Path, nargs="?", default=Path("reports"), metavar="DIR", help="of run folders")
    history.add_argument("--model", metavar="NAME", help="runs of this profile alone")
    history.add_argument("--margin", default="5 %", metavar="SHARE", help="a smaller change is none")
    judge = _command(commands, "judge", "judge a stored run again, under other gates if you like; sends nothing")
    judge.add_argument("run", type=Path, metavar="RUN_DIR", help="or, with --from, the result file of another tool")
    judge.add_argument(
        "--gate", action="append", default=[], metavar="SENTENCE", help="'e2e p95 <= 2000 ms'; repeatable"
    )
    judge.add_argument(
        "--from",
        dest="made_by",
        choices=("vllm-bench", "guidellm", "aiperf"),
        help="RUN_DIR is a result file of this tool: FAIL or INCONCLUSIVE, never PASS, for it lacks what a PASS needs",
    )
    judge.add_argument(
        "--client-proved", action="store_true", help="with --from: you vouch that the tool's client was not the limit"
    )
    judge.add_argument("--gates", type=Path, metavar="FILE", help="one gate a line, or a profile")
    judge.add_argument("--verify", action="store_true", help="first look whether the run's files are as it left them")
    explain = _command(commands, "explain", "tell how a run's verdict came about")
    explain.add_argument("run", type=Path, metavar="RUN_DIR")
    report = _command(commands, "report", "write the HTML, Markdown, JUnit and Allure views of a stored run again")
    report.add_argument("run", type=Path, metavar="RUN_DIR")
    report.add_argument(
        "--rosetta", action="store_true", help="print instead what other tools would have reported of this run"
    )
    certify = _command(commands, "certify", "prove that this machine can measure a profile's load")
    _profile_options(certify, required=False)
    _senders_options(certify)
    certify.add_argument("--out", type=Path, metavar="DIR", help="keep the evidence here")
    certify.add_argument(
        "--witness", action="store_true", help="only check the golden server's own log against strace, independently"
    )
    certify.add_argument(
        "--search-minutes",
        type=float,
        default=1.5,
        metavar="M",
        help="search the highest rate that this machine measures right, about so long; default: %(default)s",
    )
    _worker(_command(commands, "worker", "send this host's share of a load that another asks for with --hosts"))
    check = _command(commands, "selfcheck", "try the verdict on virtual servers whose truth is known")
    size = check.add_mutually_exclusive_group()
    size.add_argument("--power", action="store_true", help="fewer runs, and some as long as the planner asks for")
    size.add_argument(
        "--full",
        action="store_true",
        help="a thousand runs of each server, and more of the planner's: half an hour of each of two cores",
    )
    check.add_argument(
        "--traces", type=Path, metavar="FILE", help="only windows of this traces.parquet, recorded before"
    )
    check.add_argument("--page", type=Path, metavar="FILE", help="put the tables into this Markdown page, too")
    check.add_argument("--seed", type=int, default=1, metavar="N", help="default: %(default)s")
    return root


def _command(
    commands: argparse._SubParsersAction[OptionsParser], name: str, what: str, epilog: str = _EXIT_CODES
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=what, description=what, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _profile_options(command: argparse.ArgumentParser, *, required: bool = True) -> None:
    which = command.add_mutually_exclusive_group(required=required)
    which.add_argument(
        "--model", metavar="NAME", help="a profile by name: mixtral, hermes, openchat, phi3, api_gateway"
    )
    which.add_argument("--profile", type=Path, metavar="FILE", help="a profile of your own")


def _worker(worker: argparse.ArgumentParser) -> None:
    worker.add_argument(
        "--master", required=True, metavar="HOST:PORT", help="what hxp perf, capacity or certify has at --listen"
    )
    worker.add_argument("--clients", type=int, metavar="N", help="processes that send; default: the cores, less one")
    worker.add_argument("--name", default="", help="in messages and records; default: the host's name")
    worker.add_argument("--api-key-env", metavar="VAR", help="environment variable that holds the key of the target")


def _senders_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--clients",
        type=int,
        metavar="N",
        help="processes that share the load, a core each; default: by rate and cores",
    )
    command.add_argument(
        "--hosts", type=int, metavar="N", help="let N workers send the load: hxp worker, on other hosts"
    )
    command.add_argument(
        "--listen", metavar="HOST:PORT", help="with --hosts: where the workers join, reachable for them"
    )
    command.add_argument(
        "--web-port", type=int, default=0, metavar="PORT", help="Locust's page: here, with --hosts at --listen"
    )


def _perf(perf: argparse.ArgumentParser) -> None:
    _target_options(perf)
    perf.add_argument(
        "--quick", action="store_true", help="fewer, shorter replicates: a wider bound, so less is decided"
    )
    perf.add_argument("--baseline", type=Path, metavar="RUN_DIR", help="an older run; worse than it is a FAIL")
    perf.add_argument(
        "--rate", metavar="RATE", help="'20 rps' instead of the profile's: another contract, and labelled so"
    )
    perf.add_argument(
        "--max-minutes", type=float, metavar="M", help="of load; what is not decided by then is INCONCLUSIVE"
    )


def _capacity(capacity: argparse.ArgumentParser) -> None:
    _target_options(capacity)
    capacity.add_argument("--expect", metavar="RATE", help="'50rps': is it reached? the exit code says so")
    capacity.add_argument("--start", metavar="RATE", help="try this first; default: what the stack predicts")
    capacity.add_argument("--resolution", default="5 %", metavar="SHARE", help="how close the ends shall come")
    capacity.add_argument(
        "--max-minutes",
        type=float,
        metavar="N",
        help=f"begin no run after so long; default: {QUICK_SEARCH_MINUTES:g}, with --full none",
    )
    capacity.add_argument(
        "--full", action="store_true", help="verdicts of the profile's full length, not the quick ones"
    )


def _compare(compare: argparse.ArgumentParser) -> None:
    compare.add_argument("runs", type=Path, nargs="*", metavar="RUN_DIR", help="two stored runs, the older first")
    compare.add_argument("--target", action="append", default=[], metavar="URL", help="twice: A, then B")
    compare.add_argument("--api-model", action="append", default=[], metavar="NAME", help="once for both, or twice")
    compare.add_argument("--model", metavar="NAME", help="the profile by name, for targets")
    compare.add_argument("--profile", type=Path, metavar="FILE", help="the profile, for targets")
    _key_options(compare)
    compare.add_argument("--pairs", type=int, default=6, metavar="N", help="visits of each; default: %(default)s")
    compare.add_argument("--requests", type=int, metavar="N", help="measured requests a replicate of a visit")
    compare.add_argument("--margin", default="5 %", metavar="SHARE", help="a smaller difference is none")
    compare.add_argument("--out", type=Path, metavar="DIR", help="keep record and pages here")


def _key_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--api-key-env", metavar="VAR", help="environment variable that holds the key of --target")
    command.add_argument(
        "--tag-key",
        action="append",
        default=[],
        metavar="TAG=VAR",
        help="requests with this tag carry the key in this variable, or in a file: TAG=@FILE; repeatable",
    )


def _target_options(perf: argparse.ArgumentParser) -> None:
    _profile_options(perf)
    perf.add_argument("--engine", choices=("sim", "vllm"), default="sim", help="default: %(default)s")
    perf.add_argument(
        "--weights", choices=("real", "dummy", "tiny"), default="real", help="of vllm; default: %(default)s"
    )
    perf.add_argument("--target", metavar="URL", help="judge this server instead (OpenAI-compatible, ends in /v1)")
    perf.add_argument(
        "--api-model", metavar="NAME", help="the model's name at --target; default: the profile's service"
    )
    _key_options(perf)
    perf.add_argument("--metrics-url", metavar="URL", help="Prometheus page of --target; default: /metrics beside /v1")
    perf.add_argument("--through", choices=("gateway",), help="send the model's profile through the gateway")
    _senders_options(perf)
    perf.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; default: reports/RUN_ID")
    perf.add_argument("--replicates", type=int, metavar="N", help="instead of the profile's")
    perf.add_argument(
        "--requests", type=int, metavar="N", help="measured requests a replicate, instead of the profile's"
    )
    perf.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of the embedded models; repeatable"
    )
    perf.add_argument("--seed", type=int, metavar="N", help="instead of the profile's")
    perf.add_argument("--require-hardware", action="store_true", help="refuse a simulated or tiny run as evidence")
