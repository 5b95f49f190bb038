"""What engineers type: `nox -s component`, `nox -s perf -- --model mixtral`; plain `nox` runs what CI runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = [
    "lint",
    "types",
    "tests",
    "selfcheck",
    "component",
    "service",
    "integration",
    "security",
    "supply",
    "docs",
    "build",
    "conformance",
    "conformance_tiny",
    "perf_sim",
    "perf_tiny",
]
PARALLEL = ("-n", "2", "--dist", "loadgroup")


def install(session: nox.Session, lock: str) -> None:
    """Install one lock file, hashes checked, and this checkout on top of it.

    Everything is compiled once: where Python is told not to keep bytecode, each of the many processes that a suite
    starts would compile hundreds of modules.
    """
    session.env.update({"UV_COMPILE_BYTECODE": "1", "PYTHONDONTWRITEBYTECODE": ""})
    session.install("--require-hashes", "-r", f"locks/{lock}.txt")
    session.install("--no-deps", "--no-build-isolation", "-e", ".")


def suite(session: nox.Session, name: str, *options: str) -> None:
    """Run one suite against the bundled stack, or any other: -- --target URL"""
    install(session, "dev")
    views = (f"--alluredir=reports/allure/{session.name}", f"--junitxml=reports/junit/{session.name}.xml")
    session.run("pytest", f"suites/{name}", *options, *views, *session.posargs)


def run_to_the_end(argv: list[str], environ: Mapping[str, str | None]) -> int:
    """Return the exit code of `argv`, which handles Ctrl-C itself and must not be cut off meanwhile."""
    changed = {name: value for name, value in environ.items() if value is not None}
    with subprocess.Popen(argv, env=os.environ | changed) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue


@nox.session
def component(session: nox.Session) -> None:
    """Every service alone, its neighbours mocked: no GPU, no network, under a minute."""
    suite(session, "component", *PARALLEL)


@nox.session
def service(session: nox.Session) -> None:
    """One service at a time with its real backend."""
    suite(session, "service")


@nox.session
def integration(session: nox.Session) -> None:
    """Several services together: gateway, model, database, cache, metrics."""
    suite(session, "integration")


@nox.session
def security(session: nox.Session) -> None:
    """Who gets in, what bad input does, and what bandit says of the code."""
    suite(session, "security")
    session.run("bandit", "-q", "-ll", "-c", "pyproject.toml", "-r", "hxp_harness", "reference_stack")


@nox.session
def supply(session: nox.Session) -> None:
    """A bill of materials of what the package brings (reports/sbom.json), and no secret in any file of the checkout."""
    session.install("--require-hashes", "-r", "locks/supply.txt")
    session.run("cyclonedx-py", "requirements", "locks/run.txt", "--output-reproducible", "-o", "reports/sbom.json")
    listed = str(session.run("git", "ls-files", external=True, silent=True, log=False))
    # Hashes of locks and what real vLLM answered look like keys. Nothing found is tried out: that would be a request.
    files = [name for name in listed.splitlines() if not name.startswith("locks/") and "/data/" not in name]
    session.run("detect-secrets-hook", "--no-verify", *files, log=False)


@nox.session
def conformance(session: nox.Session) -> None:
    """Whether an engine answers as vLLM does: the simulation, -- --engine vllm --weights tiny, or -- --target URL"""
    suite(session, "conformance")


@nox.session
def conformance_tiny(session: nox.Session) -> None:
    """The same questions, asked of real vLLM with tiny models on the CPU, as CI does it."""
    # One seed: a new difference is found by the session fuzz, not by whoever changes something else.
    suite(session, "conformance", "--engine", "vllm", "--weights", "tiny", "--fuzz-seed", "79")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Generated requests to real vLLM and to the simulation, compared: -- --fuzz-seed N --fuzz-cases 5000"""
    options = ("--engine", "vllm", "--weights", "tiny", "--fuzz-cases", "2500", "--fuzz-minutes", "10")
    suite(session, "conformance/fuzz", *options)


@nox.session
def gateway_kill(session: nox.Session) -> None:
    """60 SIGKILLs of the gateway and 24 crashes of PostgreSQL under load: no usage row is lost, doubled or wrong."""
    install(session, "dev")
    env = {"HXP_KILL_SIZE": os.environ.get("HXP_KILL_SIZE", "night")}
    session.run("pytest", "-s", "tests/reference_stack/kill", *session.posargs, env=env)


@nox.session
def outage(session: nox.Session) -> None:
    """PostgreSQL away, hung, slow (+500 ms) and full, a minute each: what callers get, and that no row is lost."""
    install(session, "dev")
    test = "tests/reference_stack/kill/test_outage.py"
    session.run("pytest", "-s", "-n", "0", test, *session.posargs, env={"HXP_OUTAGE_S": "60"})


@nox.session
def faults(session: nox.Session) -> None:
    """Each service through every fault of its server, ten seconds each: what callers get, and how soon it heals."""
    install(session, "dev")
    test = "tests/reference_stack/integration/test_every_fault.py"
    session.run("pytest", "-s", "-n", "0", test, *session.posargs, env={"HXP_FAULT_S": "10"})


@nox.session
def gateway_fuzz(session: nox.Session) -> None:
    """Both paths of the gateway compared by 5,000 generated connections (or -- 20000), and long forms of the like."""
    install(session, "dev")
    count = session.posargs[0] if session.posargs else "5000"
    tests = [f"tests/reference_stack/infrastructure/test_gateway_{name}.py" for name in ("paths", "pressure")]
    session.run("pytest", *tests, "-n", "0", env={"HXP_GATEWAY_CASES": count})


@nox.session
def perf(session: nox.Session) -> None:
    """Run one performance profile and judge it: nox -s perf -- --model mixtral"""
    install(session, "run")
    code = run_to_the_end([f"{session.bin}/hxp", "perf", *session.posargs], session.env)
    if code:  # session.run would make every verdict a 1
        sys.exit(code)


@nox.session
def tests(session: nox.Session) -> None:
    """Tests of this repository's own code, with branch coverage."""
    install(session, "dev")
    session.run("coverage", "erase")
    # Without apt-get there is no Prometheus to fetch; what needs it is then skipped, and the summary says so.
    session.run("hxp-stack", "tools", success_codes=range(6))
    session.run("python", "tests/browser.py", success_codes=range(6))  # the same of Chromium
    cover = () if session.posargs else ("--cov", "--cov-report=term-missing:skip-covered")  # a part covers a part
    # Three on two cores: whole runs are among them, which wait for their load most of the time.
    session.run(
        "pytest", "-n", "3", "--dist", "loadgroup", *cover, "--junitxml=reports/junit/tests.xml", *session.posargs
    )


@nox.session
def gateway_process(session: nox.Session) -> None:
    """Restart, kill and drain the gateway's workers under load, longer than the tests do."""
    install(session, "dev")
    session.env["GATEWAY_PROCESS_SIZE"] = os.environ.get("GATEWAY_PROCESS_SIZE", "nightly")
    files = [f"tests/reference_stack/infrastructure/test_gateway_{part}.py" for part in ("workers", "reload")]
    session.run("pytest", *files, *session.posargs)


@nox.session
def selfcheck(session: nox.Session) -> None:
    """Try the verdict on virtual servers whose truth is known; -- --full makes the table of the docs."""
    install(session, "run")
    session.run("hxp", "selfcheck", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Who tests the tester: every check fails the thing that is broken for it. The short form is among the tests."""
    install(session, "dev")
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session
def gateway_endurance(session: nox.Session) -> None:
    """A million requests through the gateway: its memory stays as it is. The short form is among the tests."""
    install(session, "dev")
    env = {"HXP_ENDURANCE_REQUESTS": os.environ.get("HXP_ENDURANCE_REQUESTS", "1000000")}
    session.run("pytest", "tests/benchmarks/test_endurance.py", *session.posargs, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, security rules and the arrows between modules."""
    install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types: mypy strict, without exceptions."""
    install(session, "dev")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    install(session, "dev")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel, and use it in an empty project elsewhere."""
    session.install("--require-hashes", "-r", "locks/run.txt")
    session.run("python", "-m", "build", "--no-isolation", "--outdir", "dist")
    wheel = max(Path("dist").glob("*.whl"), key=lambda file: file.stat().st_mtime)
    session.install("--no-deps", "--force-reinstall", str(wheel))
    session.run("python", ".ci/empty_project.py")


@nox.session
def perf_sim(session: nox.Session) -> None:
    """A short performance run on the simulation, as CI does it."""
    install(session, "run")
    session.run("python", ".ci/short_perf.py", "sim", *session.posargs)


@nox.session
def perf_tiny(session: nox.Session) -> None:
    """A short performance run on real vLLM with a tiny model on the CPU, as CI does it."""
    install(session, "run")
    session.run("python", ".ci/short_perf.py", "tiny", *session.posargs)


if __name__ == "__main__":
    sys.exit("run nox, not this file: ./nox --list")
