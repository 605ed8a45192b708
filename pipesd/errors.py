"""Every exception pipesd raises on purpose, and who is to blame.

PipeSDError
├── UsageError       the caller asked for something impossible
│   └── ConfigError  a setting is missing or impossible; the message starts with its name
├── LinkError        the connection could not be made, or was lost
├── PeerError        the other side broke the protocol; the link is closed, the process lives
├── RefusedError     the cloud answered that it will not serve this request, and why
├── EngineError      a model could not be loaded or failed while running
│   ├── TraceError   a recording is missing, broken, or does not go with the others
│   └── EngineLostError  the process a model ran in has ended; it is started anew with the next call
└── InterruptedStepError  a step of a model was told to stop, and did; no failure

Each message is one sentence for a person: what is wrong, then what to do.
"""


class PipeSDError(Exception):
    """Base of everything pipesd raises on purpose."""


class UsageError(PipeSDError, ValueError):
    """The caller asked for something impossible."""


class ConfigError(UsageError):
    """A setting is missing or impossible; the message starts with its name."""


class LinkError(PipeSDError):
    """The connection could not be made, or was lost."""


class PeerError(PipeSDError):
    """The other side broke the protocol."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        """A key of ``wire.faults.FAULTS``."""


class RefusedError(PipeSDError):
    """The cloud answered that it will not serve this request."""

    def __init__(self, code: str, message: str, *, retryable: bool, retry_s: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        """Whether the same request may succeed later."""

        self.retry_s = retry_s
        """When it may be worth trying again; 0 if the cloud did not say."""


class EngineError(PipeSDError):
    """A model could not be loaded, or failed while running."""


class TraceError(EngineError):
    """A recording is missing, broken, or does not go with the others."""


class EngineLostError(EngineError):
    """The process that the model ran in has ended: no sequence holds anything any more."""


class InterruptedStepError(PipeSDError):
    """``interrupt`` was called while the engine worked; truncate the sequence before its next use."""


def one_line(text: str) -> str:
    """``text`` without line breaks and control characters, for a message that quotes somebody else."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
