"""How one start of a chunk ended: the table of the design, section 3.3. First match wins."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from pdfjob_api.contract import TerminationMessage
from pdfjob_api.errors import CHUNK_CODES, EXIT_CODE_ERRORS, ChunkCode, ExitCode
from pdfjob_api.pdfchunk import Ending, EndReason, Outcome

from .observation import EndFacts, Start
from .views import PodView

_MAX_MESSAGE: Final = 1024
_ENDED: Final = {
    EndReason.SUSPENDED: "ended to suspend the job",
    EndReason.STOPPED: "ended to stop the job",
    EndReason.CANCELLED: "ended to cancel the job",
    EndReason.JOB_FAILED: "ended since the job fails",
    EndReason.TIMED_OUT: "ended at the time limit of the job",
    EndReason.REQUEUED: "a queueing system suspended its Job",
}
_NOT_OURS: Final = frozenset({ExitCode.INTERRUPTED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a start ended and what follows for the counting of attempts."""

    outcome: Outcome
    code: ChunkCode | None
    message: str
    counted: bool
    final: bool
    """Whether no further start can heal it."""


def classify(start: Start, end: EndFacts, ending: Ending | None = None, *, saved_new: bool) -> Verdict:
    """Say how a start ended.

    Parameters
    ----------
    start
        Its Job and pods as they were last seen; an absent Job was deleted behind our back.
    end
        What S3 holds of it.
    ending
        Why the operator ended it; None when it did not.
    saved_new
        Whether it saved an item that no start before it had saved.
    """
    pod = telling_pod(start)
    if end.result is not None:
        reported = read_termination_message(pod).result_sha256 if pod is not None else None
        if reported in {None, end.result.sha256}:
            return Verdict(Outcome.SUCCEEDED, None, "", counted=True, final=True)
        return _failed(ChunkCode.STORAGE_ERROR, "the stored result is not the one that the runner reported")
    if ending is not None:
        return _by_us(ending)
    exit_code = _exit_code(start, pod)
    ours = exit_code in set(ExitCode) - _NOT_OURS
    taken = start.job is None or pod is None or pod.meta.deleted is not None
    if taken and not ours:
        return _lost("the pod or its Job was deleted or its node is gone")
    if (pod is not None and pod.disrupted) or (start.job is not None and start.job.disrupted):
        return _lost("the pod was evicted or preempted")
    if pod is not None and pod.reason == "DeadlineExceeded":
        return _failed(ChunkCode.TIMEOUT, "the hard time limit of the chunk was exceeded")
    if pod is not None and pod.reason == "Evicted":
        code = ChunkCode.OUT_OF_MEMORY if "memory" in pod.message.lower() else ChunkCode.PROCESSING_ERROR
        return _failed(code, pod.message)
    if pod is not None and pod.exit_reason == "OOMKilled":
        return _failed(ChunkCode.OUT_OF_MEMORY, "the container exceeded its memory limit")
    return _by_exit_code(exit_code, pod, end, saved_new=saved_new)


def _by_us(ending: Ending) -> Verdict:
    match ending.reason:
        case EndReason.STUCK:
            return _failed(ChunkCode.TIMEOUT, "Processing timeout - worker may have crashed")
        case EndReason.PENDING:
            code = ChunkCode(ending.code or ChunkCode.PROCESSING_ERROR)
            return _failed(code, ending.message, final=code is ChunkCode.PROCESSING_ERROR)
    return Verdict(Outcome.ENDED, None, _ENDED[ending.reason], counted=False, final=False)


def read_termination_message(pod: PodView) -> TerminationMessage:
    """Parse a pod's termination message; whatever is not of the contract becomes the message text."""
    text = pod.exit_message.strip()
    try:
        return TerminationMessage.model_validate(json.loads(text)) if text else TerminationMessage()
    except (ValueError, ValidationError):
        return TerminationMessage(message=text[:_MAX_MESSAGE])


def telling_pod(start: Start) -> PodView | None:
    """Return the pod whose container ended, or else any: a Job has one pod, ever."""
    ended = [pod for pod in start.pods if pod.ended]
    return next(iter(ended or start.pods), None)


def _exit_code(start: Start, pod: PodView | None) -> int | None:
    if pod is not None and pod.exit_code is not None:
        return pod.exit_code
    return start.job.exit_code if start.job is not None else None


def _by_exit_code(exit_code: int | None, pod: PodView | None, end: EndFacts, *, saved_new: bool) -> Verdict:
    said = read_termination_message(pod) if pod is not None else TerminationMessage()
    match exit_code:
        case ExitCode.DONE:
            return _failed(ChunkCode.PROCESSING_ERROR, end.result_error or "the runner ended well but stored no result")
        case ExitCode.INTERRUPTED:
            return _lost(said.message or "the runner was interrupted")
        case ExitCode.URL_EXPIRED:
            return _lost(said.message or "the presigned URLs expired before the pod could use them")
        case ExitCode.SOFT_TIMEOUT:
            message = said.message or "the soft time limit of the chunk was reached"
            return Verdict(
                Outcome.FAILED, ChunkCode.TIMEOUT, message[:_MAX_MESSAGE], counted=not saved_new, final=False
            )
        case ExitCode.INVALID_TASK:
            return _failed(ChunkCode.PROCESSING_ERROR, said.message or "the runner refused its task", final=True)
        case int(code) if code in EXIT_CODE_ERRORS:
            return _failed(EXIT_CODE_ERRORS[ExitCode(code)], said.message)
    message = said.message or (f"the runner ended with exit code {exit_code}" if exit_code is not None else "")
    return _failed(ChunkCode.PROCESSING_ERROR, message)


def _lost(message: str) -> Verdict:
    return Verdict(Outcome.LOST, None, message[:_MAX_MESSAGE], counted=False, final=False)


def _failed(code: ChunkCode, message: str, *, final: bool | None = None) -> Verdict:
    rule = CHUNK_CODES[code]
    text = (message or rule.message)[:_MAX_MESSAGE]
    return Verdict(
        Outcome.FAILED, code, text, counted=rule.counted, final=not rule.retryable if final is None else final
    )
