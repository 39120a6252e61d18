"""Every check, in the order in which one would look."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from app.doctor.broker import check_broker
from app.doctor.configuration import check_settings
from app.doctor.database import check_database
from app.doctor.finding import Finding, failed
from app.doctor.machine import check_disk, check_gpu, check_packages
from app.doctor.objects import check_storage
from app.settings import Settings


def examine(settings: Settings | None, *, gpu: bool = False) -> Iterator[Finding]:
    """All findings, as they come.

    settings: null: they could not be read, so only the machine is examined.
    gpu: whether this machine is to have one.
    """
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("packages", check_packages),
        ("disk", lambda: check_disk(settings)),
        ("gpu", lambda: check_gpu(needed=gpu)),
    ]
    if settings is not None:
        checks[:0] = [
            ("settings", lambda: check_settings(settings)),
            ("database", lambda: check_database(settings)),
            ("broker", lambda: check_broker(settings)),
            ("storage", lambda: check_storage(settings)),
        ]
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001  (whatever it is: the other checks are still worth having)
            yield failed(name, f"the check itself failed: {type(error).__name__}: {error}", "Please report this.")
