"""Who sends the load: what is asked for is clear before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hxp_harness.cli import main
from hxp_harness.contract import Contract
from hxp_harness.errors import UsageError
from hxp_harness.request import PerfRequest
from hxp_harness.senders import HERE, address_of, local_senders, refuse_senders, senders

CONTRACT = Contract.model_validate({"prompt_tokens": 8, "output_tokens": 64, "rate_rps": 1.0})
URL = "http://198.18.1.1:9000/v1"


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (PerfRequest(listen="10.0.0.1:5557"), "--listen says something of --hosts"),
        (PerfRequest(web_port=8089), "--web-port says something of --hosts"),
        (PerfRequest(hosts=0, target_url=URL, listen="h:1"), "--hosts 0: between 1 and 256"),
        (PerfRequest(hosts=2, clients=2, target_url=URL, listen="h:1"), "--clients and --hosts exclude each other"),
        (PerfRequest(hosts=2, listen="h:1"), "listens on 127.0.0.1, which other hosts do not reach"),
        (PerfRequest(hosts=2, target_url=URL), "--hosts needs --listen HOST:PORT"),
        (PerfRequest(hosts=2, target_url=URL, listen="h"), "--listen h: is not HOST:PORT"),
    ],
)
def test_contradictions_are_refused(request_: PerfRequest, why: str) -> None:
    """Each says what is wrong and what to type."""
    with pytest.raises(UsageError, match=why) as caught:
        refuse_senders(request_)
    assert caught.value.hint


def test_what_fits_together_is_accepted() -> None:
    """With and without other hosts."""
    refuse_senders(PerfRequest())
    refuse_senders(PerfRequest(clients=2))
    refuse_senders(PerfRequest(hosts=2, target_url=URL, listen="10.0.0.1:5557", web_port=8089))


@pytest.mark.parametrize("text", ["", "5557", ":5557", "host:", "host:0", "host:65536", "host:x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """A host and a port, both."""
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        address_of(text)


@pytest.mark.parametrize("text", ["0.0.0.0:5557", "[::]:5557", ":::5557"])
def test_every_address_is_no_address(text: str) -> None:
    """Workers come to one address, and the golden server of the certificate listens there too."""
    with pytest.raises(UsageError, match="one address"):
        address_of(text)


def test_an_address_is_read() -> None:
    """By number or name."""
    assert address_of("10.0.0.1:5557") == ("10.0.0.1", 5557)
    assert address_of("load-1.example:80") == ("load-1.example", 80)


def test_one_client_is_the_default_of_a_small_rate(tmp_path: Path) -> None:
    """It is said, and why."""
    said: list[str] = []
    with senders(PerfRequest(), CONTRACT, tmp_path, said.append) as here:
        assert here.facts["clients"] == 1
        assert here.host == HERE
    assert said == [here.said]
    assert here.said.startswith("the load comes from 1 client process, chosen for its rate and ")


@pytest.mark.parametrize("clients", [0, 257])
def test_a_wrong_number_is_refused(clients: int, capsys: pytest.CaptureFixture[str]) -> None:
    """By the run and by a worker alike, with exit code 2."""
    with pytest.raises(UsageError, match=f"--clients {clients}: between 1 and 256"):
        local_senders(CONTRACT, clients)
    assert main(["worker", "--master", "127.0.0.1:5557", "--clients", str(clients)]) == 2
    assert f"--clients {clients}: between 1 and 256" in capsys.readouterr().err


def test_a_worker_needs_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    """It names its own option."""
    assert main(["worker", "--master", "nowhere"]) == 2
    assert "--master nowhere: is not HOST:PORT" in capsys.readouterr().err
