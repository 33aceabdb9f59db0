"""The files for deploying name what there is: flags, settings and metrics."""

import configparser
import inspect
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from medllm.cli.main import run_command
from medllm.cli.serve import serve as command
from medllm.clinical import review_answer
from medllm.errors import ConfigError
from medllm.recipe import DEPLOY, copy_recipe, list_recipes, load_recipe
from medllm.serve.metrics import Metrics

CONTAINERS = ("compose.yaml", "kubernetes/medllm.yaml", "kubernetes/gpu.yaml")
SELECTED = re.compile(r"(medllm_[a-z_]+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"sum by \(([^)]*)\) \((?:rate|increase)\((medllm_[a-z_]+)")


def queries() -> list[str]:
    """All that the alerts and the dashboard ask Prometheus."""
    alerts = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())
    rules = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    board = json.loads((DEPLOY / "grafana.json").read_text())
    return rules + [each["expr"] for panel in board["panels"] for each in panel["targets"]]


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """The metrics that a server tells, each with its labels."""
    metrics = Metrics()
    metrics.certificate(0)
    metrics.error(503)
    metrics.ended("/v1/chat/completions", "stop", 1.0)
    metrics.tokens("answer", 1)
    metrics.marked(5)
    report = review_answer("Give warfarin 5 mg and aspirin 81 mg.").report
    assert report.findings
    metrics.reviewed(report)
    found: dict[str, set[str]] = defaultdict(set)
    for family in metrics.registry.collect():
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def containers(name: str) -> list[dict[str, Any]]:
    """The containers of medllm in a file."""
    first, *_ = found = documents(name)
    if "services" in first:
        service = first["services"]["medllm"]
        return [{**service, "args": service["command"]}]
    pods = [each["spec"]["template"]["spec"] for each in found if each["kind"] == "StatefulSet"]
    return [one for pod in pods for one in pod["containers"] if one["name"] == "medllm"]


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_metrics_and_labels_that_a_server_tells(
    query: str, told: dict[str, set[str]]
) -> None:
    for name, selector in SELECTED.findall(query):
        assert name in told, query
        assert set(re.findall(r"(\w+)=", selector)) <= told[name], query
    for labels, name in GROUPED.findall(query):
        assert set(re.split(r",\s*", labels)) <= told[name], query
    assert "medllm" in query


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_started_with_flags_and_settings_that_there_are(name: str) -> None:
    (container,) = containers(name)
    verb, *arguments = container["args"]
    pairs = [each.removeprefix("--").split("=", 1) for each in arguments]
    settings = [value for flag, value in pairs if flag == "set"]
    flags = {
        flag.replace("-", "_"): yaml.safe_load(value) for flag, value in pairs if flag != "set"
    }

    assert verb == "serve"
    assert flags.keys() <= inspect.signature(command).parameters.keys()
    read = load_recipe(None, settings, {f"serve.{flag}": value for flag, value in flags.items()})
    assert read.serve
    assert read.serve.host == "0.0.0.0" and not read.serve.no_auth and not read.serve.no_audit
    assert read.serve.review and read.serve.review.policy == "append"
    assert read.serve.upstream in (None, "http://127.0.0.1:8000") and not read.serve.allow_remote


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_has_a_root_that_nobody_can_write(name: str) -> None:
    (container,) = containers(name)
    inside = container.get("securityContext", {})

    assert container.get("read_only") or inside.get("readOnlyRootFilesystem")
    assert inside.get("capabilities", {"drop": container.get("cap_drop")}) == {"drop": ["ALL"]}


def test_the_unit_starts_the_settings_that_ship_with_it() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "medllm.service")
    settings = load_recipe(str(DEPLOY / "serve.yaml")).serve

    assert unit["Service"]["ExecStart"].split()[1:] == [
        "serve",
        "--config",
        "/etc/medllm/serve.yaml",
    ]
    assert unit["Service"]["SuccessExitStatus"] == "143"
    assert settings and settings.tls_certificate and settings.audit and not settings.no_auth
    assert str(settings.audit).startswith("/var/lib/" + unit["Service"]["StateDirectory"])
    (scraped,) = documents("prometheus.yaml")[0]["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"127.0.0.1:{settings.metrics_port}"]}]


def test_the_folder_is_copied_as_a_whole_and_is_no_recipe() -> None:
    copy_recipe("deploy", None)

    assert Path("deploy/kubernetes/gpu.yaml").read_bytes()
    assert Path("deploy/medllm.service").read_text() == (DEPLOY / "medllm.service").read_text()
    assert not {"compose", "alerts", "serve"} & list_recipes().keys()
    with pytest.raises(ConfigError, match="exists"):
        copy_recipe("deploy", None)


def test_the_command_takes_the_flags_and_gets_as_far_as_the_model() -> None:
    (container,) = containers("compose.yaml")
    Path("empty").mkdir()
    given = [each.replace("/srv/medllm/current", "empty") for each in container["args"]]

    assert run_command([*given, "--dry-run"]) == 4  # there is no model in the folder
