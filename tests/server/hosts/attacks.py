"""What who drives a browser tries against its machine."""

import asyncio
import json

from cdpbridge.errors import CommandError


async def downloaded(connection, tab, folder, name="planted.txt"):
    """How a download into `folder` ends: `completed`, `canceled`, or `refused`."""
    async with connection.root.events("Browser.downloadProgress") as progress:
        try:
            await connection.root.send(
                "Browser.setDownloadBehavior",
                {"behavior": "allow", "downloadPath": str(folder), "eventsEnabled": True},
            )
        except CommandError:
            return "refused"
        link = f"Object.assign(document.createElement('a'), {{href: 'data:text/plain,planted', download: {json.dumps(name)}}})"
        await tab.send("Runtime.evaluate", {"expression": f"{link}.click()", "userGesture": True})
        async with asyncio.timeout(60):
            async for event in progress:
                if event["state"] != "inProgress":
                    return event["state"]
