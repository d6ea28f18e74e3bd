"""browser-use's agent, as a task wants it. Loaded by the agent's own process, see `_child`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from browser_use import Agent, BrowserProfile, BrowserSession
from browser_use.agent.views import ActionResult

__all__ = ["make"]

_LLM_SECONDS: Final = 120
# Actions that carry a secret to a page. Others would put it into files, addresses, scripts, or the answer.
_TYPING: Final = frozenset({"input", "send_keys"})

# browser-use's method that hides secrets in a question; it has no public one.
_FILTER: Final = "_filter_sensitive_data"

_ELEMENT: Final = re.compile(r"(\[\d+\](?=<))")
"""The number of an element on a page, as the model is shown it."""

logger = logging.getLogger("cdpbridge.agent")


def _extension(spec: Mapping[str, Any], *words: str) -> str | None:
    """Return what is added to the system prompt: the caller's words, ours, and what the session has done before."""
    parts = [spec["system_prompt_extension"], *words]
    if spec["earlier"]:
        parts.append(
            "This browser session has done tasks before. Their outputs, oldest first:\n"
            + "\n".join(f"{i}. {text}" for i, text in enumerate(spec["earlier"], 1))
        )
    return "\n\n".join(filter(None, parts)) or None


async def make(
    spec: Mapping[str, Any], secrets: Mapping[str, Any], load: Callable[[str], Any], cutter: Any
) -> tuple[Any, _FirstStep]:
    """Return the agent of a task, and what is to be done before each of its steps.

    Args:
        load: Gives a file beside this one as a module.
        cutter: Takes the task's secrets out of a text.
    """
    models = load("_child_model")
    files = load("_child_files").Files([Path(path) for path in spec["uploads"]], load("_child_documents"))
    reach = load("_child_reach").Reach(spec["allowed_domains"], load("_domains"))
    images = await files.first_images() if spec["vision"] is not False else []
    folder = Path(spec["shared"])
    profile = BrowserProfile(
        cdp_url=spec["cdp_url"],
        keep_alive=True,
        is_local=False,
        highlight_elements=spec["highlight_elements"],
        enable_default_extensions=False,
        captcha_solver=False,
        allowed_domains=spec["allowed_domains"] or None,
        downloads_path=folder / "downloads",
    )
    agent = Agent(
        task=spec["task"],
        llm=models.endpoint(spec),
        browser_session=BrowserSession(browser_profile=profile),
        task_id=spec["task_id"],
        source="cdpbridge",
        sensitive_data=dict(secrets) or None,
        initial_actions=[{"navigate": {"url": spec["start_url"], "new_tab": False}}]
        if spec["start_url"]
        else None,
        output_model_schema=models.output_model(spec["structured_output"])
        if spec["structured_output"]
        else None,
        use_vision=spec["vision"],
        use_thinking=spec["thinking"],
        flash_mode=spec["flash_mode"],
        use_judge=False,  # the server asks a judge, which is not the agent's business
        extend_system_message=_extension(spec, files.words(), reach.words()),
        file_system_path=str(folder / "output"),
        display_files_in_done_text=False,
        calculate_cost=False,
        generate_gif=False,
        enable_signal_handler=False,
        llm_timeout=_LLM_SECONDS,
    )
    # Known while it is made, or it warns; from here on it is `reach` that tells, and the browser's proxy that keeps.
    profile.allowed_domains = agent.browser_session.browser_profile.allowed_domains = None
    _stand_between(agent, files, reach)
    if secrets:
        _hide_in_questions(agent, cutter)
    return agent, _FirstStep(images)


def _hide_in_questions(agent: Any, cutter: Any) -> None:
    """Replace secrets in what the model is shown, in words only.

    browser-use's own way replaces a short secret in every word, and in the numbers by which the model names elements.
    """

    def cut(text: str) -> str:
        parts = _ELEMENT.split(text)  # what is matched is at the odd places
        return "".join(part if at % 2 else cutter.text(part) for at, part in enumerate(parts))

    def hide(message: Any) -> Any:
        if isinstance(message.content, str):
            message.content = cut(message.content)
        else:
            for part in message.content:
                if hasattr(part, "text"):
                    part.text = cut(part.text)
        return message

    setattr(agent.message_manager, _FILTER, hide)


class _FirstStep:
    """Shows the model the images of the task with its first question."""

    def __init__(self, images: list[dict[str, str]]) -> None:
        self._images = images

    async def before_step(self, agent: Any) -> None:
        """browser-use's hook."""
        images, self._images = self._images, []
        if images:
            names = ", ".join(image["name"] for image in images)
            shown = ActionResult(
                images=images,
                extracted_content=f"Images that the user has given with the task: {names}",
                include_extracted_content_only_once=True,
                long_term_memory=f"Shown images of the task: {names}",
            )
            agent.state.last_result = [*(agent.state.last_result or []), shown]


def _stand_between(agent: Any, files: Any, reach: Any) -> None:
    """See each action before browser-use does.

    Only typing turns a placeholder into its value; as it is, browser-use does so in any action.
    """
    registry = agent.tools.registry
    execute = registry.execute_action

    async def execute_action(action_name: str, params: dict[str, Any], *args: Any, **options: Any) -> Any:
        if action_name not in _TYPING:
            options["sensitive_data"] = None
        refusal = reach.refusal(action_name, params)
        if refusal is not None:
            logger.info("%s", refusal)
            return ActionResult(error=refusal)
        files.downloaded(agent.browser_session.downloaded_files)
        result = await files.act(
            action_name,
            params,
            options.get("file_system"),
            lambda params, **more: execute(action_name, params, *args, **options | more),
        )
        if getattr(result, "error", None):
            result.error = reach.explained(result.error)
        return result

    registry.execute_action = execute_action
