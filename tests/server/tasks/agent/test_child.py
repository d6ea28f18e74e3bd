"""The parts of the agent's own program that need no browser."""

import json
import subprocess
import sys

import pytest

from cdpbridge.server.tasks.agent import _child
from cdpbridge.server.tasks.agent._cutter import Cutter, shortened
from tests.cases import cases


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
    program = f"""
import runpy, sys
runpy.run_path({_child.__file__!r}, run_name="child")
print(*(name for name in sys.modules if name.partition(".")[0] == "cdpbridge"))
"""
    said = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.split() == []


@cases("secret", ["x", "1", "step", "output", "how", "finished", "screenshot", "llm"])
def test_a_short_secret_is_cut_where_it_stands_alone_and_nowhere_else(secret):
    cutter = Cutter({secret: "llm key"})
    cut = "<secret>llm key</secret>"
    assert cutter.text(f"Bearer {secret}") == f"Bearer {cut}"
    assert cutter.text(f"?a={secret}&b=%3D{secret}") == f"?a={cut}&b=%3D{cut}"
    assert cutter.text(json.dumps(f"\n{secret}")) == f'"\\n{cut}"'
    # A name of a field is a name, whatever the secret is.
    assert cutter.value({secret: [secret], "memory": {secret: 1.5}}) == {
        secret: [cut],
        "memory": {secret: 1.5},
    }
    # What was cut is not cut once more.
    assert cutter.text(cutter.text(f"Bearer {secret}")) == f"Bearer {cut}"


def test_a_short_secret_leaves_words_alone():
    text = "an example of exact text: 11 steps, x1, 0x10"
    assert Cutter({"x": "key", "1": "pin"}).text(text) == text
    assert Cutter({"x": "key"}).text("x, (x) and x.") == (
        "<secret>key</secret>, (<secret>key</secret>) and <secret>key</secret>."
    )
    assert Cutter({"-": "key", " ": "gap"}).text("a - b") == "a - b"


def test_a_secret_of_digits_is_cut_as_a_number_too():
    cutter = Cutter({"4711": "pin", "7": "short"})
    assert cutter.value({"pin": 4711, "count": 7, "yes": True, "more": [4711.5]}) == {
        "pin": "<secret>pin</secret>",
        "count": 7,
        "yes": True,
        "more": [4711.5],
    }


def test_json_stays_json_when_it_is_cut():
    cutter = Cutter({"step": "llm key", "long enough": "word"})
    assert json.loads(cutter.document('{"step": "a step", "n": 1}')) == {
        "step": "a <secret>llm key</secret>",
        "n": 1,
    }
    assert json.loads(cutter.document('{"long enough": 1}')) == {"<secret>word</secret>": 1}
    assert cutter.document('{"a":   "b"}') == '{"a":   "b"}'  # as it was written
    assert cutter.document("[no JSON, a step]") == "[no JSON, a <secret>llm key</secret>]"


def test_a_short_secret_breaks_no_binary_file(tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\x00 step x step \xff long enough")
    assert Cutter({"step": "a", "x": "b", "long enough": "c"}).file(picture)
    assert picture.read_bytes() == b"\x89PNG\x00 step x step \xff <secret>c</secret>"
    table = tmp_path / "table.json"
    table.write_text('{"step": "step"}')
    assert Cutter({"step": "a"}).file(table)
    assert json.loads(table.read_text()) == {"step": "<secret>a</secret>"}
