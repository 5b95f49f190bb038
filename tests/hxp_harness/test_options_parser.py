"""A wrong word on the command line is answered in two lines: what is wrong, and what to type."""

from __future__ import annotations

import pytest

from hxp_harness.cli import main


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("prf --model phi3", "hxp: argument COMMAND: invalid choice: 'prf'", "did you mean 'perf'?"),
        ("perf", "hxp perf: one of the arguments --model --profile is required", "for example: hxp perf --model phi3"),
        (
            "perf --model phi3 --targte http://h/v1",
            "hxp perf: unrecognized arguments: --targte",
            "did you mean '--target'?",
        ),
        ("perf --model phi3 --trace t.jsonl", "unrecognized arguments: --trace", "arrival: {kind: replay, file: F}"),
        (
            "perf --model phi3 --concurrency 8",
            "unrecognized arguments: --concurrency",
            "{kind: closed, concurrency: 32}",
        ),
        ("perf --model phi3 --rate -5rps", "argument --rate: expected one argument", "--rate=VALUE"),
        ("perf --model phi3 --engine vlm", "argument --engine: invalid choice: 'vlm'", "did you mean 'vllm'?"),
        ("perf --model phi3 --seed x", "argument --seed: invalid int value: 'x'", "see hxp perf --help"),
        ("perf --model phi3 stray", "unrecognized arguments: stray", "see hxp perf --help"),
    ],
)
def test_what_is_mistyped_is_named_with_what_is_right(
    words: str, said: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to read a page of usage to find one wrong letter."""
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(lines) == 2
    assert said in lines[0]
    assert hint in lines[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("certify", "hxp: certify: whose load? --model or --profile is missing\n  hxp certify --model phi3"),
        ("perf --model phi3 --rate 20", "hxp: --rate: '20' has no unit\n  known: rps; for example 20 rps"),
        ("perf --model phi3 --rate 20rp", "hxp: --rate: '20rp' has the unknown unit 'rp'\n  did you mean 'rps'?"),
        (
            "perf --model phi3 --requests 60",
            "can tell p90; set replicates.requests (--requests) to 90 or more",
        ),
    ],
)
def test_what_does_not_fit_says_what_does(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The option is named, and a value that would be taken."""
    assert main(words.split()) == 2
    assert said in capsys.readouterr().err
