"""What `hxp-stack` takes on its command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from reference_stack.options_parser import OptionsParser

FOLDER = Path(".hxp/stack")


def parser() -> argparse.ArgumentParser:
    """Return the command line of `hxp-stack`."""
    top = OptionsParser(prog="hxp-stack", description="Runs the reference stack, or one service of it.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_up(commands.add_parser("up", help="start the stack; return when it serves"))
    _add_forecasts(commands.add_parser("plan", help="predict what the models can meet"), to_file=False)
    _add_forecasts(commands.add_parser("simulate", help="write the traces that a profile would have"), to_file=True)
    _add_calibrate(commands.add_parser("calibrate", help="fit a device's constants to runs that were measured on it"))
    tools = commands.add_parser("tools", help="fetch what cannot come with the package: Prometheus, or vLLM")
    tools.add_argument(
        "--vllm", choices=("auto", "cpu", "gpu"), help="vLLM's environment instead; auto: as --engine vllm"
    )
    _add_metrics(commands.add_parser("metrics", help="what Prometheus and Grafana are given"))
    _add_storage(commands.add_parser("storage", help="bring in, verify, keep, export and clear artefacts"))
    _add_config(commands.add_parser("config", help="show, check and compare what the services are set to"))
    _add_keys(commands.add_parser("keys", help="make, show, limit, rotate and revoke the gateway's keys"))
    _add_documents(commands.add_parser("documents", help="put in, list and remove what the gateway's clients search"))
    _add_history(commands.add_parser("history", help="list past runs, or search them in plain words"))
    gateway = commands.add_parser("gateway", help="renew, reload, drain or show the workers of a running gateway")
    gateway.add_argument("action", choices=("status", "restart", "reload", "drain"))
    gateway.add_argument("--control", type=Path, metavar="FILE", help="its process.control, if no stack started it")
    gateway.add_argument("--json", action="store_true", help="with status: one line of JSON instead of a table")
    _add_usage(commands.add_parser("usage", help="what was used, by key, tenant and model"))
    down = commands.add_parser("down", help="stop the stack")
    status = commands.add_parser("status", help="show what runs; exit 5 if something is down")
    status.add_argument("--watch", action="store_true", help="again every second, with health and alerts, until Ctrl-C")
    status.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    for command in (down, status, gateway):
        command.add_argument("--folder", type=Path, default=FOLDER, help="where the stack keeps its files")
    serve = commands.add_parser("serve", help="run one service in the foreground")
    serve.add_argument("name", help="mixtral ... metrics")
    serve.add_argument("--settings", type=Path, metavar="FILE", help="YAML or JSON")
    serve.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, help="the documented one unless given; 0: a free one")
    serve.add_argument("--fd", type=int, help="serve on this listening socket, inherited")
    return top


def _add_up(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this service and its needs; repeatable"
    )
    up.add_argument("--engine", choices=("sim", "vllm"), default="sim")
    up.add_argument("--weights", choices=("real", "dummy", "tiny"), default="real")
    up.add_argument("--ports", choices=("documented", "free"), default="documented")
    up.add_argument("--mock", action="store_true", help="integration services keep everything in memory")
    up.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the models")
    up.add_argument("--contract", metavar="JSON", help="what will be asked of the models: they predict themselves")
    up.add_argument("--env", metavar="NAME", help="an environment by name, or its file; hxp-stack config shows it")
    up.add_argument("--host-file", type=Path, metavar="FILE", help="settings of this host; they win over --env")
    up.add_argument("--folder", type=Path, default=FOLDER, help="where the stack keeps its files")
    up.add_argument("--foreground", action="store_true", help="stay, and stop with this command")
    up.add_argument("--json", action="store_true", help="with --foreground: one line of JSON when it serves")
    up.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)


def _add_metrics(metrics: argparse.ArgumentParser) -> None:
    metrics.add_argument("action", choices=("scrape", "rules", "dashboards", "push"))
    metrics.add_argument("--host", default="127.0.0.1", help="with scrape: where the services are")
    metrics.add_argument("--out", type=Path, metavar="DIR", help="write files there instead of printing them")
    metrics.add_argument("--env", metavar="NAME", help="an environment by name, or its file")
    metrics.add_argument("--set", action="append", default=[], metavar="SERVICE.KEY=VALUE", dest="assignments")


def _add_storage(storage: argparse.ArgumentParser) -> None:
    storage.add_argument("action", choices=("list", "import", "verify", "put", "export", "gc"))
    storage.add_argument("names", nargs="*", metavar="NAME", help="folders (import, put) or models and runs")
    storage.add_argument("--models", type=Path, default=Path(".hxp/models"), metavar="DIR", help="one folder a model")
    storage.add_argument("--runs", default=".hxp/runs", metavar="DIR", help="the store of runs, or s3://BUCKET/PREFIX")
    storage.add_argument("--name", default="", help="with import and put: what it is called from then on")
    storage.add_argument("--to", default="", metavar="URL", help="with export: a folder, or s3://BUCKET/PREFIX")
    storage.add_argument("--keep", type=int, metavar="N", help="with gc: forget all runs but the newest N")
    storage.add_argument("--days", type=float, metavar="N", help="with gc: forget runs that are older")
    storage.add_argument("--json", action="store_true", help="with list: one line of JSON")


def _add_config(config: argparse.ArgumentParser) -> None:
    config.add_argument("action", choices=("show", "validate", "diff", "schema", "watch", "reload"))
    config.add_argument(
        "names", nargs="*", metavar="NAME", help="services (show, schema) or environments (validate, diff)"
    )
    config.add_argument("--env", metavar="NAME", help="an environment by name, or its file: local, ci, gpu-server, ...")
    config.add_argument("--host-file", type=Path, metavar="FILE", help="settings of this host; they win over --env")
    config.add_argument("--set", action="append", default=[], metavar="SERVICE.KEY=VALUE", dest="assignments")
    config.add_argument("--folder", type=Path, default=FOLDER, help="with reload: where the stack keeps its files")
    config.add_argument("--origin", action="store_true", help="who set each value: file and line, variable or option")
    config.add_argument("--json", action="store_true", help="JSON instead of lines")


def _add_forecasts(command: argparse.ArgumentParser, *, to_file: bool) -> None:
    which = command.add_mutually_exclusive_group(required=to_file)
    which.add_argument("--profile", type=Path, metavar="FILE", help="a profile file")
    which.add_argument("--model", metavar="NAME", help="a profile by name: mixtral, mixtral_512, hermes, ...")
    command.add_argument("--device", default="h200", metavar="NAME", help="h200 (the default), h100, a100, l40s, cpu")
    command.add_argument("--precision", metavar="NAME", help="bf16, fp8 or int4; the model's own unless given")
    if to_file:
        command.add_argument("--seed", type=int, metavar="N", help="of the arrivals; the profile's unless given")
        command.add_argument("--out", type=Path, required=True, metavar="FILE", help="one line of JSON a request")
    else:
        command.add_argument("--json", action="store_true", help="one line of JSON instead of a table")


def _add_calibrate(calibrate: argparse.ArgumentParser) -> None:
    calibrate.description = "Fit a device's constants to measured runs; without any, start the models and measure them."
    calibrate.add_argument("runs", nargs="*", type=Path, metavar="RUN_DIR", help="a measured run, or a folder of them")
    calibrate.add_argument("--device", required=True, metavar="NAME", help="h200, h100, a100, l40s, cpu, or a file")
    calibrate.add_argument("--check", action="append", default=[], type=Path, metavar="RUN_DIR", help="test it on this")
    calibrate.add_argument("--model", action="append", default=[], metavar="NAME", help="measure this one; repeatable")
    calibrate.add_argument("--weights", choices=("real", "dummy", "tiny"), default="dummy", help="to measure with")
    calibrate.add_argument("--folder", type=Path, default=Path("reports/calibration"), help="where measured runs go")
    calibrate.add_argument("--out", type=Path, metavar="FILE", help="write the calibrated device here (YAML)")
    calibrate.add_argument("--evaluations", type=int, default=200, metavar="N", help="tries of the fit at most")


def _add_usage(usage: argparse.ArgumentParser) -> None:
    usage.add_argument("--since", default="", metavar="TIME", help="a date, a date and time (UTC), or 24h, 7d ago")
    usage.add_argument("--until", default="", metavar="TIME", help="the same; the time itself is not in it")
    usage.add_argument(
        "--by", action="append", default=[], choices=("key", "tenant", "model"), help="sum by this; repeatable"
    )
    usage.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    usage.add_argument("--store-parked", action="store_true", help="first try again to store rows that were refused")
    usage.add_argument("--settings", type=Path, metavar="FILE", help="those of a gateway that this stack did not start")
    usage.add_argument("--folder", type=Path, default=FOLDER, help="where the stack keeps its files")


def _add_keys(keys: argparse.ArgumentParser) -> None:
    keys.add_argument("action", choices=("create", "list", "show", "limit", "rotate", "revoke"))
    keys.add_argument("name", nargs="?", default="", metavar="ID", help="the key's id; made up with create")
    keys.add_argument("--label", metavar="TEXT", help="what the key is for")
    keys.add_argument("--tenant", metavar="NAME", help="whose it is; with list: only these")
    keys.add_argument("--model", action="append", metavar="NAME", help="what it may use: all unless given; repeatable")
    keys.add_argument("--rpm", metavar="N", help="requests a minute; none: no limit")
    keys.add_argument("--tpm", metavar="N", help="tokens a minute, prompt and output; none: no limit")
    keys.add_argument("--concurrent", metavar="N", help="requests at a time; none: no limit")
    keys.add_argument("--budget", metavar="N", help="tokens for the key's whole life; none: no limit")
    keys.add_argument("--taken", metavar="N", help="with limit: so many tokens of the budget are taken")
    keys.add_argument("--answers", choices=("off", "exact", "sampled"), help="which answers may be kept ones")
    keys.add_argument("--expires", metavar="WHEN", help="30d, 12h, 2027-01-31, a time with its zone, or never")
    keys.add_argument("--grace", default="0s", metavar="TIME", help="with rotate: the secret before lives on, 1h or 7d")
    keys.add_argument("--settings", type=Path, metavar="FILE", help="the gateway's settings; else those of --folder")
    keys.add_argument("--folder", type=Path, default=FOLDER, help="where the stack keeps its files")
    keys.add_argument("--json", action="store_true", help="JSON: one line a key")


def _add_documents(documents: argparse.ArgumentParser) -> None:
    documents.add_argument("action", choices=("add", "list", "remove"))
    documents.add_argument("store", metavar="STORE", help="one of the gateway's retrieval.stores")
    documents.add_argument("names", nargs="*", metavar="NAME", help="text files (add), or ids of documents (remove)")
    documents.add_argument("--tenant", required=True, metavar="NAME", help="whose documents they are")
    documents.add_argument(
        "--attribute",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="attributes",
        help="searches may filter by it",
    )
    documents.add_argument(
        "--settings", type=Path, metavar="FILE", help="the gateway's settings; else those of --folder"
    )
    documents.add_argument("--folder", type=Path, default=FOLDER, help="where the stack keeps its files")
    documents.add_argument("--json", action="store_true", help="one line of JSON a document")


def _add_history(history: argparse.ArgumentParser) -> None:
    history.add_argument("action", choices=("list", "search"))
    history.add_argument("question", nargs="?", default="", metavar="TEXT", help="with search: what to look for")
    history.add_argument("--runs", type=Path, default=Path("reports"), metavar="DIR", help="the folder of run folders")
    history.add_argument("--service", default="", metavar="NAME", help="runs of this service only")
    history.add_argument("--verdict", default="", choices=("PASS", "FAIL", "INCONCLUSIVE", "INVALID"))
    history.add_argument("--limit", type=int, default=10, metavar="N", help="at most so many")
    history.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    history.add_argument("--folder", type=Path, default=FOLDER, help="the stack that remembers, if it runs")
