"""The two tables of docs/operate.md that follow from the code. `python -m tests.ops.tables` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from annotated_types import Ge, Gt, Le, MinLen
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

import app.metrics
import workers.metrics
from app.backlog import Backlog
from app.settings import Settings
from tests.worlds.jobs import make_world

GUIDE = Path(__file__).parents[2] / "docs" / "operate.md"


def exported() -> dict[str, tuple[Metric, tuple[str, ...], str]]:
    """Every metric by the name that it is read under: its description, its labels, and who exports it."""
    found = {}
    for who, module in (("API", app.metrics), ("worker, relay", workers.metrics)):
        for each in vars(module).values():
            if isinstance(each, MetricWrapperBase):
                [metric] = each.describe()
                name = f"{metric.name}_total" if metric.type == "counter" else metric.name
                found[name] = (metric, each._labelnames, "every process" if "storage" in name else who)
    with TemporaryDirectory() as folder, make_world(f"sqlite:///{folder}/lustral.db") as world:
        for metric in Backlog(world.sessions).collect():
            found[metric.name] = (metric, tuple(metric.samples[0].labels), "API")
    return dict(sorted(found.items()))


def metrics_table() -> str:
    rows = []
    for name, (metric, labels, who) in exported().items():
        rows.append(f"| `{name}` | {metric.type} | {_code(labels)} | {who} | {_cell(metric.documentation)} |")
    return "\n".join(["| metric | type | labels | exported by | what it tells |", "|---|---|---|---|---|", *rows])


def settings_table() -> str:
    return "\n".join(["| variable | default | takes | what it decides |", "|---|---|---|---|", *_settings()])


def _settings() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        assert field.description, f"{name} is not described"
        default = "required" if field.is_required() else "none" if field.default is None else f"`{_plain(field.default)}`"
        bounds = [_bound(each) for each in field.metadata]
        kind = re.sub(r"SecretStr|Path", "text", str(getattr(field.annotation, "__name__", field.annotation)).replace("pathlib.", ""))
        kind = {"str": "text", "bool": "true, false", "float": "number", "int": "whole number"}.get(kind.removesuffix(" | None"), "text")
        takes = ", ".join([kind, *(bound for bound in bounds if bound)])
        yield f"| `LUSTRAL_{name.upper()}` | {default} | {takes} | {_cell(field.description)} |"


def _bound(constraint: Any) -> str | None:
    match constraint:
        case Gt(gt=limit):
            return f"above {limit}"
        case Ge(ge=limit):
            return f"from {limit}"
        case Le(le=limit):
            return f"up to {limit}"
        case MinLen(min_length=limit):
            return f"{limit} characters or more"
    return None


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def written(guide: str) -> str:
    """The guide with both tables as the code has them now."""
    for name, table in (("settings", settings_table()), ("metrics", metrics_table())):
        before, opening, rest = guide.partition(f"<!-- {name} -->\n")
        _, closing, after = rest.partition(f"<!-- /{name} -->\n")
        guide = f"{before}{opening}{table}\n{closing}{after}"
    return guide


if __name__ == "__main__":
    GUIDE.write_text(written(GUIDE.read_text()))
