"""The command line `lustral`. Each command lives in a module of its own; nothing here imports the server before a command needs it."""

from __future__ import annotations

import typer

from app.cli import account, bench, credentials, defense, demo, doctor, jobs, keys, operate, up, verify, webhooks
from app.cli.failures import report_failures
from app.cli.signals import end_in_order

cli = typer.Typer(
    help="Find a planted backdoor in a multimodal diffusion language model, prove it, and purify the weights.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (up, demo, defense, verify, account, doctor):
    module.register(cli)
for name, group in (
    ("jobs", jobs.cli),
    ("keys", keys.cli),
    ("credentials", credentials.cli),
    ("webhooks", webhooks.cli),
    ("operate", operate.cli),
    ("bench", bench.cli),
):
    cli.add_typer(group, name=name)


def main() -> None:
    end_in_order()
    with report_failures():
        cli()
