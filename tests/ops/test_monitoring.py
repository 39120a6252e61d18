"""Alerts and dashboard ask for what is exported, and everything that is exported is asked for and explained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from tests.ops import tables
from tests.worlds.compose import ROOT
from workers.relay import Relay

ALERTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "docker" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "docker" / "grafana" / "dashboards" / "lustral.json").read_text())
GUIDE = tables.GUIDE.read_text()
PROMETHEUS_OWN = {"job", "instance", "le"}


def expressions() -> Iterator[str]:
    yield from (alert["expr"] for alert in ALERTS)
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", []))


@pytest.fixture(scope="module")
def exported() -> dict[str, tuple[str, ...]]:
    """Names as they are asked for, and their labels."""
    names: dict[str, tuple[str, ...]] = {}
    for name, (metric, labels, _) in tables.exported().items():
        suffixes = ("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",)
        names |= {name + suffix: labels for suffix in suffixes}
    return names


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_an_expression_asks_for_what_is_there(expression: str, exported: dict[str, tuple[str, ...]]) -> None:
    promql_parser.parse(expression)
    for name, selectors in re.findall(r"\b(lustral_\w+)(?:\{([^}]*)\})?", expression):
        assert name in exported
        assert set(re.findall(r"(\w+)\s*[=!]", selectors)) <= {*exported[name], *PROMETHEUS_OWN}
    labels = {label for name in re.findall(r"\blustral_\w+", expression) for label in exported[name]} | PROMETHEUS_OWN
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(grouped.replace(" ", "").split(",")) <= labels


def test_whatever_is_exported_is_asked_for(exported: dict[str, tuple[str, ...]]) -> None:
    asked = set(re.findall(r"\blustral_\w+", " ".join(expressions())))
    assert {name for name in tables.exported() if not any(each.startswith(name) for each in asked)} == set()


def test_alerts_name_rounds_that_the_relay_makes() -> None:
    [rounds] = re.findall(r'round=~"([^"]+)"', " ".join(alert["expr"] for alert in ALERTS))
    made = {name.strip("_") for name in vars(Relay)}
    assert {*rounds.split("|")} <= made


def test_the_guide_says_of_each_alert_what_to_do() -> None:
    assert re.findall(r"^### (Lustral\w+)$", GUIDE, re.MULTILINE) == [alert["alert"] for alert in ALERTS]
    assert all(alert["labels"]["severity"] in ("page", "ticket") for alert in ALERTS)


def test_the_tables_of_the_guide_are_fresh() -> None:
    assert tables.written(GUIDE) == GUIDE, "run: python -m tests.ops.tables"


def test_the_guide_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", GUIDE):
        assert (tables.GUIDE.parent / target).exists(), target


def test_the_guide_names_commands_that_exist() -> None:
    from app.cli.operate import cli

    known = {command.name or command.callback.__name__.replace("_", "-") for command in cli.registered_commands if command.callback}
    assert set(re.findall(r"lustral operate ([a-z-]+)", GUIDE)) <= known


def test_panels_have_ids_of_their_own() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
