"""What should be otherwise on a node of Ray."""

import pytest

from cdpbridge.server.engine import node_problems

WELL = {"address": "10.0.0.7", "reconnectSeconds": 86400.0, "authentication": True, "secret": True}


def test_nothing():
    assert node_problems(WELL) == []


@pytest.mark.parametrize(
    ("difference", "fatal", "words"),
    [
        ({"reconnectSeconds": 60.0}, False, ["after 60 s", "RAY_gcs_rpc_server_reconnect_timeout_s=86400"]),
        ({"authentication": False}, False, ["Ray's ports", "RAY_AUTH_MODE=token"]),
        ({"secret": False}, True, ["no secret", "CDPBRIDGE_WORKER_SECRET"]),
    ],
)
def test_each_problem_says_what_to_do(difference, fatal, words):
    [problem] = node_problems(WELL | difference)
    assert problem.fatal is fatal
    assert str(problem).startswith("10.0.0.7: ")
    for each in words:
        assert each in str(problem)
