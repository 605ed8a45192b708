"""Settings: frozen, typed, and checked where they are built; ``settings.load`` puts them together.

Every ``ConfigError`` starts with the name of what is wrong.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pipesd.address import host_port, host_ports, is_loopback
from pipesd.errors import ConfigError, UsageError
from pipesd.hints import checked, hints_of
from pipesd.power import check_declared
from pipesd.values import (
    Ahead,
    Batching,
    Objective,
    Offline,
    PolicyName,
    PromptMode,
    Range,
    Sampling,
    TunerPlace,
    Verify,
)

Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1, 2**31 - 1)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Seconds = Annotated[float, Range(0, 86_400, above=True)]
Milliseconds = Annotated[float, Range(0, 60_000)]
Watts = Annotated[float, Range(0, 1_000_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """What both sides can be told."""

    section: ClassVar[str]
    """Heads the settings in a file; in capitals, part of their names in the environment."""

    engine: Literal["llama", "torch", "scripted", "replay"] = "llama"
    """What runs the model: llama.cpp, or transformers with PyTorch; or a toy that needs nothing, or a
    recorded pair of real models."""

    numerics: Literal["exact", "fast"] = "exact"
    """Of real models: exact gives the same text however work is batched; fast is faster and may not, and so
    is a GPU."""

    gpu_layers: Annotated[int, Range(0, 100_000)] = 0
    """How many layers llama.cpp puts on a GPU, if it was built for one; then numerics are fast."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where torch runs the model; auto: on a GPU if there is one."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The numbers that torch computes with; auto: float32 on the CPU, 16 bits on a GPU."""

    threads: Annotated[int, Range(0, 1_024)] = 0
    """Threads for the model; 0 is one for each core. Give two models on one machine half of them each."""

    context_tokens: Annotated[int, Range(2, 200_000)] = 8_192
    """Most tokens of one text; a model that was trained on fewer has fewer."""

    kv_sequences: Annotated[int, Range(1, 256)] = 4
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

    tls_cert: str = ""
    """A certificate to show to the other side, in a PEM file; with ``tls_key``. A cloud then speaks TLS."""

    tls_key: str = ""
    """The key of ``tls_cert``, without a password."""

    tls_ca: str = ""
    """The authorities that must have signed the other side's certificate, in a PEM file; ``system``: those of
    this machine. An edge then speaks TLS, a cloud lets nobody in without a certificate."""

    ping_after_s: Seconds = 10.0
    """Ask the peer for a sign of life after hearing nothing for so long."""

    silent_after_s: Seconds = 30.0
    """Give the peer up after hearing nothing for so long; longer than ``ping_after_s``."""

    stop_timeout_s: Seconds = 2.0
    """How long a graceful stop may take before it becomes an immediate one."""

    log_content: bool = False
    """Let the log hold prompts, texts and token ids too, for whoever looks for an error; secrets never."""

    def __post_init__(self) -> None:
        for name, hint in hints_of(type(self)).items():
            object.__setattr__(self, name, checked(name, getattr(self, name), hint))
        if not self.sampling.greedy and self.engine == "replay":
            raise ConfigError(
                f"temperature: recordings are replayed greedily only, not at {self.temperature:g}; "
                "leave it at 0, or choose another engine"
            )
        for name, engine in (("gpu_layers", "llama"), ("device", "torch"), ("dtype", "torch")):
            if getattr(self, name) not in (0, "auto") and self.engine != engine:
                raise ConfigError(
                    f"{name}: is for the engine {engine}; leave it out, or set engine to {engine}"
                )
        if bool(self.tls_cert) != bool(self.tls_key):
            alone, missing = ("tls_cert", "tls_key") if self.tls_cert else ("tls_key", "tls_cert")
            raise ConfigError(f"{alone}: is of no use without {missing}; give both, or neither")
        if self.silent_after_s <= self.ping_after_s:
            raise ConfigError(
                f"silent_after_s: must be above ping_after_s ({self.ping_after_s}), "
                f"not {self.silent_after_s}; raise it, or lower ping_after_s"
            )

    def _check_pace(self, name: str) -> None:
        if getattr(self, name) > 0 and self.engine in ("llama", "torch"):
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
    """Where the cloud listens, as HOST:PORT; IPv6 as [::1]:7433. Of several, with commas between, the first
    that answers is used, and the next when that is gone."""

    token: str = field(default="", repr=False)
    """The access token, or a file that holds it. Others on this machine may see flags; they see neither the
    environment nor the settings file."""

    draft: str = "qwen2.5-coder-0.5b"
    """The draft model: a name that ``pipesd-edge pull`` knows, or the path of a .gguf file; with the engine
    torch also that of a folder of Hugging Face."""

    kv_sequences: Annotated[int, Range(1, 256)] = 2
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

    offline: Offline = "wait"
    """What an answer does while no cloud can be reached: wait, and draft as far as the window goes; go on
    with drafts, which are shown as such until they are judged; or stop."""

    offline_tokens: Count = 256
    """Most drafts of an answer that are shown without a verdict."""

    offline_timeout_s: Seconds = 300.0
    """How long to try to get a lost connection back."""

    busy_timeout_s: Seconds = 60.0
    """How long to wait, over several tries, for a cloud that has no room."""

    connect_timeout_s: Seconds = 5.0
    """How long connecting to the cloud may take, its welcome included."""

    def __post_init__(self) -> None:
        CommonConfig.__post_init__(self)  # slots rebuild the class, so super() without arguments fails
        host_ports(self.cloud, name="cloud", lowest_port=1)
        if self.tls_cert and not self.tls_ca:
            raise ConfigError("tls_cert: is shown over TLS only; give tls_ca too")
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
    """The target model: a name that ``pipesd-cloud pull`` knows, or the path of a .gguf file; with the engine
    torch also that of a folder of Hugging Face."""

    engine_process: Literal["auto", "on", "off"] = "auto"
    """Whether the engine has a process of its own, so that its crash ends no connection; auto: if it runs a
    real model."""

    pass_timeout_s: Seconds = 300.0
    """How long a pass may take before the engine's own process is taken to hang, and is started anew."""

    pass_ms: Milliseconds = 0.0
    """Modelled time of one pass; for the scripted and replay engines."""

    pass_token_ms: Milliseconds = 0.0
    """Modelled time of each token in such a pass, on top of ``pass_ms``."""

    chunk_tokens: Count = 64
    """Prompts are evaluated in chunks of so many tokens; a pass of the model holds one such chunk at most."""

    window_tokens: Count = 64
    """Most drafts without a verdict that an edge is granted."""

    pass_tokens: Count = 256
    """Most tokens of all sessions together in one pass."""

    pass_sessions: Count = 64
    """Most sessions in one pass; 1 lets them use the model one at a time."""

    verify: Verify = "piggyback"
    """Which drafts a pass judges: those asked about; also any that have arrived; eagerly, without an ask."""

    tuner: Literal["on", "off"] = "on"
    """Whether thresholds are tuned here for edges that ask for it."""

    sessions_max: Count = 256
    """Most sessions open at once, over all connections."""

    edge_sessions_max: Count = 16
    """Most sessions open at once on one connection."""

    connections_max: Count = 256
    """Most connections open at once."""

    address_connections_max: Count = 64
    """Most connections open at once from one address, or from one /64 of IPv6."""

    tokens: str = ""
    """The file of access tokens, as pipesd-cloud token makes it; without one whoever connects is let in."""

    lease_s: Seconds = 300.0
    """How long a session is kept whose connection was lost, so that it can go on where it was."""

    drain_s: Seconds = 5.0
    """How long, when this cloud is to stop, edges still get the verdicts that they wait for."""

    prefill_tokens_max: Count = 65_536
    """Most tokens of all texts together that may wait to be read; further prompts are told to come later."""

    busy_retry_s: Seconds = 2.0
    """When an edge that was turned away for lack of room is told to try again."""

    insecure: bool = False
    """Listen for others than this machine without TLS: whoever is on the way can read and change texts."""

    handshake_timeout_s: Seconds = 10.0
    """How long a peer may take to introduce itself."""

    send_stall_s: Seconds = 20.0
    """A peer that reads nothing for so long, while there is something to read, is cut off."""

    energy: Literal["auto", "measured", "modelled", "off"] = "auto"
    """Where figures of energy come from: counters of this machine, or the watts declared below;
    auto: counters if there are any, else declared watts, else no figures."""

    power_busy_watts: Watts | None = None
    """What this machine is declared to take while the target works; all figures from it say ``modelled``."""

    power_idle_watts: Watts | None = None
    """What it is declared to take between passes; counts in the metrics of the whole server only."""

    metrics: str = ""
    """Where to offer figures to Prometheus, as HOST:PORT; port 0 takes a free one. Nowhere if empty."""

    def __post_init__(self) -> None:
        CommonConfig.__post_init__(self)  # slots rebuild the class, so super() without arguments fails
        host, _ = host_port(self.listen, name="listen")
        if self.tls_ca and not self.tls_cert:
            raise ConfigError("tls_ca: edges are asked for certificates over TLS only; give tls_cert too")
        if not (self.tls_cert or self.insecure or is_loopback(host)):
            raise ConfigError(
                f"listen: {host} may be reached from elsewhere, and nothing is encrypted; give tls_cert and "
                "tls_key (pipesd-cloud keygen makes them), or say insecure"
            )
        if self.metrics:
            host_port(self.metrics, name="metrics")
        check_declared(self.energy, self.power_busy_watts, self.power_idle_watts)
        self._check_pace("pass_ms")
        self._check_pace("pass_token_ms")

    @property
    def is_paced(self) -> bool:
        """Whether the time of a pass is modelled."""
        return self.pass_ms > 0 or self.pass_token_ms > 0

    @property
    def is_apart(self) -> bool:
        """Whether the engine is to have a process of its own."""
        is_real = self.engine not in ("scripted", "replay")
        return self.engine_process == "on" or (self.engine_process == "auto" and is_real)
