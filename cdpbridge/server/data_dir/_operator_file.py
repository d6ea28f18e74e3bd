"""The operator file: address and key with which commands of this machine reach the running server.

Who may read the folder may do everything with the server anyway: its database and signing keys are there. The key is made at
each start, readable by the owner alone, and good for the operator's routes only.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["OperatorFile", "operator_file", "read_operator_file"]

_NAME: Final = "operator.json"
_KEY_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class OperatorFile:
    """The contents of the file.

    Attributes:
        address: Of the server, as this machine reaches it.
        key: For its operator's routes.
    """

    address: str
    key: str = field(repr=False)


@contextmanager
def operator_file(data_dir: Path, address: str) -> Iterator[OperatorFile]:
    """Keep the file while the server runs."""
    found = OperatorFile(address, secrets.token_urlsafe(_KEY_BYTES))
    path = data_dir / _NAME
    draft = data_dir / f".{_NAME}.{secrets.token_hex(4)}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"address": found.address, "key": found.key}, file)
    draft.replace(path)
    try:
        yield found
    finally:
        path.unlink(missing_ok=True)


def read_operator_file(data_dir: Path) -> OperatorFile | None:
    """Return the file of the server that runs in `data_dir`; None when there is none, or it may not be read."""
    try:
        found = json.loads((data_dir / _NAME).read_text())
        return OperatorFile(str(found["address"]), str(found["key"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
