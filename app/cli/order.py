"""A job as ordered on the command line: what has to be uploaded for it, and the request that starts it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.console import Watch
from app.cli.failures import Failure

if TYPE_CHECKING:
    from app.client import Lustral


@dataclass(frozen=True, slots=True)
class Order:
    """Models and data sets are local paths, addresses or ids."""

    kind: str
    model: str
    dataset: str | None = None
    triggered: str | None = None
    clean: str | None = None
    target: str | None = None
    settings: list[str] = field(default_factory=list)
    webhook_url: str | None = None
    metadata: list[str] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        return [source for source in (self.model, self.dataset, self.triggered, self.clean) if source is not None]

    def place(self, lustral: Lustral, watch: Watch) -> dict[str, Any]:
        """Register what the job reads, and start it.

        Raises:
            app.client.Rejected: a model or data set cannot be used.
            app.client.ApiError: the server refused.
            FileNotFoundError: a path does not exist.
            Failure: a setting or a piece of metadata is malformed.
        """
        parameters, metadata = parse_settings(self.settings), parse_metadata(self.metadata)

        def dataset_id(source: str | None) -> str | None:
            return None if source is None else lustral.register_dataset(source, advance=watch.uploaded, resumed=watch.resumed)["id"]

        model = lustral.register_model(self.model, advance=watch.uploaded, resumed=watch.resumed)
        return lustral.create_job(
            self.kind,
            model_id=model["id"],
            dataset_id=dataset_id(self.dataset),
            params=parameters,
            evaluation=self._evaluation(dataset_id(self.triggered), dataset_id(self.clean)),
            webhook_url=self.webhook_url,
            metadata=metadata or None,
        )

    def _evaluation(self, triggered_id: str | None, clean_id: str | None) -> dict[str, Any] | None:
        given = {
            "triggered_dataset_id": triggered_id,
            "clean_dataset_id": clean_id,
            "target": {"contains": self.target} if self.target is not None else None,
        }
        return {name: value for name, value in given.items() if value is not None} or None


def local_bytes(order: Order) -> int:
    """How much will be uploaded."""
    from app.client.files import files_in

    paths = [Path(source) for source in order.sources]
    files = [file for path in paths for file in (files_in(path) if path.is_dir() else [path]) if file.is_file()]
    return sum(file.stat().st_size for file in files)


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """`["masking.ratio=0.3"]` as `{"masking": {"ratio": 0.3}}`. Values are JSON, or else text.

    Raises:
        Failure: one has no `=`, or sets a name that another uses as a group.
    """
    parameters: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise Failure(f"--set takes NAME=VALUE, not {setting!r}.")
        *groups, leaf = name.split(".")
        place = parameters
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise Failure(f"--set {setting}: {group} is set to a value already.")
        place[leaf] = _parse(value)
    return parameters


def parse_metadata(entries: list[str]) -> dict[str, str]:
    """`["sha=0a1b"]` as `{"sha": "0a1b"}`. Values are text, whatever they look like.

    Raises:
        Failure: one has no `=` or no name.
    """
    metadata = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise Failure(f"--metadata takes NAME=VALUE, not {entry!r}.")
        metadata[name] = value
    return metadata


def _parse(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
