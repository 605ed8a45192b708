"""Energy and metrics as a user sees them: flags of the cloud, figures at the edge and for Prometheus."""

import json
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.processes import expect_failure, generate, run, serving

SOURCE = "modelled: 60 W busy, 20 W idle"
POWER = ("--power-busy-watts", "60", "--power-idle-watts", "20")
METRICS = "pipesd-cloud: metrics at "


def test_joules_stand_beside_bytes_and_are_those_of_the_metrics():
    with serving("--pass-ms", "3", "--metrics", "127.0.0.1:0", *POWER) as (cloud, address):
        assert cloud.stderr is not None
        line = cloud.stderr.readline()
        assert line.startswith(METRICS)
        done = generate(address, "-p", "Hello", "--tokens-max", "40", "--json")
        shown = generate(address, "-p", "Hello", "--tokens-max", "40")
        with urllib.request.urlopen(line.removeprefix(METRICS).strip()) as page:
            assert page.headers["Content-Type"].startswith("text/plain")
            families = {each.name: each for each in text_string_to_metric_families(page.read().decode())}
    answer = json.loads(done.stdout)
    assert answer["energy_source"] == SOURCE
    assert answer["energy_j"] == answer["useful_j"] + answer["rejected_j"] > 0
    assert answer["energy_j_per_100"] == pytest.approx(100 * answer["energy_j"] / answer["tokens"])
    assert answer["energy_j"] >= 60 * 0.003 * answer["passes"]
    assert answer["sent_bytes_per_100"] > 0
    assert "bytes up and" in shown.stderr
    assert f"rejected; {SOURCE})" in shown.stderr
    energy = families["pipesd_energy_joules"].samples
    assert {sample.labels["source"] for sample in energy} == {SOURCE}
    assert {sample.labels["kind"] for sample in energy} == {"useful", "rejected", "idle"}
    assert families["pipesd_confirmed_tokens"].samples[0].value == 80


def test_without_a_source_json_says_that_nothing_is_known():
    with serving() as (_, address):
        answer = json.loads(generate(address, "-p", "Hello", "--tokens-max", "4", "--json").stdout)
    assert (answer["energy_j_per_100"], answer["energy_source"]) == (None, "")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--metrics", "127.0.0.1"), ("metrics: must be HOST:PORT",)),
        (("--energy", "measured"), ("energy: nothing can be measured", "declare power_busy_watts")),
        (("--energy", "modelled"), ("power_busy_watts: must be declared",)),
    ],
)
def test_what_cannot_be_is_one_sentence(flags: tuple[str, ...], words: tuple[str, ...]):
    expect_failure(run("cloud", "serve", "--listen", "127.0.0.1:0", *flags), 2, *words)


def test_a_port_that_is_taken_is_named():
    with serving() as (_, taken):
        done = run("cloud", "serve", "--listen", "127.0.0.1:0", "--metrics", taken)
    expect_failure(done, 2, f"metrics: cannot listen on {taken}", "in use")
