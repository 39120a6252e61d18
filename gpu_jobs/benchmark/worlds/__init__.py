"""The data worlds of the benchmark: pictures, questions about them, and a base model that can answer those."""

from gpu_jobs.benchmark.worlds.base import Flavour, World, open_world

__all__ = ["Flavour", "World", "open_world"]
