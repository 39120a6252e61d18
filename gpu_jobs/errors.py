"""Errors that a user of the science can act on."""

from __future__ import annotations


class InputError(Exception):
    """What was handed in cannot be used, however often it is tried. The message says what, where, and what would be right."""
