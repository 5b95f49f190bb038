"""Calibration: constants that made the times are found again, and kept in files that are read as they were written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reference_stack.errors import SettingsError
from reference_stack.services.ai_models.calibrate import FITTED, Floats, Observed, fit, relative_errors
from reference_stack.services.ai_models.device_file import device_of, read_device, write_device
from reference_stack.services.ai_models.model_spec import load_spec
from reference_stack.services.ai_models.physics import Device, find_device
from reference_stack.services.ai_models.scheduler import Limits
from reference_stack.services.ai_models.simulate import Simulated, arrivals_s, simulate

H200 = find_device("h200")
LIMITS = Limits(64, 2048, 40_000)


def observed(truth: Device, rate_rps: float, count: int = 60) -> Observed:
    """A run of Hermes as an engine with the constants of `truth` would have served it."""
    spec = load_spec("hermes")
    asked = [
        Simulated(100 + place % 50, 12, at_s) for place, at_s in enumerate(arrivals_s("poisson", rate_rps, count, 7))
    ]
    served = simulate(spec, truth, LIMITS, asked)
    return Observed(
        name=f"at {rate_rps:g}",
        spec=spec,
        limits=LIMITS,
        arrival_s=np.array([one.arrival_s for one in served]),
        prompt_tokens=np.array([one.prompt_tokens for one in served]),
        output_tokens=np.array([one.output_tokens for one in served]),
        first_s=np.array([one.tokens_s[0] for one in served]),
        last_s=np.array([one.tokens_s[-1] for one in served]),
        judged=np.arange(count) >= 5,
    )


def test_the_truth_predicts_itself_without_error() -> None:
    """Served again with the constants that it had, a run has the quantiles that it had."""
    errors = relative_errors(observed(H200, 20.0), H200)

    assert set(errors) == {f"{name} {q}" for name in ("ttft", "tpot", "e2e") for q in ("p50", "p95")}
    assert all(abs(error) < 1e-9 for error in errors.values())


def test_a_fit_predicts_loads_that_it_never_saw() -> None:
    """Constants that are off by half are moved until a run at another rate is predicted within 15 %."""
    truth = replace(H200, step_overhead_s=6e-3, request_overhead_s=25e-3)
    said: list[int] = []
    found = fit(
        H200,
        [observed(truth, 5.0), observed(truth, 60.0)],
        evaluations=90,
        say=lambda tries, _: said.append(tries),
    )

    before = relative_errors(observed(truth, 30.0), H200)
    after = relative_errors(observed(truth, 30.0), found)
    assert max(map(abs, before.values())) > 0.3
    assert max(map(abs, after.values())) < 0.15
    assert said[0] == 1
    assert all(low <= getattr(found, name) <= high for name, (low, high) in FITTED.items() if getattr(H200, name))


def uneven(noise: np.random.Generator, count: int) -> Floats:
    """Factors whose mean is one, and of which two in three are within 5 % of it."""
    return np.exp(0.05 * noise.standard_normal(count) - 0.05**2 / 2)


def looped(truth: Device, slots: int, count: int, noise: np.random.Generator) -> Observed:
    """A closed loop as an engine with the constants of `truth` would have served it, were its times uneven by 5 %."""
    asked = (Simulated(100 + place % 50, 12, 0.0) for place in range(count))
    served = simulate(load_spec("hermes"), truth, LIMITS, asked, slots=slots)
    times = np.array([(one.arrival_s, one.tokens_s[0], one.tokens_s[-1]) for one in served])
    first_s = times[:, 0] + (times[:, 1] - times[:, 0]) * uneven(noise, count)
    last_s = first_s + (times[:, 2] - times[:, 1]) * uneven(noise, count)
    prompts, outputs = (np.array([getattr(one, name) for one in served]) for name in ("prompt_tokens", "output_tokens"))
    name, spec, judged = f"closed-{slots}", load_spec("hermes"), np.arange(count) >= slots
    return Observed(name, spec, LIMITS, times[:, 0], prompts, outputs, first_s, last_s, judged, slots)


def test_closed_loops_tell_the_capacity() -> None:
    """From uneven times at five batches it is found within 3 %, and with it what happens at four fifths of it."""
    row = replace(H200, launch_s=0.0)
    truth = replace(row, step_overhead_s=6e-3, sequence_overhead_s=1e-4, bandwidth_efficiency=0.4)
    noise = np.random.default_rng(5)
    found = fit(row, [looped(truth, slots, max(60, 4 * slots), noise) for slots in (1, 4, 16, 36, 64)])

    full = looped(truth, 64, 256, noise)
    rate_rps, found_rps = (64 / full.predicted(device)["e2e mean"] for device in (truth, found))
    assert found_rps == pytest.approx(rate_rps, rel=0.03)
    near = relative_errors(observed(truth, 0.8 * rate_rps, 200), found)
    assert all(abs(error) < (0.15 if name.endswith("p50") else 0.25) for name, error in near.items())


def test_a_constant_without_bearing_stays() -> None:
    """What is zero for a device, such as the time to launch kernels, is not made up by a fit."""
    no_graphs = replace(H200, launch_s=0.0)
    slower = replace(no_graphs, step_overhead_s=5e-3)

    found = fit(no_graphs, [observed(slower, 20.0, 30)], evaluations=20)
    assert found.launch_s == 0.0
    assert found.step_overhead_s > no_graphs.step_overhead_s
    assert fit(no_graphs, [observed(slower, 20.0, 30)], evaluations=1) == no_graphs


def test_a_device_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A written device is the row with the fitted constants, to four digits."""
    file = tmp_path / "mine.yaml"
    write_device(file, "h200", replace(H200, step_overhead_s=0.0123456), ["step_overhead_s"], engine="vLLM 0.0")

    assert read_device(file) == replace(H200, step_overhead_s=0.01235, calibrated="vLLM 0.0")
    assert device_of(str(file)).step_overhead_s == 0.01235
    assert device_of("h200") is H200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("device: h20\nconstants: {}", "did you mean 'h200'"),
        ("device: h200\nconstants: {step_overheads_s: 1}", "did you mean 'step_overhead_s'"),
        ("device: h200\nconstants: {step_overhead_s: -1}", "describes no device"),
        ("device: h200\nconstant: {}", "describes no device"),
        ("[", "describes no device"),
    ],
)
def test_a_wrong_device_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """What a file says wrongly is named, with the nearest right spelling."""
    file = tmp_path / "wrong.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(SettingsError) as caught:
        read_device(file)
    assert message in str(caught.value)
    assert "wrong.yaml" in str(caught.value)


def test_files_that_cannot_be_are_told(tmp_path: Path) -> None:
    """A missing file and a folder that is not there are said by name."""
    with pytest.raises(SettingsError, match=r"cannot read the device file .*absent\.yaml"):
        device_of(str(tmp_path / "absent.yaml"))
    with pytest.raises(SettingsError, match="cannot write"):
        write_device(tmp_path / "absent" / "x.yaml", "h200", H200, [])
