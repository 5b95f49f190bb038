"""Promises of the plan: what is put where, before anything is started."""

from __future__ import annotations

import graphlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reference_stack.catalogue import load_catalogue
from reference_stack.errors import NotReady, SettingsError
from reference_stack.orchestration.deployment.plan import Plan, draw
from reference_stack.orchestration.deployment.room import Room
from reference_stack.orchestration.deployment.want import Want
from reference_stack.orchestration.entry import argv
from reference_stack.schemas.api.keys import digest_of
from reference_stack.serve import read_settings

MODELS = ("mixtral", "hermes", "openchat", "phi3")
CACHE = Path(__file__).parents[3] / ".hxp" / "cache"


def want(folder: Path, **wishes: object) -> Want:
    return Want(**{"folder": folder, "cache": CACHE, "ports": "free", **wishes})  # type: ignore[arg-type]  # by name


def drawn(wanted: Want) -> Iterator[tuple[Room, Plan]]:
    with Room(wanted) as room:
        yield room, draw(room)


@pytest.fixture
def whole(room: Path) -> Iterator[tuple[Room, Plan]]:
    """All twelve services, mocked."""
    yield from drawn(want(room, mock=True))


def test_every_service_is_one_unit_with_good_settings(whole: tuple[Room, Plan]) -> None:
    """Each of the twelve is started once, with settings that it accepts, and offers a face."""
    _, plan = whole
    assert sorted(unit.name for unit in plan.units) == sorted(load_catalogue())
    assert set(plan.offers) == set(load_catalogue())
    for unit in plan.units:
        assert unit.settings is not None
        read_settings(unit.name, unit.settings)


def test_ports_are_all_different(whole: tuple[Room, Plan]) -> None:
    """No two services share a port."""
    _, plan = whole
    assert len({unit.listen_port for unit in plan.units}) == len(plan.units)


def test_the_gateway_takes_the_key_that_it_offers(whole: tuple[Room, Plan]) -> None:
    """The offered key is the one whose keyed hash the gateway knows; secrets are their owner's alone."""
    room, plan = whole
    settings = json.loads((room.want.folder / "settings" / "api_gateway.json").read_text())
    pepper = Path(settings["pepper_file"])
    digest = digest_of(plan.offers["api_gateway"].api_key.encode(), pepper.read_bytes())
    assert settings["keys"][0]["hash"] == digest.hex()
    assert list(settings["upstreams"]) == ["mixtral", "hermes", "openchat", "phi3"]
    for file in (pepper, room.want.folder / "secrets" / "api_key", room.want.folder / "settings" / "api_gateway.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_secrets_stay_from_one_start_to_the_next(room: Path) -> None:
    """The key of a stack is the same when it is started again in its folder."""
    keys = []
    for _ in range(2):
        ((_, plan),) = drawn(want(room, services=("api_gateway",), mock=True))
        keys.append(plan.offers["api_gateway"].api_key)
    assert keys[0] == keys[1]


def test_a_model_alone_needs_nothing(room: Path) -> None:
    """A stack of one model is one process."""
    ((_, plan),) = drawn(want(room, services=("mixtral",)))
    assert [unit.name for unit in plan.units] == ["mixtral"]
    row = plan.offers["mixtral"].row(7)
    assert row["pid"] == 7
    assert str(row["base_url"]).endswith("/v1")
    assert row["evidence"] == "simulated"


def test_a_gateway_alone_has_models_that_cost_nothing(room: Path) -> None:
    """Where the gateway is what is measured its models are ideal, unless a device is asked for."""
    for options, device in (({}, "ideal"), ({"device": "l40s"}, "l40s")):
        list(drawn(want(room, services=("api_gateway",), mock=True, options=options)))
        assert json.loads((room / "settings" / "mixtral.json").read_text())["device"] == device
    assert want(room, services=("mixtral",)).device == "h200"


def test_servers_start_with_their_services(room: Path) -> None:
    """Real backends are PostgreSQL, Valkey and what else there is, and their services are told where."""
    ((_, plan),) = drawn(want(room, services=("database", "cache", "vector_database")))
    assert [unit.name for unit in plan.units] == ["postgres", "database", "valkey", "cache", "vector_database"]
    postgres, database = plan.units[0], read_settings("database", plan.units[1].settings)
    assert f"port={database.port}" in postgres.program.argv
    assert plan.offers["database"].url == database.dsn
    assert plan.offers["cache"].url.startswith("redis://127.0.0.1:")


def test_what_is_used_outlives_who_uses_it(room: Path) -> None:
    """The gateway ends before models, database, cache and documents, each of them before its server; nobody uses the
    gateway or monitoring, so that these two end first.
    """
    for _, plan in drawn(want(room)):
        uses = {unit.name: set(unit.uses) for unit in plan.units}
        assert uses["api_gateway"] >= {*MODELS, "database", "cache", "vector_database"}
        assert uses["database"] == {"postgres"}
        assert uses["cache"] == {"valkey"}
        assert uses["monitoring"] == {"metrics"}
        assert uses["metrics"] <= {"prometheus"}
        assert not {"api_gateway", "monitoring"} & set[str]().union(*uses.values())
        graphlib.TopologicalSorter(uses).prepare()  # raises for a circle, in which nobody would ever stop


def test_the_gateway_is_told_of_database_and_cache(room: Path) -> None:
    """With real backends the gateway's settings say where they are."""
    ((_, plan),) = drawn(want(room, services=("api_gateway",)))
    settings = json.loads((room / "settings" / "api_gateway.json").read_text())
    assert settings["database_dsn"] == plan.offers["database"].url
    assert settings["cache_url"] == plan.offers["cache"].url


def test_prometheus_scrapes_every_service(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a Prometheus it is started, and scrapes every face of the stack."""
    (tmp_path / "prometheus").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    ((_, plan),) = drawn(want(room, services=("monitoring",)))
    assert [unit.name for unit in plan.units] == ["prometheus", "metrics", "monitoring"]
    written = json.loads((room / "data" / "prometheus" / "prometheus.yml").read_text())
    assert [job["job_name"] for job in written["scrape_configs"]] == ["metrics", "monitoring"]


def test_prometheus_has_the_key_that_the_gateway_wants(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the gateway's metrics have a key Prometheus is given it in a file, and its configuration names the file."""
    (tmp_path / "prometheus").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    mine = tmp_path / "mine.yaml"
    (tmp_path / "secret").write_text("a-key")
    mine.write_text(f"api_gateway: {{metrics: {{key: {{file: {tmp_path}/secret}}}}}}\n")
    list(
        drawn(
            want(
                room, services=("api_gateway", "metrics"), options={"upstream": "http://127.0.0.1:9/v1"}, host_file=mine
            )
        )
    )
    folder = room / "data" / "prometheus"
    jobs = {job["job_name"]: job for job in json.loads((folder / "prometheus.yml").read_text())["scrape_configs"]}
    assert (folder / jobs["api_gateway"]["authorization"]["credentials_file"]).read_text() == "a-key"
    assert "authorization" not in jobs["metrics"]


def test_without_prometheus_the_stack_says_so(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be had, the metrics service starts without, and a note says why."""
    monkeypatch.setenv("PATH", str(tmp_path))
    ((_, plan),) = drawn(want(room, services=("metrics",), cache=tmp_path / "empty" / "cache"))
    assert [unit.name for unit in plan.units] == ["metrics"]
    assert "apt-get, which is not here" in plan.notes[0]
    assert plan.units[0].settings is not None
    assert read_settings("metrics", plan.units[0].settings).absent


def test_documented_ports_are_those_of_the_catalogue(room: Path) -> None:
    """With documented ports a service listens where the catalogue says."""
    with Room(want(room, ports="documented")) as made:
        try:
            assert made.face_port("storage") == load_catalogue()["storage"].port
        except NotReady as error:  # somebody else's stack may run on this machine
            if "is taken" not in str(error):
                raise
            pytest.skip(str(error))  # the port is taken, as the error says


def test_an_unknown_service_is_refused(room: Path) -> None:
    """A service that does not exist is refused with the nearest name."""
    with pytest.raises(SettingsError) as caught:
        want(room, services=("reddis",))
    assert "cache" in caught.value.hint or "did you mean" in caught.value.hint


@pytest.mark.parametrize(
    ("wishes", "message", "hint"),
    [
        ({}, "there are no weights in /opt/models/mixtral-8x7b", "--weights dummy"),
        ({"options": {"devise": "h200"}}, "--set devise is not for --engine vllm", "did you mean 'device'"),
        ({"weights": "tiny", "options": {"speed": "2"}}, "--set speed is not for --engine vllm", "mixtral.yaml"),
    ],
)
def test_what_does_not_run_here_is_refused(room: Path, wishes: dict[str, object], message: str, hint: str) -> None:
    """Real weights that are not there, and options that vLLM would not hear of, are refused with what would do."""
    with pytest.raises(SettingsError, match=message) as caught:
        list(drawn(want(room, services=("mixtral",), engine="vllm", **{"weights": "real", **wishes})))
    assert hint in caught.value.hint


def test_the_entry_point_says_it_all() -> None:
    """What a harness wants becomes options of `up`, each of them."""
    wanted = {
        "services": ["mixtral"],
        "engine": "vllm",
        "weights": "tiny",
        "folder": "/tmp/x",
        "mock": True,
        "options": {"speed": "2"},
    }
    options = "--folder /tmp/x --engine vllm --weights tiny --only mixtral --mock --set speed=2"
    assert " ".join(argv(wanted)[3:]) == f"up --foreground --json --ports free {options}"


def test_engines_on_one_gpu_start_one_after_another(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real engines wait for one another, are not forked, and make the gateway's evidence what theirs is."""
    program = room / "cache" / "vllm-gpu" / "bin" / "vllm"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    smi = room / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.1, 143771, 4'\n", encoding="utf-8")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(room), prepend=os.pathsep)
    wishes = {"engine": "vllm", "weights": "dummy", "cache": room / "cache", "mock": True}
    ((_, plan),) = drawn(want(room, services=("api_gateway",), **wishes))
    models = plan.units[:4]
    assert [unit.after for unit in models] == [(), ("mixtral",), ("hermes",), ("openchat",)]
    assert all(unit.settings is None and unit.program.argv[0] == str(program) for unit in models)
    assert {offer.evidence for offer in plan.offers.values() if offer.base_url} == {"measured"}


def test_an_environment_says_what_is_set_and_who_runs_the_servers(room: Path, tmp_path: Path) -> None:
    """External servers are not started; services get what the environment says, and secrets by reference."""
    (tmp_path / "password").write_text("hunter2")
    environment, host = tmp_path / "e.yaml", tmp_path / "h.yaml"
    environment.write_text(
        f"database: {{backend: external, port: 7001, password: {{file: {tmp_path / 'password'}}}}}\n"
        "cache: {backend: external, port: 7002}\n"
        "vector_database: {backend: external, port: 7003, grpc_port: 7004}\n"
        "metrics: {backend: external, prometheus_port: 7005}\n"
        "api_gateway: {timeout_s: 60, connect_s: 1}\n"
        "phi3: {max_num_seqs: 3}\n"
    )
    host.write_text("api_gateway: {connect_s: 2}\n")
    wanted = want(room, environment=environment, host_file=host)
    ((_, plan),) = drawn(wanted)

    assert sorted(unit.name for unit in plan.units) == sorted(load_catalogue())
    settings = {unit.name: read_settings(unit.name, unit.settings) for unit in plan.units}
    assert (
        settings["api_gateway"].database_dsn.get_secret_value()
        == "postgresql://citadel:hunter2@127.0.0.1:7001/citadel_ai"  # pragma: allowlist secret
    )
    assert settings["api_gateway"].cache_url.get_secret_value() == "redis://127.0.0.1:7002/0"
    assert (settings["api_gateway"].timeout_s, settings["api_gateway"].connect_s) == (60, 2)
    assert settings["phi3"].max_num_seqs == 3
    assert settings["metrics"].prometheus_port == 7005
    assert (plan.offers["vector_database"].url, plan.offers["vector_database"].grpc_port) == (
        "http://127.0.0.1:7003",
        7004,
    )
    assert settings["configuration"].environment_file == environment
    assert "hunter2" not in (room / "settings" / "database.json").read_text()


def test_mocks_are_mocks_in_every_environment(room: Path) -> None:
    """With --mock nothing external is asked, whatever the environment says."""
    production = Path(__file__).parents[3] / "profiles" / "environments" / "production.yaml"
    ((_, plan),) = drawn(want(room, mock=True, environment=production))

    for name in ("database", "cache", "vector_database", "metrics"):
        assert read_settings(name, room / "settings" / f"{name}.json").backend == "mock"
        assert plan.offers[name].url == ""


def test_the_gateway_knows_which_models_have_embeddings(room: Path, tmp_path: Path) -> None:
    """A model that is started for embeddings has that route alone, whoever says so, and its server is told."""
    host = tmp_path / "h.yaml"
    host.write_text("phi3: {runner: pooling}\n")
    wanted = {"services": ("api_gateway",), "mock": True}

    said = told(room, host_file=host, **wanted)["upstreams"]
    assert said["phi3"]["routes"] == ["embeddings"]
    assert all("routes" not in said[name] for name in ("mixtral", "hermes", "openchat"))
    assert read_settings("phi3", room / "settings" / "phi3.json").runner == "pooling"
    assert read_settings("hermes", room / "settings" / "hermes.json").runner == "generate"

    every = told(room, options={"runner": "pooling"}, **wanted)["upstreams"]
    assert {tuple(each["routes"]) for each in every.values()} == {("embeddings",)}

    with pytest.raises(SettingsError, match="--set runner=poling is no runner") as refused:
        told(room, options={"runner": "poling"}, **wanted)
    assert refused.value.hint == "did you mean 'pooling'?"


def test_a_gateway_that_searches_is_told_where(room: Path, tmp_path: Path) -> None:
    """With stores configured the gateway gets the stack's own vector store or a mock, and its key a tenant."""
    host = tmp_path / "h.yaml"
    host.write_text("api_gateway: {retrieval: {stores: [handbook], timeout_s: 2}}\n")
    names = ("api_gateway", "vector_database")
    own, mocked, alone = (
        told(room, host_file=host, **more)
        for more in ({"services": names}, {"services": names, "mock": True}, {"services": names[:1]})
    )

    assert own["retrieval"]["host"] == "127.0.0.1"
    assert own["retrieval"]["port"] != own["retrieval"]["grpc_port"]
    assert (own["retrieval"]["timeout_s"], own["keys"][0]["tenant"]) == (2, "local")
    assert mocked["retrieval"] == {"backend": "mock", "stores": ["handbook"], "timeout_s": 2}
    assert alone["retrieval"] == {"stores": ["handbook"], "timeout_s": 2}


def told(room: Path, **wishes: object) -> Any:
    """The gateway's settings as they are written for it."""
    ((_, _plan),) = drawn(want(room, **wishes))
    return json.loads((room / "settings" / "api_gateway.json").read_text())


def test_a_wrong_environment_starts_nothing(room: Path, tmp_path: Path) -> None:
    """A misspelt key stops the plan with file, line and the nearest right spelling."""
    (tmp_path / "e.yaml").write_text("cache: {}\ndatabase: {prot: 1}\n")

    with pytest.raises(SettingsError, match=r"e\.yaml:2: database\.prot: no such setting") as refused:
        list(drawn(want(room, environment=tmp_path / "e.yaml")))

    assert refused.value.hint == "did you mean 'port'?"
