"""The table of codes that ``Fault`` and ``Refuse`` carry. A code is never reused for something else."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FaultRule:
    """What a code means to the edge."""

    retryable: bool
    """Whether the same request may succeed later, on a new connection if this one was closed."""

    meaning: str


FAULTS: Mapping[str, FaultRule] = {
    "malformed": FaultRule(False, "the bytes were not a frame"),
    "oversized": FaultRule(False, "a frame was larger than the limit"),
    "out_of_phase": FaultRule(False, "the frame is not allowed at this point"),
    "protocol": FaultRule(False, "a frame's fields contradict what was said before"),
    "window": FaultRule(False, "more unverified drafts were sent than the window allows"),
    "version": FaultRule(False, "the two sides speak different versions of the protocol"),
    "unsupported": FaultRule(False, "this side does not offer what was asked for"),
    "auth": FaultRule(False, "one side did not prove that it knows a good access token"),
    "sampling": FaultRule(False, "the target cannot sample as asked"),
    "context": FaultRule(False, "the text does not fit the target's context"),
    "busy": FaultRule(True, "no session or connection is free"),
    "engine": FaultRule(True, "the target model failed"),
    "silent": FaultRule(True, "nothing was heard for too long"),
    "stopping": FaultRule(True, "the cloud is stopping"),
}


def is_retryable(code: str) -> bool:
    """Whether a request that met ``code`` may succeed later; unknown codes of newer peers may not."""
    rule = FAULTS.get(code)
    return rule is not None and rule.retryable
