"""`python -m app.cli` is `lustral`."""

from app.cli import main

main()
