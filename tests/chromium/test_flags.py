"""Chromium's command line and environment."""

from pathlib import Path

from cdpbridge.chromium._flags import child_environment, command_line
from tests.cases import cases


def line(kind="shell", *, proxy_server=None, args=(), sandbox=True, small_shm=False):
    return command_line(
        kind, Path("/profile"), proxy_server=proxy_server, args=args, sandbox=sandbox, small_shm=small_shm
    )


def features(switches, switch):
    [found] = [argument for argument in switches if argument.startswith(f"{switch}=")]
    return found.partition("=")[2].split(",")


def test_pipe_and_port_together():
    assert {"--remote-debugging-pipe", "--remote-debugging-port=0"} <= set(line())


def test_each_switch_once():
    names = [
        argument.partition("=")[0] for argument in line("full", proxy_server="http://h:1", sandbox=False)
    ]
    assert len(names) == len(set(names))


@cases(
    ("given", "switch"),
    [
        ({"kind": "full"}, "--headless"),
        ({"sandbox": False}, "--no-sandbox"),
        ({"small_shm": True}, "--disable-dev-shm-usage"),
        ({"proxy_server": "http://127.0.0.1:1"}, "--proxy-server=http://127.0.0.1:1"),
        ({"proxy_server": "http://127.0.0.1:1"}, "--proxy-bypass-list=<-loopback>"),
        (
            {"proxy_server": "http://127.0.0.1:1"},
            "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
        ),
        ({"proxy_server": "http://127.0.0.1:1"}, "--webrtc-ip-handling-policy=disable_non_proxied_udp"),
    ],
)
def test_only_when_needed(given, switch):
    assert switch in line(**given)
    assert switch not in line()


def test_own_arguments_come_last_but_for_the_start_page():
    assert line(args=["--lang=de"])[-3:] == ["--user-data-dir=/profile", "--lang=de", "about:blank"]


def test_own_features_are_added_and_win():
    args = ["--disable-features=Mine,Other", "--enable-features=Translate"]
    switches = line(args=args)
    disabled, enabled = features(switches, "--disable-features"), features(switches, "--enable-features")
    assert {"Mine", "Other", "Prerender2"} <= set(disabled)
    assert "Translate" in enabled
    assert "Translate" not in disabled


def test_the_environment_holds_no_secrets():
    ours = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "http_proxy": "http://p",
        "CDPBRIDGE_API_KEYS": "key",
        "BROWSER_USE_API_KEY": "key",
        "GOOGLE_API_KEY": "key",
        "TMPDIR": "/elsewhere",
    }
    assert child_environment(ours, Path("/scratch"), own_uid=False) == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "http_proxy": "http://p",
        "TMPDIR": "/scratch",
        "TMP": "/scratch",
        "TEMP": "/scratch",
        "BREAKPAD_DUMP_LOCATION": "/scratch",
    }


def test_a_browser_with_a_uid_of_its_own_does_not_look_for_our_home():
    ours = {
        "HOME": "/root",
        "USER": "root",
        "XDG_RUNTIME_DIR": "/run/user/0",
        "XDG_CONFIG_DIRS": "/etc/xdg",
        "PATH": "/bin",
    }
    given = child_environment(ours, Path("/scratch"), own_uid=True)
    assert given["HOME"] == given["TMPDIR"] == "/scratch"
    assert not {"USER", "XDG_RUNTIME_DIR"} & set(given)
    assert given["XDG_CONFIG_DIRS"] == "/etc/xdg"
