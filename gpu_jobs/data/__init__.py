"""Training sets: reading what was uploaded, writing what was purified."""

from gpu_jobs.data.formats import Dataset, Place, RowError, open_dataset, write_llava

__all__ = ["Dataset", "Place", "RowError", "open_dataset", "write_llava"]
