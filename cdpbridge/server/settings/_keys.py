"""API keys in the configuration: the forms in which they may be written, and what a key looks like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import NoDecode

__all__ = ["AdminKeys", "ApiKeys", "check_keys"]


def keys_of(value: object) -> object:
    """Return a table project -> keys from `"key"`, `"key,key"`, a list of keys, or such a table."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = json.loads(value)
    if isinstance(value, Mapping):
        return {str(project): _key_list(keys) for project, keys in value.items()}
    return {"default": keys} if (keys := _key_list(value)) else {}


def _key_list(value: object) -> list[object]:
    if isinstance(value, SecretStr):
        return [value]
    if isinstance(value, str):
        return [key.strip() for key in value.split(",") if key.strip()]
    if isinstance(value, list | tuple):
        return list(value)
    raise ValueError("give a key, a list of keys, or a table of projects with their keys")


ApiKeys = Annotated[dict[str, list[SecretStr]], NoDecode, BeforeValidator(keys_of)]
AdminKeys = Annotated[list[SecretStr], NoDecode, BeforeValidator(_key_list)]


def check_keys(keys: list[SecretStr]) -> None:
    """Raise ValueError for a key that is malformed or given twice."""
    texts = [key.get_secret_value() for key in keys]
    if any(len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key for key in texts):
        raise ValueError("a key has at least 8 characters, printable ASCII without spaces")
    if len(set(texts)) != len(texts):
        raise ValueError("a key is given twice; each belongs to one project, or is the operator's")
