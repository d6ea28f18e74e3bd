"""What selectors find, what is said of those that are none, and pages whose elements have names of DOM members; in both builds."""

import pytest

from cdpbridge.browser._selectors import selector_hint
from cdpbridge.errors import ActionTimeout, ElementError, UploadFailed
from tests.browser.test_actions import log, of_our_script, show

pytestmark = pytest.mark.chromium


async def has(page, selector):
    try:
        await page.wait_for_selector(selector, timeout=0.1)
    except ActionTimeout:
        return False
    return True


@of_our_script
@pytest.mark.parametrize(
    ("html", "found", "not_found"),
    [
        ("Hello there", ["text=hello", 'text="Hello there"', "text='Hello there'"], ['text="Hello"']),
        (
            "Hello <b>big</b> world<p>More",
            ["text=hello big world", 'text="Hello"', 'text="big"'],
            ["text=small"],
        ),
        ("<script>var secret</script><style>.secret {}</style>a<p>b", ["text=a"], ["text=secret"]),
        ("<div>shown<script>var secret</script></div>", ["text=shown", 'text="shown"'], ["text=secret"]),
        ("<form><input name=children>In a form</form>", ["text=in a form"], ["text=children"]),
        ("<input value=typed><input type=submit value='Send it'>", ["text=send it"], ["text=typed"]),
        (
            "<p id=host></p><script>host.attachShadow({mode: 'open'}).append('In the shadow', document.createElement('hr'))</script>",
            ["text=in the shadow", 'text="In the shadow"'],
            ["text=hr"],
        ),
    ],
)
async def test_text_wherever_it_stands(page, pages, html, found, not_found):
    await show(page, pages, f"<body>{html}")
    assert {each: await has(page, each) for each in found + not_found} == (
        dict.fromkeys(found, True) | dict.fromkeys(not_found, False)
    )


async def test_text_in_the_body_is_the_last_choice(page, pages):
    await show(page, pages, "<body onclick='log.push(event.target.localName)'>Save or <a>save</a>")
    await page.click("text=save")
    await page.click("text=save or")
    assert await log(page) == ["a", "body"]


async def test_text_of_a_document_without_a_body(page, pages):
    pages.answers["/picture"] = (
        200,
        {"Content-Type": "image/svg+xml"},
        b"<svg xmlns='http://www.w3.org/2000/svg' width='99' height='50'><text y='20'>Drawn</text></svg>",
    )
    await page.goto(f"{pages.url}/picture")
    await page.wait_for_selector("text=drawn")
    assert "<text" in await page.content()


HINTS = [
    ("//button", "XPath"),
    ("(//a)[1]", "XPath"),
    ("xpath=//a", "XPath"),
    ("..", "XPath"),
    ("css=//a", "a selector is CSS"),
    ("role=button", "'role=' are Playwright's"),
    ("internal:role=button", "are Playwright's"),
    ("id=save", "write '#save'"),
    ("data-testid=save", "write '[data-testid=\"save\"]'"),
    ("Text=Save", "write 'text='"),
    ("div >> text=Save", "chains with '>>'"),
    ("a:has-text('Save')", "':has-text' is no CSS"),
    ("button:visible", "':visible' is no CSS"),
    ("'Save'", "a selector is CSS"),
    ("[[", "a selector is CSS"),
]


async def test_what_is_no_selector_says_what_is_one(page, pages):
    await show(page, pages, "<input type=file>")
    for selector, words in HINTS:
        assert words in selector_hint(selector), selector
        with pytest.raises(ElementError, match="is no selector: ") as caught:
            await page.click(selector, timeout=5)
        assert words in str(caught.value)
    with pytest.raises(UploadFailed, match="XPath"):
        await page.set_input_files("//input", __file__)


SHADOWED = """<!doctype html><title>The title</title><body><script>window.log = []</script>
<form name=title></form><form name=documentElement></form><form name=doctype></form><form name=readyState></form>
<form name=querySelector></form><img name=body><form name=activeElement></form><form name=elementFromPoint></form>
<form name=createElement></form><form name=createRange></form><form name=timeline></form><form name=location></form>
<form id=addEventListener></form><form id=removeEventListener></form><form id=performance></form>
<form id=booking onsubmit="log.push(new FormData(this).get('children')); event.preventDefault()">
<input name=children><input name=parentNode><input name=localName><input name=tagName><input name=textContent><input name=nodeType>
<input name=querySelector><input name=querySelectorAll><input name=getAttribute><input name=matches><input name=shadowRoot>
<input name=getClientRects><input name=checkVisibility><input name=assignedSlot><input name=host><input name=contains>
<input name=getAnimations><input name=focus><input name=childNodes><input name=dispatchEvent><input name=toJSON>
<input name=day type=date><div id=rich contenteditable>rich</div><select id=choice><option>a<option>b</select>
<my-part></my-part><button>Book it</button></form><iframe name=location srcdoc="<form><input name=children><button>Inner</button></form>">
</iframe><script>customElements.define('my-part', class extends HTMLElement {
connectedCallback() { this.attachShadow({mode: 'open'}).innerHTML = '<a>deep</a>' } })</script>"""


async def test_fault_c14_elements_with_names_of_members_hide_nothing(page, pages):
    pages.pages["/shadowed"] = SHADOWED
    await page.goto(f"{pages.url}/shadowed")
    assert await page.title() == "The title"
    assert await page.current_url() == f"{pages.url}/shadowed"
    html = await page.content()
    assert html.startswith("<!DOCTYPE html><html><head>")
    assert 'name="documentElement"' in html
    await page.fill("#booking [name=children]", "2", timeout=5)
    await page.fill("[name=day]", "2026-11-28", timeout=5)
    await page.fill("#rich", "richer", timeout=5)
    await page.fill("#choice", "b", timeout=5)
    await page.press("[name=parentNode]", "x", timeout=5)
    assert await page.evaluate("[booking.elements.day.value, rich.innerText, choice.value]") == [
        "2026-11-28",
        "richer",
        "b",
    ]
    await page.click("text=book it", timeout=5)
    assert await log(page) == ["2"]
    await page.wait_for_selector("text=deep", timeout=5)
    await page.wait_for_selector("my-part a", timeout=5)
    await page.click("text=inner", timeout=5)
    await page.wait_for_selector("#nothing", state="detached", timeout=5)
    assert await page.evaluate("document.forms.booking.elements.length") > 20


async def test_a_page_that_moves_on_while_it_is_read(page, pages):
    pages.pages |= {
        "/one": "<!doctype html><title>Page</title>one<script>setTimeout(() => location = '/two', 5)</script>",
        "/two": "<!doctype html><title>Page</title>two<script>setTimeout(() => location = '/one', 5)</script>",
    }
    await page.goto(f"{pages.url}/one", wait_until="commit")
    for _ in range(8):
        html = await page.content()
        assert html.startswith("<!DOCTYPE html><html><head><title>") or "<title>" not in html
        assert await page.title() in {"Page", ""}
        assert (await page.current_url()).endswith(("/one", "/two"))
    await page.goto("about:blank")
