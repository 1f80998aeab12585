"""What is in `deploy/` beside the unit: valid by the schemas and tools of those who read it, and open to nobody."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from meterbridge.cli.app import _COMMANDS
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "meterbridge.rules.yml"


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def checked(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_compose_file_is_what_the_compose_specification_says(tmp_path: Path) -> None:
    schema = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked(*schema, DEPLOY / "compose.yaml")
    # The check itself: one word misspelt is found.
    (tmp_path / "compose.yaml").write_text((DEPLOY / "compose.yaml").read_text().replace("restart:", "restrat:", 1))
    assert subprocess.run([*schema, tmp_path / "compose.yaml"], capture_output=True, check=False).returncode != 0


def test_the_compose_file_holds_together() -> None:
    services, volumes = compose()["services"], compose()["volumes"]
    assert set(services) >= {"meterbridge", "mosquitto", "gateway", "thingsboard", "simulator"}
    for name, service in services.items():
        image, _, tag = service["image"].rpartition(":")
        assert image, name
        assert re.match(r"[0-9]", tag), f"{name}: a version, not what is newest today"
        assert set(service.get("depends_on", {})) <= set(services), name
        for mount in service.get("volumes", []):
            assert mount.partition(":")[0] in volumes, name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to others"
        if "build" in service:
            folder = (DEPLOY / service["build"]["context"]).resolve()
            assert (folder / service["build"]["dockerfile"]).is_file()
            assert service.get("user", "10001") == "10001"


def test_commands_of_our_image_are_commands() -> None:
    for name, service in compose()["services"].items():
        words = service.get("command", [])
        if not service["image"].startswith("meterbridge:") or not words:
            continue
        shown = checked(sys.executable, "-m", "meterbridge", words[0], "--help")
        for word in words:
            if word.startswith("--"):
                assert word in shown, (name, word)


def test_the_image_runs_pinned_code_as_nobody_special_and_says_how_it_is() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    stages = re.split(r"(?m)^FROM ", text)[1:]
    for stage in (stages[-1], next(stage for stage in stages if " AS gateway\n" in stage)):
        assert re.findall(r"(?m)^USER (.*)$", stage) == ["10001"]
    assert "/healthz" in re.sub(r"\\\n", " ", stages[-1]).partition("HEALTHCHECK")[2].partition("\n")[0]
    for line in re.findall(r"(?m)^RUN .*pip install.*$", text):
        assert "--require-hashes -r" in line or "--no-deps --no-build-isolation ." in line
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for line in re.findall(r"(?m)^COPY (?!--from)(.*)$", text):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(kept.lstrip("!")) for kept in ignored if kept.startswith("!")), source


def test_prometheus_takes_configuration_and_rules_and_every_alert_fires(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "`make test` installs it (Debian: prometheus)"
    checked(promtool, "check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    checked(promtool, "check", "rules", RULES)
    shutil.copy(RULES, tmp_path)
    shutil.copy(ROOT / "tests" / "unit" / "alerts.test.yml", tmp_path)
    checked(promtool, "test", "rules", tmp_path / "alerts.test.yml")
    fired = set(re.findall(r'alertname="(\w+)"', (tmp_path / "alerts.test.yml").read_text()))
    assert {rule["alert"] for rule in rules()} == fired


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_every_alert_says_what_to_type() -> None:
    for rule in rules():
        for command in rule["annotations"]["command"].split("; "):
            program, *words = command.split()
            assert program in ("meterbridge", "df")
            assert program == "df" or words[0] in _COMMANDS, command


def test_the_dashboard_is_one_whose_panels_do_not_overlap() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "meterbridge.json").read_text())
    assert (dashboard["uid"], "id" in dashboard) == ("meterbridge", False)
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_every_command_beside_an_old_one_is_a_command() -> None:
    table = [line for line in (ROOT / "docs" / "operations.md").read_text().splitlines() if line.startswith("| ")]
    named = {word for line in table for word in re.findall(r"`meterbridge ([a-z-]+)", line)}
    assert len(named) > 12
    assert named <= set(_COMMANDS)
    for script in ("dlms_reader.py", "meter_control_api.py", "qos_health_check.py", "generate_action_plan.py"):
        assert any(script in line.split("|")[1] for line in table)
