"""The `hxp-stack` program."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reference_stack.arguments import parser
from reference_stack.errors import SettingsError, StackError

if TYPE_CHECKING:
    from reference_stack.orchestration.deployment.want import Want

CACHE = Path(".hxp/cache")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hxp-stack`; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(words)
    try:
        code = _run(options, words[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough: head, or a closed pager
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except StackError as error:
        print(f"hxp-stack: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("hxp-stack: stopped", file=sys.stderr)
        return 130
    return code


def _run(options: argparse.Namespace, words: Sequence[str]) -> int:
    commands: Mapping[str, Callable[[argparse.Namespace], int]] = {
        "serve": _serve,
        "plan": _forecast,
        "simulate": _forecast,
        "calibrate": _calibrate,
        "tools": _tools,
        "config": _config,
        "storage": _storage,
        "metrics": _metrics,
        "documents": _documents,
        "history": _history,
        "gateway": _gateway,
        "usage": _usage,
        "keys": _keys,
        "down": _down,
        "status": _status,
    }
    return _up(options, words) if options.command == "up" else commands[options.command](options)


def _history(options: argparse.Namespace) -> int:
    from reference_stack.history.command import Asked, history

    if options.limit < 1:
        raise SettingsError(f"--limit {options.limit} is no number of runs", hint="for example --limit 10")
    if (options.action == "search") != bool(options.question.strip()):
        hint = 'hxp-stack history search "slow first token on mixtral", or hxp-stack history list'
        raise SettingsError("a search needs a text, and a list takes none", hint=hint)
    told = (options.runs, options.folder, options.question, options.service, options.verdict)
    return history(Asked(*told, options.limit, options.json))


def _documents(options: argparse.Namespace) -> int:
    from reference_stack.orchestration.documenting import Asked, run

    told = (options.action, options.store, tuple(options.names), options.tenant, tuple(options.attributes))
    return run(Asked(*told, options.settings, options.folder, options.json))


def _gateway(options: argparse.Namespace) -> int:
    from reference_stack.orchestration.commanding import run

    return run(options.action, options.folder, options.control, as_json=options.json)


def _usage(options: argparse.Namespace) -> int:
    from reference_stack.usage.command import Asked, usage

    by = tuple(name for name in ("key", "tenant", "model") if name in options.by or not options.by)
    times = (options.since, options.until)
    return usage(Asked(options.folder, options.settings, by, *times, options.json, options.store_parked))


def _keys(options: argparse.Namespace) -> int:
    from reference_stack.orchestration.keying import Asked, run

    given = vars(options)
    return run(Asked(**{name: given[name] for name in Asked.__dataclass_fields__}))


def _down(options: argparse.Namespace) -> int:
    from reference_stack.orchestration.operational import down

    return down(options.folder)


def _status(options: argparse.Namespace) -> int:
    if options.watch:
        from reference_stack.orchestration.watching import watch

        return watch(options.folder)
    from reference_stack.orchestration.operational import status

    return status(options.folder, as_json=options.json)


def _up(options: argparse.Namespace, words: Sequence[str]) -> int:
    want = _want(options)
    if options.foreground:
        from reference_stack.orchestration.foreground import run

        return run(want, as_json=options.json, until_eof=options.json and not options.detached)
    if options.json:
        raise SettingsError("--json needs --foreground", hint="hxp-stack status --json tells of a running stack")
    from reference_stack.orchestration.operational import up

    return up(options.folder, words)


def _metrics(options: argparse.Namespace) -> int:
    from reference_stack.orchestration.metering import Asked, run

    return run(Asked(options.action, options.host, options.env, options.out, tuple(options.assignments)))


def _storage(options: argparse.Namespace) -> int:
    from reference_stack.orchestration.storing import Asked, run

    return run(
        Asked(
            options.action,
            options.models,
            options.runs,
            tuple(options.names),
            options.name,
            options.to,
            options.keep,
            options.days,
            options.json,
        )
    )


def _config(options: argparse.Namespace) -> int:
    from reference_stack.orchestration.configuring import Asked, run

    return run(
        Asked(
            options.action,
            tuple(options.names),
            options.env,
            options.host_file,
            tuple(options.assignments),
            options.origin,
            options.json,
            options.folder,
        )
    )


def _forecast(options: argparse.Namespace) -> int:
    from reference_stack.orchestration.forecast import Question, plan, write_traces

    question = Question(options.model, options.profile, options.device, options.precision)
    if options.command == "plan":
        return plan(question, as_json=options.json)
    return write_traces(question, options.out, options.seed)


def _calibrate(options: argparse.Namespace) -> int:
    from reference_stack.orchestration.calibration import Asked, calibrate

    return calibrate(
        Asked(
            options.device,
            tuple(options.runs),
            tuple(options.check),
            tuple(options.model),
            options.weights,
            options.folder,
            options.out,
            options.evaluations,
        )
    )


def _want(options: argparse.Namespace) -> Want:
    from reference_stack.orchestration.deployment.want import Want
    from reference_stack.schemas.configuration.environments import find_environment
    from reference_stack.schemas.configuration.workload import parse_contract

    settings = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"{text!r} is not KEY=VALUE", hint="for example --set device=l40s")
        settings[key] = value
    return Want(
        folder=options.folder.absolute(),
        cache=CACHE.absolute(),
        services=tuple(options.only),
        engine=options.engine,
        weights=options.weights,
        ports=options.ports,
        mock=options.mock,
        options=settings,
        contract=options.contract and parse_contract(options.contract),
        environment=options.env and find_environment(options.env),
        host_file=options.host_file,
    )


def _tools(options: argparse.Namespace) -> int:
    if options.vllm is None:
        from reference_stack.services.integration.metrics.embedded import fetch

        print(f"Prometheus is at {fetch(CACHE.absolute())}")
        return 0
    from reference_stack.services.ai_models.engine import install_vllm
    from reference_stack.services.ai_models.gpu import find_gpus

    kind: Literal["cpu", "gpu"] = "gpu" if options.vllm == "gpu" or (options.vllm == "auto" and find_gpus()) else "cpu"
    command = install_vllm(kind, CACHE.absolute(), lambda text: print(text, flush=True))
    print(f"vLLM is at {command}")
    return 0


def _serve(options: argparse.Namespace) -> int:
    from reference_stack.serve import serve_file

    where = {"host": options.host, "port": options.port, "fd": options.fd}
    return serve_file(options.name, options.settings, tuple(options.assignments), **where)


if __name__ == "__main__":
    sys.exit(main())
