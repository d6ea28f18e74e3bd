"""The parts of the agent's own program that need no browser."""

import json
import subprocess
from pathlib import Path

import pytest

from cdpbridge.server.agent import _child
from cdpbridge.server.agent._child import Cutter, shortened


@pytest.mark.parametrize(
    "text",
    [
        'it is p&ss w"ord!',
        "https://example.com/?p=p%26ss%20w%22ord%21&q",
        "p%26ss+w%22ord%21",
        json.dumps({"typed": 'p&ss w"ord!'}),
        "<b>p&amp;ss w&quot;ord!</b>",
        "Basic cCZzcyB3Im9yZCE=",
    ],
)
def test_a_secret_is_cut_in_every_spelling(text, tmp_path):
    cutter = Cutter({'p&ss w"ord!': "word"})
    cut = cutter.text(text)
    assert "<secret>word</secret>" in cut
    assert "ord" not in cut.replace("<secret>word</secret>", "")
    assert cutter.value({"a": [text, 1, None], text: True}) == {"a": [cut, 1, None], cut: True}
    file = tmp_path / "file"
    file.write_bytes(b"\xff" + text.encode() + b"\x00")
    assert cutter.file(file)
    assert file.read_bytes() == b"\xff" + cut.encode() + b"\x00"
    assert not cutter.file(file)


def test_a_secret_within_another_leaves_no_rest_of_it():
    assert Cutter({"sesame": "a", "open sesame": "b"}).text("open sesame, sesame") == (
        "<secret>b</secret>, <secret>a</secret>"
    )


def test_lines_of_a_secret_are_secrets():
    cutter = Cutter({"-----BEGIN\nMIIEvQIBADANBg\nend": "key"})
    assert "MIIEvQIBADANBg" not in cutter.text("line: MIIEvQIBADANBg")
    assert cutter.text("end") == "end"  # too short to be one


def test_without_secrets_nothing_is_cut():
    assert Cutter({}).text("text") == "text"
    assert Cutter({"": "nothing"}).text("text") == "text"


def test_long_texts_are_shortened_and_say_so():
    assert shortened({"a": ["12345", 7]}, 3) == {"a": ["123... (2 more characters)", 7]}
    assert shortened("123", 3) == "123"


def test_logins_of_a_vault_are_bound_to_their_websites(agent_python):
    """With the items of 1Password's own SDK."""
    program = f"""
import json, runpy
from onepassword.types import Item, Website, ItemField
child = runpy.run_path({_child.__file__!r}, run_name="child")
def field(title, kind, value):
    return ItemField.model_construct(id=title, title=title, field_type=kind, value=value)
def item(title, websites, fields):
    return Item.model_construct(title=title, websites=[Website.model_construct(url=u) for u in websites], fields=fields)
from onepassword.types import ItemFieldType as T
items = [
    item("My Shop", ["https://shop.example/login?x", "b.example"], [
        field("username", T.TEXT, "ada"), field("password", T.CONCEALED, "pw"), field("empty", T.TEXT, ""),
        field("one-time password", T.TOTP, "otpauth://totp/x?secret=ABC%20&issuer=y"), field("menu", T.MENU, "no"),
    ]),
    item("Plain", ["http://shop.example"], [field("code", T.TOTP, "GEZD GNBV")]),
    item("Nowhere", [], [field("password", T.CONCEALED, "never")]),
]
print(json.dumps(child["logins"](items)))
"""
    said = subprocess.run([agent_python, "-c", program], capture_output=True, text=True, check=True)
    shop = {
        "my_shop_username": "ada",
        "my_shop_password": "pw",
        "my_shop_one_time_password_bu_2fa_code": "ABC",
    }
    assert json.loads(said.stdout) == {
        "https://shop.example": shop,
        "https://b.example": shop,
        "http://shop.example": {"plain_code_bu_2fa_code": "GEZDGNBV"},
    }


def test_the_program_needs_nothing_of_ours():
    """The environment of agents need not have cdpbridge."""
    text = Path(_child.__file__).read_text()
    assert "import cdpbridge" not in text
    assert "from cdpbridge" not in text
    assert "from ." not in text
