"""Workers on this machine send whatever a command asks for: the way to try several hosts with one."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

from tests.hxp_harness.run.conftest import program, run_program, write_profile


def test_a_certificate_of_workers_needs_no_target(tmp_path: Path) -> None:
    """The golden server listens where the workers join; the certificate and its search are theirs, and they go home."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    join = program("worker", "--master", listen, "--clients", "2", "--name", "here")
    words = ("certify", "--profile", str(write_profile(tmp_path)), "--search-minutes", "0.01", "--out", "proof")
    with subprocess.Popen(join, stderr=subprocess.PIPE, text=True) as worker:
        try:
            done = run_program(tmp_path, *words, "--hosts", "1", "--listen", listen)
            _, said = worker.communicate(timeout=30)
        finally:
            worker.kill()

    certificate = json.loads((tmp_path / "proof" / "certificate-before.json").read_text(encoding="utf-8"))
    assert done.code == (0 if certificate["ok"] else 4), done.err
    assert certificate["fidelity"]["clients"] == 2
    assert [bool(one["points"]) for one in certificate["ceilings"]] == [True, True]
    assert "worker here joined, 2 clients" in done.err
    assert (worker.returncode, "the master is done" in said) == (0, True)
