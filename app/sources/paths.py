"""Names of files inside a model or data set."""

from __future__ import annotations


def check_relative_path(path: str) -> str:
    """The path itself, once it is known to stay inside the folder it will be written to.

    Raises:
        ValueError: it says which rule it breaks.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValueError("a path must not contain control characters")
    if "\\" in path:
        raise ValueError("a path must use / between folders, not \\")
    if path.startswith("/"):
        raise ValueError("a path must be relative, without a leading /")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("a path must name a file inside the folder: no empty part, no . and no ..")
    if any(len(part.encode()) > 255 for part in parts):
        raise ValueError("no part of a path may be longer than 255 bytes")
    return path


def find_clash(paths: list[str]) -> tuple[int, str] | None:
    """The index of the first path that cannot stand beside an earlier one, and why: the same twice, or a file where a folder is."""
    files: set[str] = set()
    folders: set[str] = set()
    for index, path in enumerate(paths):
        parents = {path[:place] for place, character in enumerate(path) if character == "/"}
        if path in files:
            return index, f"{path!r} is given twice"
        if path in folders or not parents.isdisjoint(files):
            return index, f"{path!r} is a file and a folder at once"
        files.add(path)
        folders |= parents
    return None
