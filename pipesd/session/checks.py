"""What the edge holds its application and its cloud to."""

from collections.abc import Sequence
from typing import Literal

from pipesd.errors import PeerError, UsageError, one_line
from pipesd.session.commands import Failure
from pipesd.session.events import PromptGiven
from pipesd.session.ledger import Ledger, first_of
from pipesd.vocabulary import hashes_bytes
from pipesd.wire.frames import PROMPT_TOKENS_MAX, PROTOCOL_VERSION, Verdict, Welcome


def check_prompt(
    wish: PromptGiven, confirmed: int, grant: Welcome, *, model: Literal["target", "draft"] = "target"
) -> None:
    """Raise ``UsageError`` if a prompt is impossible for a text of ``confirmed`` tokens, and this model."""
    if not 0 <= wish.base <= confirmed:
        raise UsageError(f"base: must be between 0 and {confirmed}, not {wish.base}")
    if not wish.tokens:
        raise UsageError("the prompt is empty; give it at least one character")
    if len(wish.tokens) > PROMPT_TOKENS_MAX:
        raise UsageError(f"the prompt has more than {PROMPT_TOKENS_MAX} tokens; give it in several turns")
    if not 1 <= wish.tokens_max < 2**31:
        raise UsageError(f"tokens_max: must be at least 1 and below 2**31, not {wish.tokens_max}")
    if not 0 <= wish.seed < 2**63:
        raise UsageError(f"seed: must be at least 0 and below 2**63, not {wish.seed}")
    for token in (min(wish.tokens), max(wish.tokens)):
        if not 0 <= token < grant.vocabulary_size:
            raise UsageError(f"the prompt holds token {token}, which the {model} does not know")
    room = grant.context_tokens - wish.base
    if room < 2:
        raise UsageError(
            f"the text fills the {model}'s context of {grant.context_tokens}; begin a new session, "
            "or give a base and take some of it back"
        )
    if len(wish.tokens) >= room:
        raise UsageError(
            f"the prompt has {len(wish.tokens)} tokens, but the {model}'s context "
            f"of {grant.context_tokens} has room for {room - 1}; shorten it"
        )
    if grant.greedy_only and not wish.sampling.greedy:
        raise UsageError("temperature: this cloud's model decodes greedily only; leave it at 0")


def check_welcome(welcome: Welcome) -> None:
    """Raise ``PeerError`` if a cloud grants what cannot be."""
    if welcome.version != PROTOCOL_VERSION:
        raise PeerError("version", f"the cloud speaks version {welcome.version} of the protocol")
    if min(welcome.window_tokens, welcome.chunk_tokens, welcome.context_tokens - 1) < 1:
        raise PeerError("protocol", "the cloud grants no window, chunk or context")
    if len(welcome.vocabulary_hashes) != hashes_bytes(welcome.vocabulary_size):
        raise PeerError("protocol", "the cloud's vocabulary hashes do not fit its vocabulary's size")


def unlike_tokenizers(model: str, how: str) -> Failure:
    """Why this draft and that target cannot work together."""
    return Failure(
        "vocabulary",
        f"the draft's tokenizer differs from that of {one_line(model)} ({how}); "
        "use a draft model of the target's family",
    )


def unlike(one: Welcome, other: Welcome) -> list[str]:
    """What differs between two clouds that decides the target's text."""
    deciding = ("model", "engine", "numerics", "chunk_tokens", "vocabulary_hashes", "end_ids", "template")
    return [name for name in deciding if getattr(one, name) != getattr(other, name)]


def check_verdict(
    frame: Verdict,
    news: Sequence[int],
    books: Ledger,
    limit: int,
    vocabulary_size: int,
    end_ids: frozenset[int],
) -> None:
    """Raise ``PeerError`` if a verdict, which confirms ``news``, contradicts what was sent.

    ``limit`` is where the answer must end; why it ends earlier is the cloud's to say.
    """
    if frame.base != books.confirmed:
        raise PeerError("protocol", f"a verdict at {frame.base}, but {books.confirmed} are confirmed")
    if frame.accepted > books.sent_tokens:
        raise PeerError("protocol", f"{frame.accepted} drafts accepted of {books.sent_tokens} sent")
    if not frame.tokens and frame.finish is None:
        raise PeerError("protocol", "a verdict without a token")
    room = limit - frame.base - frame.accepted - len(frame.tokens)
    if room < 0 or (room == 0 and frame.finish is None):
        raise PeerError("protocol", f"a verdict beyond the limit of {limit} tokens")
    if frame.tokens and max(frame.tokens) >= vocabulary_size:
        raise PeerError("protocol", "a verdict with a token that is not in the vocabulary")
    if end_ids.isdisjoint(news):
        return
    if first_of(end_ids, news) < len(news) - (frame.finish is not None):
        raise PeerError("protocol", "a verdict with text behind an end id, or with one but no finish")
