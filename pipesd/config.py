"""Settings: frozen, typed, and checked where they are built.

``load`` puts them together; later sources win: defaults, a TOML file, the environment, flags. Every
``ConfigError`` starts with the name of what is wrong, and says where it came from unless that is a default.
"""

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import platformdirs

from pipesd.address import host_port
from pipesd.errors import ConfigError, UsageError
from pipesd.hints import checked, from_text, hints_of
from pipesd.values import (
    Ahead,
    Batching,
    Objective,
    PolicyName,
    PromptMode,
    Range,
    Sampling,
    TunerPlace,
    Verify,
)

SECTIONS = ("edge", "cloud")


Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1, 2**31 - 1)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Seconds = Annotated[float, Range(0, 86_400, above=True)]
Milliseconds = Annotated[float, Range(0, 60_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """What both sides can be told."""

    section: ClassVar[str]
    """Heads the settings in a file; in capitals, part of their names in the environment."""

    engine: Literal["llama", "scripted", "replay"] = "llama"
    """What runs the model: llama.cpp; or a toy that needs nothing, or a recorded pair of real models."""

    numerics: Literal["exact", "fast"] = "exact"
    """Of llama.cpp: exact gives the same text however work is batched; fast is faster and may not."""

    threads: Annotated[int, Range(0, 1_024)] = 0
    """Threads for the model; 0 is one for each core. Give two models on one machine half of them each."""

    context_tokens: Annotated[int, Range(2, 200_000)] = 8_192
    """Most tokens of one text; a model that was trained on fewer has fewer."""

    kv_sequences: Annotated[int, Range(1, 64)] = 4
    """How many texts keep their place in the model's cache; more than that take slow turns."""

    prompts: PromptMode = "auto"
    """Put prompts into the target's chat template, or take them raw; auto: chat if it has a template."""

    system: str = ""
    """What a conversation is told first, as the system; only with a chat template."""

    traces: tuple[str, ...] = ()
    """Files of recordings for the replay engine; without any, the ones that come with pipesd."""

    script_seed: Seed = 0
    """Fixes the scripted target's text; give both sides the same, or drafts are wrong."""

    temperature: float = 0.0
    """0 always picks the likeliest token; 1 samples from the model's own distribution."""

    top_k: int = 0
    """Sample from the ``top_k`` likeliest tokens only; 0 is off."""

    top_p: float = 1.0
    """Sample from the smallest set of likeliest tokens whose probability reaches ``top_p``; 1 is off."""

    min_p: float = 0.0
    """Sample from tokens at least ``min_p`` times as likely as the likeliest; 0 is off."""

    seed: Seed = 0
    """Fixes the noise of sampling: the same seed gives the same text."""

    tokens_max: Count = 256
    """Most tokens of one answer."""

    ping_after_s: Seconds = 10.0
    """Ask the peer for a sign of life after hearing nothing for so long."""

    silent_after_s: Seconds = 30.0
    """Give the peer up after hearing nothing for so long; longer than ``ping_after_s``."""

    stop_timeout_s: Seconds = 2.0
    """How long a graceful stop may take before it becomes an immediate one."""

    def __post_init__(self) -> None:
        for name, hint in hints_of(type(self)).items():
            object.__setattr__(self, name, checked(name, getattr(self, name), hint))
        if not self.sampling.greedy and self.engine == "replay":
            raise ConfigError(
                f"temperature: recordings are replayed greedily only, not at {self.temperature:g}; "
                "leave it at 0, or choose another engine"
            )
        if self.silent_after_s <= self.ping_after_s:
            raise ConfigError(
                f"silent_after_s: must be above ping_after_s ({self.ping_after_s}), "
                f"not {self.silent_after_s}; raise it, or lower ping_after_s"
            )

    def _check_pace(self, name: str) -> None:
        if getattr(self, name) > 0 and self.engine == "llama":
            raise ConfigError(f"{name}: is for the scripted and replay engines; leave it out, or set engine")

    @property
    def sampling(self) -> Sampling:
        """How the target picks a token."""
        try:
            return Sampling(self.temperature, self.top_k, self.top_p, self.min_p)
        except UsageError as error:
            raise ConfigError(f"{error}; choose a value within") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig(CommonConfig):
    """The side that drafts. Raises ``ConfigError`` if a setting is impossible."""

    section = "edge"

    cloud: str = "127.0.0.1:7433"
    """Where the cloud listens, as HOST:PORT; IPv6 as [::1]:7433."""

    draft: str = "qwen2.5-coder-0.5b"
    """The draft model: a name that ``pipesd-edge pull`` knows, or the path of a .gguf file."""

    kv_sequences: Annotated[int, Range(1, 64)] = 2
    """How many texts keep their place in the draft's cache; more than that take slow turns."""

    agreement: Share = 0.85
    """How often the scripted draft guesses what the scripted target says."""

    draft_ms: Milliseconds = 0.0
    """Modelled time of one draft step; for the scripted and replay engines."""

    policy: PolicyName = "pipesd"
    """How to draft, send and ask: pipesd, a published way for comparison, or pipesd without one part."""

    r1: Share | None = None
    """Ask for a verdict once the product of the confidences since the last ask is at most this; 0 is off."""

    r2: Share | None = None
    """Ask for a verdict once a single draft's confidence is at most this; 0 is off."""

    upper_tokens: Count | None = None
    """Most drafts between two asks."""

    lower_tokens: Count | None = None
    """Fewest drafts worth asking for once the drafter has nothing left to do; at most ``upper_tokens``."""

    ahead: Ahead | None = None
    """Whether to draft on while a verdict is pending; expected: if that is expected to gain time."""

    batching: Batching | None = None
    """When drafts leave before a verdict on them is asked for."""

    tuner: TunerPlace = "auto"
    """Where thresholds are tuned while text is written; auto: by the cloud if it offers to, else here.
    Thresholds that are given stay as they are."""

    objective: Objective = "balanced"
    """What they are tuned for: time per token alone, or the cloud's work beside it, once or fourfold."""

    window_tokens: Count = 32
    """Most drafts without a verdict; at least the policy's ``upper_tokens``. The cloud may grant less."""

    connect_timeout_s: Seconds = 5.0
    """How long connecting to the cloud may take, its welcome included."""

    def __post_init__(self) -> None:
        CommonConfig.__post_init__(self)  # slots rebuild the class, so super() without arguments fails
        host_port(self.cloud, name="cloud", lowest_port=1)
        self._check_pace("draft_ms")
        if self.upper_tokens is None:
            return
        if self.lower_tokens is not None and self.lower_tokens > self.upper_tokens:
            raise ConfigError(
                f"lower_tokens: must be at most upper_tokens ({self.upper_tokens}), "
                f"not {self.lower_tokens}; lower it, or raise upper_tokens"
            )
        if self.window_tokens < self.upper_tokens:
            raise ConfigError(
                f"window_tokens: must be at least upper_tokens ({self.upper_tokens}), "
                f"not {self.window_tokens}; raise it, or lower upper_tokens"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig(CommonConfig):
    """The side that judges. Raises ``ConfigError`` if a setting is impossible."""

    section = "cloud"

    listen: str = "127.0.0.1:7433"
    """Where to listen, as HOST:PORT; IPv6 as [::1]:7433. Port 0 takes a free one."""

    model: str = "qwen2.5-coder-1.5b"
    """The target model: a name that ``pipesd-cloud pull`` knows, or the path of a .gguf file."""

    pass_ms: Milliseconds = 0.0
    """Modelled time of one pass; for the scripted and replay engines."""

    pass_token_ms: Milliseconds = 0.0
    """Modelled time of each token in such a pass, on top of ``pass_ms``."""

    chunk_tokens: Count = 512
    """Prompts are evaluated in chunks of so many tokens."""

    window_tokens: Count = 64
    """Most drafts without a verdict that an edge is granted."""

    pass_tokens: Count = 256
    """Most tokens of all sessions together in one pass."""

    verify: Verify = "piggyback"
    """Which drafts a pass judges: those asked about; also any that have arrived; eagerly, without an ask."""

    tuner: Literal["on", "off"] = "on"
    """Whether thresholds are tuned here for edges that ask for it."""

    sessions_max: Count = 64
    """Most sessions open at once, over all connections."""

    edge_sessions_max: Count = 16
    """Most sessions open at once on one connection."""

    connections_max: Count = 256
    """Most connections open at once."""

    handshake_timeout_s: Seconds = 10.0
    """How long a peer may take to introduce itself."""

    send_stall_s: Seconds = 20.0
    """A peer that reads nothing for so long, while there is something to read, is cut off."""

    def __post_init__(self) -> None:
        CommonConfig.__post_init__(self)  # slots rebuild the class, so super() without arguments fails
        host_port(self.listen, name="listen")
        self._check_pace("pass_ms")
        self._check_pace("pass_token_ms")

    @property
    def is_paced(self) -> bool:
        """Whether the time of a pass is modelled."""
        return self.pass_ms > 0 or self.pass_token_ms > 0


Config = TypeVar("Config", bound=CommonConfig)


@dataclass(frozen=True, slots=True)
class _Setting:
    name: str
    value: object
    source: str


def load(
    kind: type[Config], *, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
) -> Config:
    """Settings from all sources; flags that are None do not count.

    Without ``file``, the one named by PIPESD_CONFIG is read, or else the user's, if there is one. Raises
    ``ConfigError`` for anything that is unknown, of a wrong type or out of bounds.
    """
    found: dict[str, _Setting] = {}
    for settings in (_from_file(kind, file, environ), _from_environ(kind, environ), _from_flags(kind, flags)):
        found.update((setting.name, setting) for setting in settings)
    values: dict[str, Any] = {name: setting.value for name, setting in found.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        culprit = found.get(str(error).partition(":")[0])
        raise ConfigError(f"{error} ({culprit.source})" if culprit else str(error)) from None


def _from_file(kind: type[Config], file: Path | None, environ: Mapping[str, str]) -> Iterator[_Setting]:
    path, origin = _config_file(file, environ)
    document = {} if path is None else _read_toml(path, origin)
    for name, table in document.items():
        if name not in SECTIONS:
            raise ConfigError(
                f"{name}: unknown section or setting at the top of {path}; {_sections_advice(name)}"
            )
        if not isinstance(table, dict):
            raise ConfigError(f"{name}: must be a section, written [{name}], in {path}")
    for name, value in document.get(kind.section, {}).items():
        source = f"in [{kind.section}] of {path}"
        if name not in hints_of(kind):
            raise ConfigError(f"{name}: unknown setting {source}; {_closest(name, hints_of(kind))}")
        yield _Setting(name, value, source)


def _from_environ(kind: type[Config], environ: Mapping[str, str]) -> Iterator[_Setting]:
    prefix = f"PIPESD_{kind.section.upper()}_"
    known = {prefix + name.upper(): name for name in hints_of(kind)}
    for variable in sorted(variable for variable in environ if variable.startswith(prefix)):
        if variable not in known:
            raise ConfigError(f"{variable}: unknown environment variable; {_closest(variable, known)}")
        name, text = known[variable], environ[variable]
        source = f"from the environment variable {variable}"
        try:
            value = from_text(name, text, hints_of(kind)[name])
        except ConfigError as error:
            raise ConfigError(f"{error} ({source})") from None
        yield _Setting(name, value, source)


def _from_flags(kind: type[Config], flags: Mapping[str, object]) -> Iterator[_Setting]:
    for name, value in flags.items():
        if name not in hints_of(kind):
            raise ConfigError(
                f"{name}: unknown setting on the command line; {_closest(name, hints_of(kind))}"
            )
        if value is not None:
            yield _Setting(name, value, "from the command line")


def _config_file(file: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, str]:
    """The file to read, if any, and what named it."""
    if file is not None:
        return file, "config"
    if named := environ.get("PIPESD_CONFIG"):
        return Path(named), "PIPESD_CONFIG"
    users = Path(platformdirs.user_config_dir("pipesd", appauthor=False)) / "config.toml"
    return (users if users.is_file() else None), "config"


def _read_toml(path: Path, origin: str) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{origin}: cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{origin}: {path} is not UTF-8 text (at line {line})") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        end = f"at line {text.count(chr(10)) + 1}, the end of the file"
        reason = str(error).replace("at end of document", end)
        raise ConfigError(f"{origin}: {path} is not valid TOML: {reason}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: {path} holds what no setting can be: {error}") from None


def _sections_advice(name: str) -> str:
    homes = [f"[{kind.section}]" for kind in (EdgeConfig, CloudConfig) if name in hints_of(kind)]
    if homes:
        return f"put it under {' or '.join(homes)}"
    return f"the sections are [edge] and [cloud], and {_closest(name, SECTIONS)}"


def _closest(name: str, known: Iterable[str]) -> str:
    by_folded = {each.casefold(): each for each in known}
    best = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.0)
    return f"the closest known one is {by_folded[best[0]]}"
