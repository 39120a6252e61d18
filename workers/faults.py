"""How the failure of a step reads to the owner of its job: what it means for them, and where the operator finds the rest.

An exception's own text may hold SQL, addresses or folders of ours, so it goes to the log and nowhere else.
"""

from __future__ import annotations

from app.jobs.states import problem
from app.outages import is_disk_full, is_outage
from app.storage import ObjectNotFound
from workers.cache import CorruptObject
from workers.guarded_http import TooSlow


def describe_fault(error: BaseException, reference: str) -> dict[str, str]:
    """The `error` of the attempt. reference: names the line of the log that has all of it.

    Types: `out-of-memory`, `disk-full`, `outage`, `too-slow`, `damaged-bytes`, and `step-error` for whatever else.
    """
    type, title, detail = _kind(error)
    return problem(type, title, f"{detail} The operator finds the rest in the log under {reference}.")


def _kind(error: BaseException) -> tuple[str, str, str]:
    # By its name: torch has a MemoryError of its own, and is not imported for it.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out-of-memory", "Not enough memory", "The step needs more memory than its worker has; a smaller `batch_size` needs less."
    if is_disk_full(error):
        return "disk-full", "A disk is full", "There was no room left on a disk that the step writes to."
    if is_outage(error):
        return "outage", "Something could not be reached", "The database, a store or the network was away while the step ran."
    if isinstance(error, TooSlow):
        return "too-slow", "Too slow an answer", "The store or hub that the step reads from sent next to nothing for a long time."
    if isinstance(error, (CorruptObject, ObjectNotFound)):
        return "damaged-bytes", "Damaged bytes", "Bytes that the step reads are missing, or are not those that were stored."
    return "step-error", "A step failed", "The step ended by an error inside the service."
