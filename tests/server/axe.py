"""axe-core, fetched from npm, for slow tests of pages."""

import shutil
import subprocess
import tarfile

import pytest

VERSION = "4.14.1"


def load(folder):
    """Its source, to be evaluated in a page."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    subprocess.run(
        ["npm", "pack", "--silent", f"axe-core@{VERSION}"], cwd=folder, check=True, capture_output=True
    )
    with tarfile.open(folder / f"axe-core-{VERSION}.tgz") as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


async def serious(page, source, state):
    """The serious and critical faults of what a page shows now, its frames left out."""
    await page.evaluate(source)
    found = (await page.evaluate("axe.run(document, {iframes: false})"))["violations"]
    return [
        (state, each["id"], each["impact"], [node["html"][:200] for node in each["nodes"]])
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]
