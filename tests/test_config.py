"""Every setting is checked, and an error names the setting and its source."""

import inspect
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from pipesd.config import CloudConfig, CommonConfig, EdgeConfig
from pipesd.engines.manifest import default_model
from pipesd.errors import ConfigError
from pipesd.values import PolicyName, Sampling


def test_defaults_stand_and_are_frozen() -> None:
    edge, cloud = EdgeConfig(), CloudConfig()
    assert edge.cloud == cloud.listen == "127.0.0.1:7433"
    assert edge.sampling == Sampling()
    with pytest.raises(FrozenInstanceError):
        edge.upper_tokens = 9  # type: ignore[misc]


def test_values_are_normalised() -> None:
    edge = EdgeConfig(r1=1, traces=["a", "b"])  # type: ignore[arg-type]
    assert (edge.r1, type(edge.r1), edge.traces) == (1.0, float, ("a", "b"))
    assert hash(edge) == hash(EdgeConfig(r1=1.0, traces=("a", "b")))


@pytest.mark.parametrize("kind", [EdgeConfig, CloudConfig])
def test_every_setting_has_a_description(kind: type[CommonConfig]) -> None:
    source = Path(inspect.getfile(kind)).read_text()
    for field in fields(kind):
        assert re.search(rf'^    {field.name}: .*\n    """\S', source, re.MULTILINE), field.name


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("upper_tokens", 0, "must be at least 1 and at most 2147483647, not 0; raise it"),
        ("upper_tokens", "8", "must be a whole number, not '8'"),
        ("upper_tokens", True, "must be a whole number, not True"),
        ("lower_tokens", 0, "must be at least 1 and at most 2147483647, not 0; raise it"),
        ("agreement", 1.5, "must be at least 0 and at most 1, not 1.5; lower it"),
        ("draft_ms", -1, "must be at least 0 and at most 60000, not -1.0; raise it"),
        ("r1", float("nan"), "must be at least 0 and at most 1, not nan; give a number"),
        ("connect_timeout_s", 0, "must be above 0 and at most 86400, not 0.0; raise it"),
        ("connect_timeout_s", float("inf"), "must be above 0 and at most 86400, not inf; lower it"),
        (
            "silent_after_s",
            10.0,
            "must be above ping_after_s (10.0), not 10.0; raise it, or lower ping_after_s",
        ),
        ("engine", "gguf", "must be llama or torch or scripted or replay, not 'gguf'"),
        ("device", "gpu", "must be auto or cpu or cuda or mps, not 'gpu'"),
        ("dtype", "int8", "must be auto or float32 or bfloat16 or float16, not 'int8'"),
        ("gpu_layers", -1, "must be at least 0 and at most 100000, not -1; raise it"),
        ("numerics", "Exact", "must be exact or fast, not 'Exact'"),
        ("prompts", "", "must be auto or chat or raw, not ''"),
        ("threads", -1, "must be at least 0 and at most 1024, not -1; raise it"),
        ("context_tokens", 1, "must be at least 2 and at most 200000, not 1; raise it"),
        ("kv_sequences", 257, "must be at least 1 and at most 256, not 257; lower it"),
        ("system", 1, "must be text, not 1"),
        ("draft", None, "must be text, not None"),
        ("policy", "fast", f"must be {' or '.join(get_args(PolicyName))}, not 'fast'"),
        ("ahead", True, "must be never or always or expected, not True"),
        ("batching", "", "must be at_trigger or immediate or planned or work_conserving, not ''"),
        ("tuner", "on", "must be auto or edge or cloud or off, not 'on'"),
        ("objective", "", "must be latency or balanced or cost, not ''"),
        ("traces", "a.jsonl", "must be a list of texts, not 'a.jsonl'"),
        ("seed", -1, "must be at least 0 and at most 9223372036854775807, not -1; raise it"),
        ("temperature", -0.5, "must be between 0 and 100, not -0.5; choose a value within"),
        ("top_k", -1, "must be 0 (off) or a positive whole number, not -1; choose a value within"),
        ("top_p", 0.0, "must be above 0 and at most 1, not 0.0; choose a value within"),
        ("min_p", 2.0, "must be between 0 and 1, not 2.0; choose a value within"),
        ("cloud", "localhost:0", "the port must be between 1 and 65535, not 0"),
        ("cloud", "one:1,two:0", "the port must be between 1 and 65535, not 0"),
        ("token", 1, "must be text, not 1"),
        ("offline", "pause", "must be wait or draft or stop, not 'pause'"),
        ("offline_tokens", 0, "must be at least 1 and at most 2147483647, not 0; raise it"),
        ("offline_timeout_s", 0, "must be above 0 and at most 86400, not 0.0; raise it"),
    ],
)
def test_an_impossible_setting_is_named(name: str, value: object, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EdgeConfig(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{name}: {says}"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"upper_tokens": 8, "lower_tokens": 9},
            "lower_tokens: must be at most upper_tokens (8), not 9; lower it, or raise upper_tokens",
        ),
        (
            {"upper_tokens": 8, "window_tokens": 7},
            "window_tokens: must be at least upper_tokens (8), not 7; raise it, or lower upper_tokens",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_named(settings: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EdgeConfig(**settings)  # type: ignore[arg-type]
    assert str(caught.value) == says


@pytest.mark.parametrize("kind", [EdgeConfig, CloudConfig])
@pytest.mark.parametrize(
    ("name", "value", "engine"),
    [("gpu_layers", 9, "llama"), ("device", "cpu", "torch"), ("dtype", "bfloat16", "torch")],
)
def test_what_concerns_one_engine_is_refused_for_others(
    kind: type[CommonConfig], name: str, value: object, engine: str
) -> None:
    assert getattr(kind(engine=engine, **{name: value}), name) == value  # type: ignore[arg-type]
    for other in {"llama", "torch", "scripted", "replay"} - {engine}:
        with pytest.raises(ConfigError) as caught:
            kind(engine=other, **{name: value})  # type: ignore[arg-type]
        assert str(caught.value) == (
            f"{name}: is for the engine {engine}; leave it out, or set engine to {engine}"
        )


@pytest.mark.parametrize("kind", [EdgeConfig, CloudConfig])
def test_a_recording_knows_no_temperature(kind: type[EdgeConfig | CloudConfig]) -> None:
    assert kind(engine="replay", temperature=0.0, top_p=0.5).sampling.greedy
    assert kind(engine="scripted", temperature=0.7).temperature == 0.7
    with pytest.raises(ConfigError) as caught:
        kind(engine="replay", temperature=0.7)
    assert str(caught.value) == (
        "temperature: recordings are replayed greedily only, not at 0.7; leave it at 0, or choose another "
        "engine"
    )


def test_what_the_policy_says_is_not_known_until_it_is_overridden() -> None:
    edge = EdgeConfig()
    assert edge.policy == "pipesd"
    own = (edge.r1, edge.r2, edge.upper_tokens, edge.lower_tokens, edge.ahead, edge.batching)
    assert own == (None,) * 6
    assert edge == EdgeConfig(
        r1=None, r2=None, upper_tokens=None, lower_tokens=None, ahead=None, batching=None
    )
    assert EdgeConfig(window_tokens=1).window_tokens == 1


def test_of_several_clouds_each_is_checked() -> None:
    assert EdgeConfig(cloud="one:1, [::1]:2").cloud == "one:1, [::1]:2"
    for broken in ("one:1,", "one:1,two", ",one:1"):
        with pytest.raises(ConfigError, match=r"^cloud: must be HOST:PORT"):
            EdgeConfig(cloud=broken)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("tokens", None, "must be text, not None"),
        ("lease_s", 0, "must be above 0 and at most 86400, not 0.0; raise it"),
        ("drain_s", float("inf"), "must be above 0 and at most 86400, not inf; lower it"),
        ("address_connections_max", 0, "must be at least 1 and at most 2147483647, not 0; raise it"),
    ],
)
def test_an_impossible_setting_of_the_cloud_is_named(name: str, value: object, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CloudConfig(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{name}: {says}"


def test_an_edge_waits_for_its_cloud_and_a_cloud_keeps_what_its_edge_left() -> None:
    edge, cloud = EdgeConfig(), CloudConfig()
    assert (edge.offline, edge.token, cloud.tokens) == ("wait", "", "")
    assert edge.offline_timeout_s <= cloud.lease_s, "who comes back in time should find its cache"
    assert cloud.address_connections_max <= cloud.connections_max


def test_an_unknown_way_to_verify_is_named() -> None:
    assert CloudConfig().verify == "piggyback"
    with pytest.raises(ConfigError) as caught:
        CloudConfig(verify="never")  # type: ignore[arg-type]
    assert str(caught.value) == "verify: must be on_request or piggyback or eager, not 'never'"


def test_the_cloud_tunes_for_others_or_does_not() -> None:
    with pytest.raises(ConfigError) as caught:
        CloudConfig(tuner="auto")  # type: ignore[arg-type]
    assert str(caught.value) == "tuner: must be on or off, not 'auto'"


@pytest.mark.parametrize("name", [field.name for field in fields(CloudConfig)])
def test_every_number_of_the_cloud_is_bounded(name: str) -> None:
    if isinstance(getattr(CloudConfig(), name), int | float):
        with pytest.raises(ConfigError, match=f"^{name}: "):
            CloudConfig(**{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "name"), [(EdgeConfig, "draft_ms"), (CloudConfig, "pass_ms"), (CloudConfig, "pass_token_ms")]
)
def test_a_real_model_has_the_pace_it_has(kind: type[CommonConfig], name: str) -> None:
    for engine in ("llama", "torch"):
        with pytest.raises(ConfigError) as caught:
            kind(engine=engine, **{name: 1})  # type: ignore[arg-type]
        assert str(caught.value) == (
            f"{name}: is for the scripted and replay engines; leave it out, or set engine"
        )
    for engine in ("scripted", "replay"):
        assert getattr(kind(engine=engine, **{name: 1}), name) == 1.0  # type: ignore[arg-type]


def test_a_cloud_is_paced_if_a_pass_or_its_tokens_take_time() -> None:
    assert not CloudConfig().is_paced
    assert CloudConfig(engine="scripted", pass_ms=1).is_paced
    assert CloudConfig(engine="scripted", pass_token_ms=1).is_paced


@pytest.mark.parametrize(("engine", "by_itself"), [("llama", True), ("scripted", False), ("replay", False)])
def test_a_real_model_has_a_process_of_its_own_unless_it_is_told(
    engine: Literal["llama", "scripted", "replay"], by_itself: bool
) -> None:
    assert CloudConfig(engine=engine).is_apart == by_itself
    assert CloudConfig(engine=engine, engine_process="on").is_apart
    assert not CloudConfig(engine=engine, engine_process="off").is_apart


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"energy": "modelled"}, "power_busy_watts: must be declared if energy is modelled"),
        ({"power_idle_watts": 5.0}, "power_busy_watts: must be declared if power_idle_watts is"),
        ({"power_busy_watts": 5.0, "power_idle_watts": 6.0}, "power_idle_watts: must be at most"),
        ({"energy": "on"}, "energy: must be auto or measured or modelled or off, not 'on'"),
        ({"power_busy_watts": -1.0}, "power_busy_watts: must be at least 0 and at most 1000000, not -1.0"),
        ({"metrics": "9100"}, "metrics: must be HOST:PORT"),
        ({"metrics": "localhost:70000"}, "metrics: the port must be between 0 and 65535"),
    ],
)
def test_settings_of_energy_and_metrics_are_checked(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CloudConfig(**settings)  # type: ignore[arg-type]
    assert str(caught.value).startswith(says)


def test_energy_is_measured_where_it_can_be_and_metrics_are_offered_on_demand() -> None:
    assert (CloudConfig().energy, CloudConfig().power_busy_watts, CloudConfig().metrics) == ("auto", None, "")
    config = CloudConfig(energy="modelled", power_busy_watts=60, power_idle_watts=0, metrics="[::1]:0")
    assert (config.power_busy_watts, config.power_idle_watts, config.metrics) == (60.0, 0.0, "[::1]:0")


def test_the_default_models_are_those_of_the_manifest() -> None:
    """Said twice, since the settings know none of the parts they serve."""
    assert EdgeConfig().draft == default_model("draft").name
    assert CloudConfig().model == default_model("target").name
    assert EdgeConfig().engine == CloudConfig().engine == "llama"


def test_bounds_themselves_are_allowed() -> None:
    edge = EdgeConfig(upper_tokens=1, lower_tokens=1, window_tokens=1, agreement=0, r1=0, r2=1, draft_ms=0)
    assert (EdgeConfig(threads=1_024).threads, EdgeConfig(context_tokens=2).context_tokens) == (1_024, 2)
    assert [EdgeConfig(kv_sequences=number).kv_sequences for number in (1, 256)] == [1, 256]
    assert (edge.window_tokens, edge.r2) == (1, 1.0)
    assert CloudConfig(listen="[::1]:0", seed=2**63 - 1, tokens_max=1).seed == 2**63 - 1


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (
            CloudConfig,
            {"listen": "0.0.0.0:7433"},
            "listen: 0.0.0.0 may be reached from elsewhere, and nothing",
        ),
        (CloudConfig, {"listen": "[::]:7433"}, "listen: :: may be reached from elsewhere"),
        (
            CloudConfig,
            {"listen": "cloud.example:7433"},
            "listen: cloud.example may be reached from elsewhere",
        ),
        (CloudConfig, {"tls_ca": "ca.pem"}, "tls_ca: edges are asked for certificates over TLS only"),
        (CloudConfig, {"tls_cert": "cert.pem"}, "tls_cert: is of no use without tls_key; give both"),
        (EdgeConfig, {"tls_key": "key.pem"}, "tls_key: is of no use without tls_cert; give both"),
        (
            EdgeConfig,
            {"tls_cert": "c.pem", "tls_key": "k.pem"},
            "tls_cert: is shown over TLS only; give tls_ca",
        ),
    ],
)
def test_what_is_not_safe_or_makes_no_sense_is_refused(
    kind: type[EdgeConfig | CloudConfig], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**settings)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "[::1]", "localhost"])
def test_this_machine_alone_needs_no_tls(host: str) -> None:
    assert CloudConfig(listen=f"{host}:7433").tls_cert == ""


@pytest.mark.parametrize("how", [{"insecure": True}, {"tls_cert": "cert.pem", "tls_key": "key.pem"}])
def test_others_are_let_in_over_tls_or_if_it_is_said(how: dict[str, Any]) -> None:
    assert CloudConfig(listen="0.0.0.0:7433", **how).listen == "0.0.0.0:7433"
