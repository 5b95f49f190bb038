"""One request under way, and the trace that becomes of it when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from hxp_harness.load.answer import DETAIL_CHARACTERS, Answer, Read, judge_end, read_stream, read_whole, said_by
from hxp_harness.load.plan import Due
from hxp_harness.load.reads import Raw, reads_of
from hxp_harness.load.reply import where
from hxp_harness.trace import ErrorKind, Trace

_NS = 1_000_000_000


@dataclass(slots=True)
class Exchange:
    """Readings of a request while it is open; times in nanoseconds on the monotonic clock."""

    due: Due
    request: bytes
    request_id: str
    stream: bool
    intended_ns: int
    deadline_ns: int
    sent_ns: int = 0  # when the kernel was asked to connect or to send, whichever came first; 0: never
    end_ns: int = 0  # 0: open
    begun_ns: int = 0  # when it was last begun on a connection: none of its bytes came before
    new_connection: bool = False
    retried: bool = False
    status: int | None = None
    content_type: bytes = b""
    body: bytes = b""
    bounds: dict[int, int] | None = None  # as Reply has them
    raws: list[Raw] = field(default_factory=list)
    error: ErrorKind = ErrorKind.NONE
    detail: str = ""

    def to_trace(self, t0_ns: int) -> Trace:
        """Return the trace of an ended exchange, its times in seconds since `t0_ns`."""
        reads, read_lag_ns = reads_of(self.raws, where(self.raws, self.bounds), self.begun_ns)
        answer = self._answer(reads)
        due = self.due
        return Trace(
            index=due.index,
            replicate=due.replicate,
            intended_s=self._intended_s(t0_ns),
            asked_prompt_tokens=due.prompt_tokens,
            asked_output_tokens=due.output_tokens,
            tag=due.tag,
            sent_s=(self.sent_ns - t0_ns) / _NS if self.sent_ns else None,
            end_s=(self.end_ns - t0_ns) / _NS,
            token_lo_s=tuple([(lo_ns - t0_ns) / _NS for lo_ns in answer.token_lo_ns]),
            token_hi_s=tuple([(hi_ns - t0_ns) / _NS for hi_ns in answer.token_hi_ns]),
            chunks=answer.chunks,
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
            cached_tokens=answer.cached_tokens,
            status=self.status,
            finish_reason=answer.finish_reason,
            error=answer.error,
            detail=answer.detail,
            read_lag_s=read_lag_ns / _NS,
            new_connection=self.new_connection,
            request_id=self.request_id if self.sent_ns else "",
        )

    def _intended_s(self, t0_ns: int) -> float:
        """Return the schedule's own number, unless the time came out of an answer."""
        drawn = t0_ns + int(self.due.intended_s * _NS) == self.intended_ns
        return self.due.intended_s if drawn else (self.intended_ns - t0_ns) / _NS

    def _answer(self, reads: list[Read]) -> Answer:
        if self.status not in {None, 200}:
            answer = Answer()
            answer.fail(self.error or ErrorKind.HTTP, self.detail or said_by(self.body))
        elif self.stream:
            answer = self._read_stream(reads)
        elif self.error is not ErrorKind.NONE:
            answer = Answer(error=self.error, detail=self.detail[:DETAIL_CHARACTERS])
        else:
            answer = read_whole(self.body, reads)
        return answer

    def _read_stream(self, reads: list[Read]) -> Answer:
        answer = read_stream(self.body, reads)
        if self.error in {ErrorKind.RESET, ErrorKind.CUT} and answer.done:
            judge_end(answer)  # cut behind [DONE]: everything had come
        elif self.error is not ErrorKind.NONE:
            answer.fail(self.error, self.detail)
        elif not (answer.done or answer.finish_reason) and b"event-stream" not in self.content_type.lower():
            kind = self.content_type.decode("latin-1")
            answer.fail(ErrorKind.BAD_SSE, f"the response is no event stream but {kind or 'has no content type'}")
        else:
            judge_end(answer)
        return answer
