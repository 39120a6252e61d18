"""The whole defence on the bundled suspect model, as a client of the API sees it."""

from app.demo.run import run_demo

__all__ = ["run_demo"]
