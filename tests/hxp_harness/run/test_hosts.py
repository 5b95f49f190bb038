"""Whole runs whose load comes from two hosts: network namespaces of their own, one with another clock."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.hxp_harness.run.conftest import program, write_profile

# 198.18.0.0/15 is set aside for measurements (RFC 2544); nothing outside the namespaces has an address of it.
MASTER, PORT = "198.18.1.1", 5557
ROUNDING_S = 1e-9
SHIFT_S = 1000
INVALID = 4


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def why_not() -> str:
    """Return why this machine cannot make namespaces, or nothing."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    missing = [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is not here"
    name = f"hxp-try-{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("netns", "delete", name)
        subprocess.run(["unshare", "-T", "--monotonic", "1", "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        return f"this kernel does not let us: {error.stderr}"
    return ""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Three namespaces: the master's, with the target, and two workers', each with a wire to the master's."""

    prefix: str

    def inside(self, host: str, argv: list[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.prefix}-{host}", *argv]

    def cut(self, host: str) -> None:
        """Cut the wire of a worker."""
        ip("-n", f"{self.prefix}-{host}", "link", "set", "wire", "down")


def sweep() -> None:
    """Delete the namespaces of test processes that were killed before they could."""
    for file in Path("/run/netns").glob("hxp-*"):
        found = re.fullmatch(r"hxp-(?:try-)?(\d+)(?:-[mab])?", file.name)
        if found and not psutil.pid_exists(int(found[1])):
            subprocess.run(["ip", "netns", "delete", file.name], check=False)  # another process may be at it too


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Wire three hosts together; afterwards nothing is left of them, nor of others' that were killed."""
    if reason := why_not():
        pytest.skip(reason)  # not root, or a kernel without network or time namespaces
    made = Hosts(f"hxp-{os.getpid()}")
    with ExitStack() as stack:
        sweep()
        stack.callback(sweep)
        for host in ("m", "a", "b"):
            ip("netns", "add", f"{made.prefix}-{host}")
            stack.callback(ip, "netns", "delete", f"{made.prefix}-{host}")
            ip("-n", f"{made.prefix}-{host}", "link", "set", "lo", "up")
        for host, ours, theirs in (("a", MASTER, "198.18.1.2"), ("b", "198.18.1.5", "198.18.1.6")):
            there = f"{made.prefix}-{host}"
            ip(
                "-n",
                f"{made.prefix}-m",
                "link",
                "add",
                "name",
                f"to-{host}",
                "type",
                "veth",
                "peer",
                "name",
                "wire",
                "netns",
                there,
            )
            ip("-n", f"{made.prefix}-m", "address", "add", f"{ours}/30", "dev", f"to-{host}")
            ip("-n", f"{made.prefix}-m", "link", "set", f"to-{host}", "up")
            ip("-n", there, "address", "add", f"{theirs}/30", "dev", "wire")
            ip("-n", there, "link", "set", "wire", "up")
            ip("-n", there, "route", "add", "default", "via", ours)
        yield made


@contextmanager
def started(argv: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program while the context lasts; it leaves nothing behind."""
    with subprocess.Popen(argv, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def run_on(
    hosts: Hosts, folder: Path, *, at: str = "", then: Callable[[], None] = lambda: None
) -> tuple[int, str, list[int], dict[str, Any]]:
    """Run the small profile from two workers, do `then` when the master says `at`; return how all ended."""
    server = [
        sys.executable,
        "-m",
        "hxp_harness.certify.golden",
        "--host",
        MASTER,
        "--ttft-s",
        "0.02",
        "--itl-s",
        "0.002",
    ]
    with ExitStack() as stack:
        target = stack.enter_context(
            started(hosts.inside("m", server), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        )
        assert target.stdout is not None
        base_url = json.loads(target.stdout.readline())["base_url"]
        join = program("worker", "--master", f"{MASTER}:{PORT}", "--clients", "1")
        shifted = ["unshare", "-T", "--monotonic", str(SHIFT_S), *join, "--name", "a"]
        workers = [
            stack.enter_context(started(hosts.inside(host, argv), stderr=subprocess.DEVNULL))
            for host, argv in (("a", shifted), ("b", [*join, "--name", "b"]))
        ]
        words = [
            "--profile",
            str(write_profile(folder)),
            "--target",
            base_url,
            "--api-model",
            "golden",
            "--requests",
            "60",
        ]
        words += ["--hosts", "2", "--listen", f"{MASTER}:{PORT}", "--out", str(folder / "run")]
        run = stack.enter_context(
            started(hosts.inside("m", program("perf", *words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        assert run.stderr is not None
        assert run.stdout is not None
        said = ""
        family = [psutil.Process(process.pid) for process in (run, *workers)]
        for line in run.stderr:
            said += line
            if at and at in line:
                family += [child for one in family for child in one.children(recursive=True)]
                then()
        said += run.stdout.read()
        codes = [process.wait(60) for process in (run, *workers)]
        assert psutil.wait_procs(family, timeout=20)[1] == []
    record = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    return codes[0], said, codes[1:], record


def test_what_a_killed_test_left_is_swept_up(hosts: Hosts) -> None:
    """A namespace of a process that is gone is deleted, one of a process that lives is not."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    ip("netns", "add", f"hxp-{gone.pid}-a")
    sweep()
    left = [file.name for file in Path("/run/netns").iterdir()]
    assert f"hxp-{gone.pid}-a" not in left
    assert f"{hosts.prefix}-a" in left


def test_two_hosts_are_one_instrument(tmp_path: Path, hosts: Hosts) -> None:
    """The load of two hosts is certified and judged as one; a clock 1000 s ahead is known as exactly as stated."""
    code, said, ends, record = run_on(hosts, tmp_path)

    assert record["verdict"] in {"PASS", "INVALID"}, said  # INVALID: the machine was too busy, and the record says so
    assert code == (0 if record["verdict"] == "PASS" else INVALID)
    assert ends == [0, 0]
    a, b = record["load"]["hosts"]
    assert [(one["name"], one["lost"], one["requests"] - one["traced"]) for one in (a, b)] == [
        ("a", "", 0),
        ("b", "", 0),
    ]
    assert abs(a["offset_s"] - SHIFT_S) <= a["uncertainty_s"] < 0.1
    assert (b["offset_s"], b["uncertainty_s"]) == (0.0, 0.0)
    before, after = (record["certificate"][when] for when in ("before", "after"))
    assert 0 < before["clocks_apart_s"] < 0.1
    assert before["errors"]["ttft"]["width_p99_s"] >= 2 * before["clocks_apart_s"] - ROUNDING_S
    assert after is not None
    checks = {check["name"]: check for check in record["checks"]}
    assert checks["workers stayed"]["outcome"] == "ok"
    assert checks["workers in step"]["outcome"] == "ok"
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert sorted(one["name"] for one in manifest["load"]["hosts"]) == ["a", "b"]


def test_a_cut_wire_is_a_lost_worker(tmp_path: Path, hosts: Hosts) -> None:
    """The run is INVALID and says which worker was lost and how many requests it had; what was measured is kept."""
    code, said, ends, record = run_on(hosts, tmp_path, at="replicate 1 of 2", then=lambda: hosts.cut("b"))

    assert (code, record["verdict"]) == (INVALID, "INVALID"), said
    a, b = record["load"]["hosts"]
    assert a["lost"] == ""
    assert b["lost"].startswith("nothing heard of it for ")
    checks = {check["name"]: check for check in record["checks"]}
    assert checks["workers stayed"]["outcome"] == "failed"
    told = checks["workers stayed"]["sentence"]
    assert told.startswith("Worker b was lost (nothing heard of it for ")
    assert told.endswith(f"it had {b['requests']} requests, and {b['traced']} traces of them came back.")
    assert "Worker b was lost" in said
    assert 0 < b["traced"] < b["requests"]
    assert record["certificate"]["after"] is None
    assert ends == [0, 5]


def test_ctrl_c_ends_the_load_of_every_host(tmp_path: Path, hosts: Hosts) -> None:
    """The load stops everywhere, what was measured is kept and INVALID, and the workers go home."""

    def interrupt() -> None:
        (run,) = [one for one in psutil.Process().children() if "--hosts" in one.cmdline()]
        run.send_signal(2)

    code, said, ends, record = run_on(hosts, tmp_path, at="replicate 1 of 2", then=interrupt)

    assert (code, record["verdict"]) == (INVALID, "INVALID"), said
    assert "stopped by hand" in said
    assert [one["lost"] for one in record["load"]["hosts"]] == ["", ""]
    assert sum(one["traced"] for one in record["load"]["hosts"]) > 0
    assert ends == [0, 0]
