"""Agents at work: real processes, real browser-use, real Chromium."""

import json

from tests.server.agent.llm import act, done, go


async def test_thirty_steps_on_a_real_page(desk, model, site):
    def answer(request, number):
        if number == 1:
            return go(f"{site}/")
        if number == 30:
            return done("thirty")
        return act(
            {"evaluate": {"code": f"document.title + {number}"}}, memory=f"m{number}", goal=f"g{number}"
        )

    model.answer = answer
    result = await desk.do(max_steps=40)
    assert (result.how, result.output, result.success) == ("finished", "thirty", True), result.log.read_text()
    assert [step.number for step in desk.steps] == list(range(1, 31))
    for step in desk.steps:
        assert step.screenshot.read_bytes().startswith(b"\x89PNG")
    assert len({step.screenshot for step in desk.steps}) == 30
