"""What the load processes are told: files in one folder, complete before the first request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How to send. Keys are not part of it: the child reads them from the environment, or from files.

    The key of the target is in the variable HXP_API_KEY. `tag_keys` names where the keys of single tags are.
    """

    base_url: str  # ends in /v1
    api_model: str
    api: str  # chat | completions
    stream: bool
    timeout_s: float
    temperature: float = 0.0
    ignore_eos: bool = True  # ask for exactly the output tokens of the schedule, where the server knows the field
    continuous_usage: bool = True  # ask for usage in every chunk, so that a chunk tells how many tokens it carries
    tokens_per_word: float = 1.0  # of the target's tokenizer, for our word list
    overhead_tokens: float = 0.0  # what the chat template adds to each prompt
    costs: tuple[int, ...] = ()  # tokens of each of our words behind another, where the target's /tokenize told them
    concurrency: int = 0  # slots of a closed loop; 0: every request has its own time
    tag_keys: dict[str, str] = field(default_factory=dict)  # of a tag: a variable's name, or @ and a file
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Due:
    """One request of the schedule. `intended_s` counts from the run's t0; `seed` makes its prompt.

    Where a request waits for an answer (sessions, closed loop), `intended_s` is only the time to expect: its trace has
    the end of what it waited for plus `think_s`.
    """

    index: int
    replicate: int  # -1 is warm-up
    intended_s: float
    prompt_tokens: int
    output_tokens: int
    seed: int
    tag: str = ""
    after: int = -1  # index of the request whose answer it follows; -1: none
    think_s: float = 0.0  # from that answer, or from the slot's becoming free, to its sending
    history_tokens: int = 0  # of prompt_tokens, what earlier turns of its session make up
    prefix_seed: int = 0  # makes its first `prefix_tokens` tokens, which others have too
    prefix_tokens: int = 0
    messages: tuple[dict[str, str], ...] = ()  # what to say instead of words made of seeds


@dataclass(frozen=True, slots=True)
class ClientShare:
    """What one client process did of a load."""

    due: int
    sent: int
    cpu_s: float
    peak_rss_bytes: int
    host: str = ""  # the worker that it ran on; empty: this machine


@dataclass(frozen=True, slots=True)
class HostShare:
    """What one worker, on a host of its own or not, had of a load."""

    name: str
    clients: int
    requests: int  # of the schedule
    traced: int  # of which a trace came back
    lost: str = ""  # why it is lost; empty: it stayed to the end
    offset_s: float = 0.0  # its monotonic clock minus the master's, as reckoned with
    uncertainty_s: float = 0.0  # how far that may have been wrong in the course of the load; 0: one clock

    @property
    def sentence(self) -> str:
        """What to say of a lost worker."""
        return (
            f"worker {self.name} was lost ({self.lost}); it had {self.requests} requests, "
            f"and {self.traced} traces of them came back"
        )


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What the hot loop says of itself when it ends, or of several what they say together."""

    t0_monotonic_s: float  # absolute CLOCK_MONOTONIC of t0
    t0_unix_s: float
    due: int  # requests whose intended time lay before the stop
    sent: int
    stamps: str  # kernel | kernel, at the ends of TLS records | user: where arrival times come from
    clock_step_s: float  # largest change of (wall - monotonic) seen; a step makes the run INVALID
    cpu_s: float  # of all clients
    peak_rss_bytes: int  # of the largest
    stopped_early: bool
    clients: tuple[ClientShare, ...] = ()  # one each, where there are several
    hosts: tuple[HostShare, ...] = ()  # one each, where workers sent the load

    @property
    def clock_uncertainty_s(self) -> float:
        """How far apart two hosts' idea of t0 may be; 0 on one clock."""
        return max((host.uncertainty_s for host in self.hosts), default=0.0)

    @property
    def lost(self) -> tuple[str, ...]:
        """A sentence for each worker that was lost."""
        return tuple(host.sentence for host in self.hosts if host.lost)

    @property
    def busiest_cpu_s(self) -> float:
        """CPU seconds of the client that used most."""
        return max((client.cpu_s for client in self.clients), default=self.cpu_s)

    @classmethod
    def together(cls, parts: Sequence[LoadSummary], hosts: Sequence[str] = ()) -> LoadSummary:
        """Return what several clients (at least one) say that began at one time, each on the host of that name."""
        if len(parts) == 1:
            return parts[0]
        names = hosts or [""] * len(parts)
        shares = [
            ClientShare(part.due, part.sent, part.cpu_s, part.peak_rss_bytes, name)
            for part, name in zip(parts, names, strict=True)
        ]
        return cls(
            t0_monotonic_s=parts[0].t0_monotonic_s,
            t0_unix_s=parts[0].t0_unix_s,
            due=sum(part.due for part in parts),
            sent=sum(part.sent for part in parts),
            stamps=", ".join(sorted({part.stamps for part in parts if part.due} or {parts[0].stamps})),
            clock_step_s=max((part.clock_step_s for part in parts), key=abs),
            cpu_s=sum(part.cpu_s for part in parts),
            peak_rss_bytes=max(part.peak_rss_bytes for part in parts),
            stopped_early=any(part.stopped_early for part in parts),
            clients=tuple(shares),
        )
