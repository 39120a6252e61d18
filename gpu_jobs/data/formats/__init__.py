"""Readers and writers of training sets. `open_dataset` is the door; the modules beside it are its parts."""

from gpu_jobs.data.formats.dataset import Dataset, Place, RowError, open_dataset
from gpu_jobs.data.formats.llava import write_llava

__all__ = ["Dataset", "Place", "RowError", "open_dataset", "write_llava"]
