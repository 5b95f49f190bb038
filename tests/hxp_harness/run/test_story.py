"""A profile in, a verdict out: the exit code, the record and the views, whatever the verdict."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

from hxp_harness.metrics.table import TraceTable
from tests.hxp_harness.run.conftest import Done, run_program, run_small, write_profile

VIEWS = {"report.html", "report.md", "junit.xml", "allure-results", "run.json", "traces.parquet", "profile.yaml"}


def test_a_server_within_its_limits_passes(passed: Done) -> None:
    """A fast server passes with exit code 0, and every view of the record is written."""
    done = passed

    assert done.code == 0, done.err + done.out
    assert done.record["verdict"] == "PASS"
    assert done.record["evidence"] == "measured"
    assert {path.name for path in done.folder.iterdir()} >= VIEWS
    assert not (done.folder / "traces.part").exists()
    assert "PASS" in done.out
    assert str(done.folder / "report.html") in done.out.replace("\n", "")


def test_the_record_has_one_trace_for_every_due_request(passed: Done) -> None:
    """Traces, schedule and record agree on how many requests there were and what they took."""
    done = passed
    table = TraceTable.read(done.folder / "traces.parquet")
    schedule = (done.folder / "schedule.jsonl").read_text(encoding="utf-8").splitlines()

    assert len(table) == len(schedule)
    assert len(table.measured) == done.record["metrics"]["e2e"]["n"] == 200
    true_s = 0.02 + 7 * 0.002
    upper_s, lower_s = done.record["metrics"]["e2e"]["p50"], done.record["metrics"]["e2e"]["lo"]["p50"]
    assert lower_s <= upper_s
    assert true_s - 0.0001 <= upper_s < true_s + 0.05


def test_a_server_over_its_limit_fails(tmp_path: Path) -> None:
    """A server that takes six seconds of an allowed five fails with exit code 1 and says which gate."""
    done = run_small(tmp_path, "e2e p95 <= 5 s", ttft_s=6.0)

    assert done.code == 1, done.err + done.out
    assert done.record["verdict"] == "FAIL"
    assert "breaks the limit of 5" in done.record["reasons"][0]
    assert done.record["gates"][0]["outcome"] == "FAIL"
    tree = ET.parse(done.folder / "junit.xml")
    assert any(case.find("failure") is not None for case in tree.iter("testcase"))


def test_errors_never_buy_a_pass(tmp_path: Path) -> None:
    """A server that breaks every stream fails, however fast it does."""
    done = run_small(tmp_path, error_at=2)

    assert done.code == 1, done.err + done.out
    assert done.record["metrics"]["error_rate"]["mean"] == 1


def test_answers_of_another_length_are_invalid(tmp_path: Path) -> None:
    """A server that answers half the tokens of the contract is not measured under the contract."""
    done = run_small(tmp_path, output_tokens=4)

    assert done.code == 4, done.err + done.out
    assert any("length" in check["name"] for check in done.record["checks"] if check["outcome"] == "failed")


def test_a_run_is_judged_again_under_another_gate(passed: Done, tmp_path: Path) -> None:
    """Hxp judge decides the stored traces under a gate of the moment, sends nothing and changes nothing."""
    run = str(passed.folder)
    before = {path: path.stat().st_mtime_ns for path in passed.folder.rglob("*")}
    gates = tmp_path / "gates.txt"
    gates.write_text("# comment\nttft p50 <= 20 s\nerror_rate <= 10 %\n", encoding="utf-8")
    same = run_program(tmp_path, "judge", run)
    harder = run_program(tmp_path, "judge", run, "--gate", "ttft p95 <= 1 ms")
    from_file = run_program(tmp_path, "judge", run, "--gates", str(gates))
    from_profile = run_program(tmp_path, "judge", run, "--gates", str(passed.folder / "profile.yaml"))

    assert (same.code, from_file.code, from_profile.code) == (0, 0, 0), same.err + from_file.err + from_profile.err
    assert harder.code in {1, 4}  # with so small a limit a busy machine's own lateness is too much
    assert "ttft p95 <= 1 ms" in harder.out
    assert {path: path.stat().st_mtime_ns for path in passed.folder.rglob("*")} == before


def test_a_changed_run_is_told_and_not_judged(copied: Done, tmp_path: Path) -> None:
    """Hxp judge --verify judges an untouched run as ever; one changed byte ends with 4 and the name of its file."""
    run = str(copied.folder)
    clean = run_program(tmp_path, "judge", run, "--verify")
    schedule = copied.folder / "schedule.jsonl"
    schedule.write_bytes(schedule.read_bytes().replace(b"1", b"2", 1))
    changed = run_program(tmp_path, "judge", run, "--verify")

    assert clean.code == 0, clean.err
    assert "verified: run.json, profile.yaml" in clean.out
    assert "PASS" in clean.out
    assert changed.code == 4
    assert "schedule.jsonl was changed" in changed.err
    assert "PASS" not in changed.out


def test_a_record_says_what_it_was_made_with(passed: Done) -> None:
    """Kernel, commit and packages stand in the record; what a stranger's server does not tell is named."""
    environment = passed.record["environment"]

    assert environment["kernel"]
    assert "numpy==" in environment["packages"]
    assert "flags of the engine" in passed.record["unknown"]
    assert "flags of the engine" in (passed.folder / "report.md").read_text(encoding="utf-8")


def test_a_run_whose_end_was_lost_can_still_be_judged(copied: Done, tmp_path: Path) -> None:
    """Where the harness was killed before it judged, hxp judge writes the record, and it is INVALID."""
    (copied.folder / "run.json").unlink()
    (copied.folder / "end.json").unlink()
    again = run_program(tmp_path, "judge", str(copied.folder))

    assert again.code == 4, again.err
    assert copied.record["verdict"] == "INVALID"


def test_a_run_explains_itself_and_is_reported_again(copied: Done, tmp_path: Path) -> None:
    """Hxp explain tells the story in words; hxp report writes the views anew."""
    (copied.folder / "report.html").unlink()
    story = run_program(tmp_path, "explain", str(copied.folder))
    report = run_program(tmp_path, "report", str(copied.folder))

    assert story.code == report.code == 0, story.err + report.err
    assert "e2e" in story.out
    assert (copied.folder / "report.html").exists()


def test_a_model_of_the_stack_is_judged_and_labelled_simulated(tmp_path: Path) -> None:
    """Without --target the embedded stack is started, judged and stopped; the record says simulated and predicted."""
    file = write_profile(tmp_path)
    done = run_program(tmp_path, "perf", "--profile", str(file), "--out", str(tmp_path / "run"))

    assert done.code in {0, 4}, done.err + done.out  # 4: this machine was too busy, and the record says so
    assert done.record["evidence"] == "simulated"
    during, telemetry = done.record["server"]["during"], done.record["telemetry"]
    assert during["readings"] > during["failed"]
    assert telemetry["running_peak"]["mean"] > 0
    assert "energy_per_token" not in telemetry  # a simulation uses no GPU
    assert "server.parquet" in done.record["files"]
    assert not (done.folder / "server.part").exists()
    assert "What the server said meanwhile" in run_program(tmp_path, "explain", str(done.folder)).out
    assert done.record["environment"]["target"]["engine"] == "sim"
    predicted = done.record["environment"]["target"]["feasibility"]
    assert predicted.startswith("FEASIBLE: mixtral")
    assert predicted in done.out + done.err
    assert "SIMULATED" in done.out


def test_the_instrument_can_be_proved_alone(tmp_path: Path) -> None:
    """Hxp certify says whether this machine can measure a profile, where its ceiling is, and keeps the evidence."""
    words = ("certify", "--profile", str(write_profile(tmp_path)), "--search-minutes", "0.01")
    done = run_program(tmp_path, *words)
    refused = run_program(tmp_path, *words[:-1], "-1")
    found = sorted(tmp_path.glob("reports/*-certificate-small/certificate-before.json"))

    assert len(found) == 1
    certificate = json.loads(found[0].read_text(encoding="utf-8"))
    assert done.code == (0 if certificate["ok"] else 4), done.err
    assert [one["tokens"] for one in certificate["ceilings"]] == [8, 1]
    assert all(one["points"] for one in certificate["ceilings"])
    assert 0 < certificate["golden_cpu_share"] < 1
    assert "with 8 tokens an answer" in done.out
    assert "ttft" in done.out
    assert "trying 75 rps" in done.err
    assert (refused.code, "less than nothing" in refused.err) == (2, True)
