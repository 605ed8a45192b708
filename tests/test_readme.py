"""What the README says is so."""

import re
from pathlib import Path

from click.testing import CliRunner

from pipesd.cli.cloud import cloud_commands
from pipesd.cli.edge import edge_commands
from pipesd.cli.lab import lab_commands
from pipesd.config import EdgeConfig
from pipesd.session.phases import LEGAL_AT_CLOUD, LEGAL_AT_EDGE
from pipesd.settings import load

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {"edge": edge_commands, "cloud": cloud_commands, "lab": lab_commands}
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def phase_tables() -> str:
    lines = []
    for side, table in (("edge", LEGAL_AT_EDGE), ("cloud", LEGAL_AT_CLOUD)):
        lines += ["", f"| {side} | it is so while | frames that may arrive |", "|---|---|---|"]
        for phase, legal in table.items():
            frames = ", ".join(sorted(frame.__name__ for frame in legal)) or "none"
            lines.append(f"| {phase.name} | {phase.value} | {frames} |")
    return "\n".join(lines)


def test_the_phase_tables_are_those_of_the_code():
    assert phase_tables().strip() in section("The phases")


def test_the_map_names_files_that_exist_and_misses_no_package():
    places = re.findall(r"`(pipesd/[\w/]+\.py)`", section("Where is it?"))
    assert len(places) > 20
    assert [place for place in places if not (ROOT / place).is_file()] == []
    packages = {path.parent.name for path in (ROOT / "pipesd").glob("*/__init__.py")}
    assert packages <= {Path(place).parent.name for place in places}


def test_the_commands_are_there_and_may_be_run():
    commands = re.findall(r"^\$ (bin/[\w-]+)", README, flags=re.MULTILINE)
    assert {"bin/demo", "bin/test", "bin/pipesd-cloud", "bin/pipesd-edge"} <= set(commands)
    for command in commands:
        assert (ROOT / command).stat().st_mode & 0o100, f"{command} has no run bit"


def test_the_flags_in_the_commands_exist():
    for command in re.findall(r"^\$ bin/pipesd-(\w+) ((?:token )?\w+) (.*)$", README, flags=re.MULTILINE):
        side, name, arguments = command
        shown = CliRunner().invoke(COMMANDS[side], [*name.split(), "--help"], catch_exceptions=False).output
        flags = re.findall(r"(--[\w-]+)", arguments.partition("#")[0])
        assert flags
        assert [flag for flag in flags if flag not in shown] == []


def test_the_settings_in_the_example_file_are_accepted_and_are_the_defaults(tmp_path):
    example = section("Try it").split("```toml\n")[1].split("```")[0]
    (tmp_path / "config.toml").write_text(example, encoding="utf-8")
    config = load(EdgeConfig, file=tmp_path / "config.toml", environ={}, flags={})
    assert config == EdgeConfig(cloud="cloud.example:7433")


def test_links_to_files_lead_somewhere():
    links = re.findall(r"\]\(([\w/.]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
