"""browser-use on a rented browser: pip install 'cdpbridge[local]' browser-use"""

import asyncio
import os

from browser_use import Agent, ChatOpenAI

from cdpbridge.integrations.browser_use import session


async def main() -> None:
    llm = ChatOpenAI(model=os.environ.get("MODEL", "gpt-5-mini"), base_url=os.environ.get("OPENAI_BASE_URL"))
    rented = session(profile="work")
    async with rented as browser_session:
        history = await Agent(task="What is the title?", llm=llm, browser_session=browser_session).run(
            max_steps=5
        )
    print(history.final_result(), rented.rental.receipt)


asyncio.run(main())
