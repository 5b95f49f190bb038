"""Promises about ports."""

from __future__ import annotations

import os
import socket

import pytest

from reference_stack.errors import NotReady
from reference_stack.orchestration import ports


def test_a_reserved_port_can_be_listened_on_by_a_server_and_by_nobody_else() -> None:
    """A reservation keeps others from binding the port, and lets a server that reuses addresses listen."""
    reservation = ports.reserve()
    with socket.socket() as stranger, pytest.raises(OSError):
        stranger.bind((ports.HOST, reservation.port))
    with ports.listen(reservation.port) as server, socket.create_connection(server.getsockname(), timeout=1):
        pass
    reservation.close()


def test_reservations_are_distinct() -> None:
    """Many free ports asked for at once are all different."""
    reservations = [ports.reserve() for _ in range(50)]
    assert len({row.port for row in reservations}) == 50
    for row in reservations:
        row.close()


def test_a_taken_port_names_who_has_it_and_what_to_do() -> None:
    """Asking for a port on which somebody listens says which port, for whom, who has it, and the next command."""
    with socket.create_server((ports.HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            NotReady, match=rf"^api_gateway: port {port} is taken by .+ \(pid {os.getpid()}\)"
        ) as caught:
            ports.reserve(port, owner="api_gateway")
    assert "hxp-stack up --ports free" in caught.value.hint


def test_a_port_given_up_can_be_had_again_at_once() -> None:
    """A documented port is no obstacle to the next stack, even with connections of the last one in TIME_WAIT."""
    first = ports.reserve()
    with ports.listen(first.port) as server, socket.create_connection(server.getsockname(), timeout=1):
        accepted, _ = server.accept()
        accepted.close()
    first.close()
    ports.reserve(first.port).close()


def test_a_port_that_may_not_be_opened_says_so() -> None:
    """Any other refusal of the system is passed on in its words."""
    error = ports.taken(80, "", PermissionError(13, "Permission denied"))
    assert error.message == "port 80 cannot be opened: Permission denied"


def test_nobody_listening_is_named_nobody() -> None:
    """For a port that nobody has there is no owner to name."""
    reservation = ports.reserve()
    assert ports.who_has(reservation.port) == ""
    reservation.close()
