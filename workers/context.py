"""What a worker process works with. Made once in each process, after the fork: connections are not shared."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

import app.tables  # noqa: F401  (every table, so that foreign keys resolve)
from app.runtime import Runtime
from app.settings import Settings, load_settings
from app.storage import ObjectStore
from workers.cache import ContentCache
from workers.scratch import remove_scratch_of_the_dead, scratch_folder

# With less than this left, whatever failed has failed for want of room.
LEAST_ROOM_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Context:
    """`work` holds the cache and the scratch folders of running steps; both are on one file system, so staging links and does not copy."""

    runtime: Runtime
    work: Path
    cache: ContentCache

    @property
    def settings(self) -> Settings:
        return self.runtime.settings

    @property
    def sessions(self) -> sessionmaker[Session]:
        return self.runtime.write

    @property
    def reads(self) -> sessionmaker[Session]:
        return self.runtime.read

    @property
    def store(self) -> ObjectStore:
        return self.runtime.store

    @property
    def worker(self) -> str:
        """Names this process in logs and in the row of the step it runs."""
        return f"{socket.gethostname()}:{os.getpid()}"

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A folder of this process, gone afterwards.

        Raises:
            OSError: ENOSPC, in place of all that libraries make of a full disk.
        """
        with scratch_folder(self.work / "scratch", name) as folder:
            try:
                yield folder
            except Exception as error:
                if shutil.disk_usage(folder).free < LEAST_ROOM_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
                raise


def make_context(settings: Settings) -> Context:
    work = settings.work_dir or Path(tempfile.gettempdir()) / f"lustral-{os.getuid()}"
    (work / "scratch").mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_scratch_of_the_dead(work / "scratch")
    return Context(Runtime.open(settings), work, ContentCache(work / "cache", settings.cache_bytes))


@lru_cache(maxsize=1)
def context() -> Context:
    """The context of this process, from its environment."""
    return make_context(load_settings())
