"""Tokens of browsers and the secret that their keys derive from, without a server."""

import base64
import stat
from uuid import UUID

import pytest

from cdpbridge.errors import ConfigurationError
from cdpbridge.server._tokens import BrowserTokens
from cdpbridge.server.data_dir import Secret

BROWSER = UUID("9b2c6a0e-54c2-4a3e-9a8f-2f4f2f6f0001")


def test_a_token_leads_to_its_browser_wherever_the_key_is():
    tokens = BrowserTokens(b"k" * 32, "cdp")
    assert tokens.read(tokens.make(BROWSER)) == BROWSER
    assert BrowserTokens(b"k" * 32, "cdp").make(BROWSER) == tokens.make(BROWSER)
    assert "kkk" not in repr(tokens)


def test_tokens_of_others_and_of_another_purpose_lead_nowhere():
    tokens = BrowserTokens(b"k" * 32, "cdp")
    others = BrowserTokens(b"o" * 32, "cdp"), BrowserTokens(b"k" * 32, "live")
    token = tokens.make(BROWSER)
    forged = base64.urlsafe_b64encode(UUID(int=1).bytes + base64.urlsafe_b64decode(token)[16:]).decode()
    made = [each.make(BROWSER) for each in others]
    for wrong in (*made, forged, token[:-4], token + "AAAA", f"{token}\n", "", "é", "a b", "A" * 64):
        assert tokens.read(wrong) is None


def test_each_purpose_of_each_secret_has_a_key_of_its_own():
    secrets = Secret(b"a" * 40), Secret(b"b" * 40)
    assert len({secret.key(purpose) for secret in secrets for purpose in ("files", "live", "cdp")}) == 6
    assert Secret(b"a" * 40).key("cdp") == secrets[0].key("cdp")
    assert "aaa" not in repr(secrets[0])


def test_a_secret_is_made_once_and_is_private(tmp_path):
    path = tmp_path / "folder" / "signing.key"
    key = Secret.kept_in(path).key("cdp")
    assert Secret.kept_in(path).key("cdp") == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for wrong in (b"ab", b"\xff" * 40):
        path.write_bytes(wrong)
        with pytest.raises(ConfigurationError, match="remove the file"):
            Secret.kept_in(path)
