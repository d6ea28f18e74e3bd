"""What a server does again and again."""

from cdpbridge.server._chores import repeated
from tests.conftest import until


async def test_a_chore_goes_on_after_a_failure_that_was_not_foreseen(caplog):
    done = []

    async def work():
        done.append(len(done))
        if len(done) == 1:
            raise ValueError("not foreseen")

    async with repeated(work, "the work could not be done", every=3600, after_failure=0):
        await until(lambda: len(done) == 2)
    assert "the work could not be done, and will be tried again" in caplog.text
