"""The Python client of the HTTP API: what the command line is made of, and what your own scripts may use.

from app.client import Lustral

with Lustral("http://127.0.0.1:8000", api_key) as lustral:
    model = lustral.register_model("suspect/")
    data = lustral.register_dataset("training-set/")
    job = lustral.create_job("defend", model_id=model["id"], dataset_id=data["id"])
    job = lustral.wait(job["id"])
"""

from app.client.errors import ApiError, BadAddress, CorruptDownload, FileChanged, Rejected
from app.client.lustral import FINAL, Lustral

__all__ = ["FINAL", "ApiError", "BadAddress", "CorruptDownload", "FileChanged", "Lustral", "Rejected"]
