"""What type checkers must refuse: wrong options of a task, a class that is no model."""

from __future__ import annotations

from cdpbridge import Client


def mistakes(client: Client) -> None:
    client.run("t", llm=3)  # expect: call-overload
    client.run("t", max_step=3)  # expect: call-overload
    client.run("t", output_model=int)  # expect: type-var
    client.tasks.create("t", llm=3)  # expect: arg-type
    client.tasks.create("t", max_step=3)  # expect: call-arg
    client.browsers.create(timeout=5)  # expect: arg-type
    client.tasks.list(status=1)  # expect: arg-type
