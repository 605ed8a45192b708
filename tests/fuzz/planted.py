"""Bugs to plant, to show what the fuzzer finds. Each patches the running process, and nothing else."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from pipesd.engines import traces
from pipesd.lab import scenarios
from pipesd.session import cloud, edge, proof
from pipesd.transcript import common_prefix
from pipesd.wire import codec


def _empty_array(patch: pytest.MonkeyPatch) -> None:
    """The codec takes it for granted that an array has a tag."""
    patch.setattr(codec, "_tag", lambda raw: raw[0])


def _endless_frame(patch: pytest.MonkeyPatch) -> None:
    """The codec waits in vain for the body of an empty frame."""

    def feed(_: object, data: bytes) -> Iterator[Any]:
        while data[:4] == bytes(4):
            pass
        return iter(())

    patch.setattr(codec.Decoder, "feed", feed)


def _hoard(patch: pytest.MonkeyPatch) -> None:
    """The codec keeps all that it has ever seen, and more."""
    kept: list[bytes] = []

    def feed(_: object, data: bytes) -> Iterator[Any]:
        kept.append(data * 10_000)
        return iter(())

    patch.setattr(codec.Decoder, "feed", feed)


def _wrong_draft(patch: pytest.MonkeyPatch) -> None:
    """The cloud accepts the first wrong draft."""

    def lenient(drafts: list[int], picks: tuple[int, ...]) -> int:
        return min(len(drafts), len(picks) - 1, common_prefix(drafts, picks) + 1)

    patch.setattr(cloud, "common_prefix", lenient)


def _any_proof(patch: pytest.MonkeyPatch) -> None:
    """The cloud looks at no proof of a token."""
    patch.setattr(proof.CloudProof, "judge", lambda *_: ("liar", b""))


def _any_verdict(patch: pytest.MonkeyPatch) -> None:
    """The edge looks at no verdict."""
    patch.setattr(edge, "check_verdict", lambda *_: None)


def _no_rollouts(patch: pytest.MonkeyPatch) -> None:
    """The reader of traces does not see what a draft says after its own errors."""
    patch.setattr(traces, "_check_rollouts", lambda _: None)


def _any_outage(patch: pytest.MonkeyPatch) -> None:
    """The reader of scenarios does not look at outages."""
    patch.setattr(scenarios, "check_outages", lambda *_: None)


BUGS: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    "empty_array": _empty_array,
    "endless_frame": _endless_frame,
    "hoard": _hoard,
    "any_proof": _any_proof,
    "wrong_draft": _wrong_draft,
    "any_verdict": _any_verdict,
    "no_rollouts": _no_rollouts,
    "any_outage": _any_outage,
}


def plant(bug: str) -> None:
    """Patch this process for good."""
    BUGS[bug](pytest.MonkeyPatch())
