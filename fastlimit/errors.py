"""What can go wrong, as exceptions; a refused call is no error but a Decision.

    FastlimitError
    ├── InvalidLimit (ValueError)        a limit that cannot be read, or numbers that no limit can have
    └── CostExceedsLimit (ValueError)    a cost that the limit can never grant, however long the caller waits

Keys, costs and other arguments of the wrong type or value raise plain TypeError and ValueError, before any
state changes.
"""

from __future__ import annotations

from ._core import CostExceedsLimit, FastlimitError

__all__ = ["CostExceedsLimit", "FastlimitError", "InvalidLimit"]


class InvalidLimit(FastlimitError, ValueError):
    """A limit that cannot be read, or whose numbers no engine can enforce; the message says which."""
