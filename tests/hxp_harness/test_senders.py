"""Who sends the load: what is asked for is clear before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hxp_harness.cli import main
from hxp_harness.contract import Contract
from hxp_harness.errors import UsageError
from hxp_harness.load.page_session import PageSession
from hxp_harness.load.plan import LoadPlan
from hxp_harness.request import PerfRequest
from hxp_harness.senders import HERE, address_of, local_senders, recruited, refuse_senders

CONTRACT = Contract.model_validate({"prompt_tokens": 8, "output_tokens": 64, "rate_rps": 1.0})
URL = "http://198.18.1.1:9000/v1"


def free_port() -> int:
    with socket.create_server((HERE, 0)) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (PerfRequest(listen="10.0.0.1:5557"), "--listen says something of --hosts"),
        (PerfRequest(web_port=-1), "--web-port -1: is no port"),
        (PerfRequest(web_port=65536), "--web-port 65536: is no port"),
        (PerfRequest(hosts=2, target_url=URL, listen="198.18.1.1:5557"), "--listen: this machine cannot listen at 198"),
        (PerfRequest(hosts=0, target_url=URL, listen="h:1"), "--hosts 0: between 1 and 256"),
        (PerfRequest(hosts=2, clients=2, target_url=URL, listen="h:1"), "--clients and --hosts exclude each other"),
        (PerfRequest(hosts=2, listen="10.0.0.1:5557"), "127.0.0.1, which the workers of other hosts do not reach"),
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
    refuse_senders(PerfRequest(web_port=free_port()))
    here = f"{HERE}:{free_port()}"
    refuse_senders(PerfRequest(hosts=2, target_url=URL, listen=here, web_port=free_port()))
    refuse_senders(PerfRequest(hosts=2, listen=here))
    refuse_senders(PerfRequest(hosts=2, listen=f"localhost:{free_port()}"))
    refuse_senders(PerfRequest(hosts=2, listen=here), certificate_only=True)


@pytest.mark.parametrize("option", ["--listen", "--web-port"])
def test_a_port_that_is_taken_is_refused(option: str) -> None:
    """Before anything starts, and with the option's name."""
    with socket.create_server((HERE, 0)) as taken:
        port = taken.getsockname()[1]
        listen = f"{HERE}:{port if option == '--listen' else free_port()}"
        request = PerfRequest(hosts=2, listen=listen, web_port=0 if option == "--listen" else port)
        with pytest.raises(UsageError, match=f"{option}: this machine cannot listen at {HERE}:{port}: Address already"):
            refuse_senders(request)


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
    with recruited(PerfRequest(), tmp_path, print) as senders_for:
        here = senders_for(CONTRACT)
    assert here.facts["clients"] == 1
    assert here.host == HERE
    assert here.said.startswith("the load comes from 1 client process, chosen for its rate and ")


def test_a_page_is_announced_with_its_address(tmp_path: Path) -> None:
    """Whoever asks for Locust's page is told where it is, and the load shows there."""
    here = local_senders(CONTRACT, web_port=8089)
    assert here.said.endswith("Locust's page is at http://127.0.0.1:8089")
    plan = LoadPlan("http://h/v1", "m", "chat", stream=True, timeout_s=1.0)
    assert isinstance(here.open_session(tmp_path, plan, []), PageSession)


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
