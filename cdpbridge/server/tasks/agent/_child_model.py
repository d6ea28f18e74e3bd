"""The agent's model, and the shape of its output. Loaded by the agent's own process, see `_child`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import jsonschema
from browser_use import ChatOpenAI
from pydantic import RootModel, model_validator

__all__ = ["endpoint", "output_model"]

_SLOW_SECONDS: Final = 15.0
_LLM_RETRIES: Final = (
    # Of the endpoint's client, within one step; browser-use allows six failed steps in a row.
    3
)

logger = logging.getLogger("cdpbridge.agent")


def output_model(text: str) -> Any:
    """Return a pydantic class that shows the model this schema and accepts what it allows, no less and no more."""
    schema = json.loads(text)
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(
        schema, format_checker=jsonschema.FormatChecker()
    )

    class Output(RootModel[Any]):
        @model_validator(mode="after")
        def _check(self) -> Any:
            wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(self.root)]
            if wrong:
                raise ValueError("the output does not fit the schema: " + "; ".join(wrong[:5]))
            return self

        @classmethod
        def __get_pydantic_json_schema__(cls, *_: Any) -> Any:
            return json.loads(text)

    return Output


def endpoint(spec: Mapping[str, Any]) -> Any:
    """Return the model that the task names, at the configured endpoint."""

    # Its class is unknown where types are checked.
    class Model(ChatOpenAI):  # type: ignore[misc]
        async def ainvoke(self, *args: Any, **options: Any) -> Any:
            asked_at = time.monotonic()
            waiting = asyncio.create_task(_count_the_wait(asked_at))
            try:
                return await super().ainvoke(*args, **options)
            finally:
                waiting.cancel()
                logger.info("the model took %.1f s", time.monotonic() - asked_at)

    return Model(
        model=spec["model"],
        base_url=spec["llm_base_url"],
        api_key=spec["llm_api_key"] or "none",  # its client insists on one
        max_retries=_LLM_RETRIES,
        # Endpoints differ in what they allow here; each has a default of its own.
        temperature=None,
        frequency_penalty=None,
        max_completion_tokens=None,
    )


async def _count_the_wait(asked_at: float) -> None:
    while True:
        await asyncio.sleep(_SLOW_SECONDS)
        logger.info("the model has not answered for %.0f s", time.monotonic() - asked_at)
