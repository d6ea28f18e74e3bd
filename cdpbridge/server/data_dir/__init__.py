"""The data folder: held by one server, closed to other users, with the operator's way to the running server."""

from __future__ import annotations

from ._lock import BESIDE, FolderLock, ServerRuns, locked, says_it_ends, tightened
from ._operator_file import OperatorFile, operator_file, read_operator_file
from ._secret import Secret

__all__ = [
    "BESIDE",
    "FolderLock",
    "OperatorFile",
    "Secret",
    "ServerRuns",
    "locked",
    "operator_file",
    "read_operator_file",
    "says_it_ends",
    "tightened",
]
