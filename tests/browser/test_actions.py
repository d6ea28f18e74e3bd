"""Clicks, texts and keys on pages, after waiting for what they need, in both builds."""

import asyncio
import gc
import threading

import pytest

from cdpbridge.errors import (
    ActionTimeout,
    CommandTimeout,
    ConfigurationError,
    ConnectionClosed,
    ElementError,
    EvaluationError,
    NavigationError,
)
from cdpbridge.protocol import Page
from tests.builds import on_the_shell
from tests.conftest import until

pytestmark = pytest.mark.chromium

FORM = """<!doctype html><title>Form</title><script>window.log = []; window.trusted = []</script>
<form onsubmit="log.push('submit ' + new FormData(this).get('name')); event.preventDefault()">
<label for=name>Name</label><input id=name name=name value=old>
<input id=number type=number><input id=day type=date><input id=shade type=color><input id=range type=range max=10>
<textarea id=area>old text</textarea><div id=rich contenteditable>rich <b>old</b></div>
<select id=select><option value=a>First</option><option value=b>Second one</option></select>
<input id=box type=checkbox><input id=readonly readonly value=fixed><input id=off disabled>
<button id=save>Save it</button></form>
<script>document.addEventListener('click', e => { log.push(`click ${e.target.id} ${e.detail} ${e.button}`); trusted.push(e.isTrusted) });
document.addEventListener('dblclick', e => log.push(`dblclick ${e.target.id}`));
document.addEventListener('contextmenu', e => { log.push(`contextmenu ${e.target.id}`); e.preventDefault() });
document.addEventListener('input', e => log.push(`input ${e.target.id}`));
document.addEventListener('change', e => log.push(`change ${e.target.id}`));
document.addEventListener('keydown', e => log.push(`key ${e.key} ${e.code} ${e.keyCode} ${e.shiftKey}${e.ctrlKey}`));</script>"""


# What a script of ours sees in the page; actions of both builds are tested around it.
of_our_script = on_the_shell("what is looked at is a script of ours, which the builds run alike")


@pytest.fixture
async def form(page, pages):
    pages.pages["/form"] = FORM
    await page.goto(f"{pages.url}/form")
    return page


async def show(page, pages, html):
    pages.pages["/shown"] = f"<!doctype html><script>window.log = []</script>{html}"
    await page.goto(f"{pages.url}/shown")


async def log(page):
    return await page.evaluate("log.splice(0)")


# --- what users do ----------------------------------------------------------------------------------------------------


async def test_clicks_are_real(form):
    await form.click("#save")
    assert await log(form) == ["click save 1 0", "submit old"]
    await form.click("text=save IT", count=2)
    assert "dblclick save" in await log(form)
    await form.click("css=#area", button="right")
    assert await log(form) == ["contextmenu area"]
    await form.click("#box")
    assert await form.evaluate("[box.checked, trusted.every(Boolean)]") == [True, True]


async def test_texts(form):
    await form.fill("#name", "Zoë 😀")
    assert await form.evaluate("name_.value".replace("name_", "document.getElementById('name')")) == "Zoë 😀"
    assert await log(form) == ["input name"]
    await form.fill("#name", "")
    assert await form.evaluate("document.getElementById('name').value") == ""
    await form.fill("text=Name", "by its label")
    assert await form.evaluate("document.getElementById('name').value") == "by its label"
    await form.fill("#area", "two\nlines")
    assert await form.evaluate("area.value") == "two\nlines"
    await form.fill("#rich", "new")
    assert await form.evaluate("rich.textContent") == "new"
    await form.fill("#number", "4.5")
    await form.press("Tab")
    await log(form)
    for selector, value in (
        ("#day", "2026-11-28"),
        ("#day", ""),
        ("#shade", "#ff0000"),
        ("#range", "7"),
        ("#select", "b"),
    ):
        await form.fill(selector, value)
        assert await form.evaluate(f"document.querySelector('{selector}').value") == value
        assert await log(form) == [f"input {selector[1:]}", f"change {selector[1:]}"]
    await form.fill("#select", "First")
    assert await form.evaluate("[select.value, number.value]") == ["a", "4.5"]


async def test_keys(form):
    await form.press("#name", "Control+A")
    await form.press("x")
    await form.press("Shift+y")
    await form.press("!")
    await form.press("é")
    await form.press("Backspace")
    assert await form.evaluate("document.getElementById('name').value") == "xY!"
    said = await log(form)
    assert said[:2] == ["key Control ControlLeft 17 falsetrue", "key a KeyA 65 falsetrue"]
    assert "key Y KeyY 89 truefalse" in said
    assert "key ! Digit1 49 falsefalse" in said
    await form.press("Enter")
    assert "submit xY!" in await log(form)
    await form.press("Tab")
    assert await form.evaluate("document.activeElement.id") == "number"
    await form.press("#area", "ArrowDown")
    for _ in range(2):
        await form.press("Enter")
    assert "\n\n" in await form.evaluate("area.value")


async def test_a_click_that_opens_a_dialog_returns(page, pages):
    await show(page, pages, "<button onclick=\"log.push(confirm('sure?'))\">Ask</button>")
    await page.click("button", timeout=10)
    await page.session.send(Page.handle_java_script_dialog(accept=True))
    assert await log(page) == [True]


async def test_a_click_goes_on_after_a_dialog_that_is_answered(page, pages, caplog):
    pages.pages["/second"] = "<title>Second</title>"
    await show(page, pages, "<button onclick=\"if (confirm('sure?')) location = '/second'\">Ask</button>")
    page.on("dialog", lambda dialog: dialog.accept())
    await page.click("button")
    assert await page.evaluate("location.pathname") == "/second"
    await asyncio.to_thread(gc.collect)
    assert "never retrieved" not in caplog.text


async def test_a_click_waits_for_the_next_page_within_its_timeout(page, pages):
    answered = threading.Event()
    answer = pages.answer
    pages.answer = lambda path, given: (
        answered.wait(30) and answer(path, given) if path == "/second" else answer(path, given)
    )
    await show(page, pages, "<a href=/second>a</a>")
    try:
        async with asyncio.timeout(20):
            await page.click("a", timeout=1)
    finally:
        answered.set()
    await page.wait_for_expression("location.pathname === '/second'")


TWICE = {
    "in one script": "location = '/slow'; location = '/second'",
    "one after the other": "location = '/slow'; setTimeout(() => location = '/second')",
    "by a script of the first": "location = '/first'",
}


@pytest.mark.parametrize("how", TWICE)
async def test_two_navigations_after_one_click(page, pages, how):
    slow = threading.Event()
    answer = pages.answer
    pages.answer = lambda path, given: (
        slow.wait(0.4) or answer(path, given) if path in {"/slow", "/second"} else answer(path, given)
    )
    pages.pages |= {
        "/slow": "slow",
        "/first": "<script>location.replace('/second')</script>",
        "/second": "<title>Second</title>",
        "/twice": f'<button onclick="{TWICE[how]}">Go</button>',
    }
    await page.goto(f"{pages.url}/twice")
    begun = []
    page.session.on(Page.FrameNavigated, lambda event: begun.append(event.frame.url.removeprefix(pages.url)))
    await page.click("button")
    assert begun
    assert set(begun) <= {"/first", "/second"}
    await page.wait_for_expression("document.title === 'Second'")


LEADS = """<title>Here</title><a id=link href=/second>a</a><a id=js href="javascript:void(document.title = 'Script')">a</a>
<a id=hash href=#part>a</a><a id=file href=/file>a</a><a id=none href=/204>a</a><a id=blank href=/second target=_blank>a</a>
<form action=/second method=post><input id=field><button id=post>a</button></form>
<button id=script onclick="location.href = '/second'">a</button><button id=back onclick="history.back()">a</button>
<a id=prevented href=/second onclick="event.preventDefault()">a</a>"""


async def test_the_page_that_a_click_leads_to_is_there(page, pages):
    pages.pages |= {"/leads": LEADS, "/second": "<title>Second</title>"}
    pages.answers |= {
        "/file": (200, {"Content-Disposition": "attachment; filename=a.csv"}, b"a,b"),
        "/204": (204, {}, b""),
    }
    for selector in ("#link", "#post", "#script"):
        await page.goto(f"{pages.url}/leads")
        await page.click(selector)
        assert await page.evaluate("location.pathname") == "/second"
    await page.goto(f"{pages.url}/leads")
    await page.press("#field", "Enter")
    assert await page.evaluate("location.pathname") == "/second"
    await page.goto(f"{pages.url}/leads")
    async with asyncio.timeout(25):  # less than the wait for a document that does not come
        for selector in ("#hash", "#none", "#file", "#blank", "#prevented"):
            await page.click(selector)
            assert await page.evaluate("location.pathname") == "/leads", selector
        await page.click("#js")
        await page.wait_for_expression("document.title === 'Script'")


async def test_actions_at_the_same_time_do_not_mix(page, pages):
    await show(
        page,
        pages,
        "<input id=a><input id=b><input id=c><input id=late style='display: none'>"
        "<button onclick=\"late.style.display = ''\">Show</button>",
    )
    filling = [page.fill(f"#{each}", each * 3) for each in "abc"]
    # The first one waits for what the last one brings about, and keeps none waiting.
    await asyncio.gather(page.fill("#late", "late"), *filling, page.press("#c", "x"), page.click("button"))
    values = await page.evaluate("[a.value, b.value, late.value, c.value.replace('x', '')]")
    assert values == ["aaa", "bbb", "late", "ccc"]


@pytest.mark.parametrize(
    "html",
    [
        "<input id=meant onfocus='other.focus()'><input id=other>",
        "<input id=meant onfocus='this.blur()'><input id=other>",
        "<div inert><input id=meant></div><input id=other autofocus>",
    ],
)
async def test_a_text_that_would_go_elsewhere_is_refused(page, pages, html):
    await show(page, pages, html)
    with pytest.raises(ElementError, match="moved the focus"):
        await page.fill("#meant", "secret")
    assert await page.evaluate("[meant.value, other.value]") == ["", ""]


async def test_a_field_that_moves_on_by_itself_is_filled(page, pages):
    await show(page, pages, "<input id=one oninput='two.focus()'><input id=two onfocus='this.select()'>")
    await page.fill("#one", "1")
    await page.fill("#two", "2")
    assert await page.evaluate("[one.value, two.value]") == ["1", "2"]


@of_our_script
@pytest.mark.parametrize(
    "act",
    [
        lambda tab: tab.fill("#late", "text"),
        lambda tab: tab.fill("#choice", "b"),
        lambda tab: tab.press("#late", "x"),
        lambda tab: tab.click("#late"),
        lambda tab: tab.wait_for_expression("(window.asked = (window.asked ?? 0) + 1, false)"),
    ],
)
async def test_a_cancelled_action_leaves_the_page_alone(page, pages, act):
    await show(page, pages, "<p>a")
    acting = asyncio.create_task(act(page))
    await page.wait_for_selector("p")  # what was sent before has begun
    await page.wait_for_expression("window.asked > 2 || !window.asked")
    acting.cancel()
    await asyncio.gather(acting, return_exceptions=True)
    await page.evaluate(
        """document.body.innerHTML = "<input id=late onfocus=log.push('focus') onclick=log.push('click')>"
        + "<select id=choice onchange=log.push('change')><option>a<option>b</select>" """
    )
    await page.evaluate("window.asked &&= 1")
    await page.evaluate("new Promise(done => setTimeout(done, 400))")
    assert await page.evaluate("[late.value, choice.value, document.activeElement === late]") == [
        "",
        "a",
        False,
    ]
    assert await log(page) == []
    assert await page.evaluate("window.asked ?? 1") == 1


# --- what is waited for -----------------------------------------------------------------------------------------------


@of_our_script
@pytest.mark.parametrize(
    ("html", "later", "check", "words"),
    [
        ("", "document.body.innerHTML = '<button>b</button>'", "attached", "no element matches"),
        (
            "<button style='display: none'>b</button>",
            "b.style.display = ''",
            "visible",
            "<button> is not visible",
        ),
        (
            "<button style='visibility: hidden'>b</button>",
            "b.style.visibility = ''",
            "visible",
            "is not visible",
        ),
        ("<button disabled>b</button>", "b.disabled = false", "enabled", "<button>: it is disabled"),
        (
            "<fieldset disabled><button>b</button></fieldset>",
            "b.parentNode.disabled = false",
            "enabled",
            "disabled",
        ),
        (
            "<div aria-disabled=true><button>b</button></div>",
            "b.parentNode.ariaDisabled = null",
            "enabled",
            "around it",
        ),
        (
            "<button>b</button><div id=veil style='position: fixed; inset: 0'></div>",
            "veil.remove()",
            "receives the click",
            '<div id="veil"> covers <button>',
        ),
        (
            (
                # One way and slowly: one that turns stands at the same place twice when frames are late.
                "<style>@keyframes move { to { margin-left: 5000px } }</style>"
                "<button style='animation: move 20s linear infinite'>b</button>"
            ),
            "b.style.animation = 'none'",
            "stable",
            "<button> is moving",
        ),
    ],
)
async def test_a_click_waits_and_says_what_for(page, pages, html, later, check, words):  # noqa: PLR0917
    await show(page, pages, f"{html}<script>document.onclick = e => log.push(e.target.localName)</script>")
    with pytest.raises(
        ActionTimeout, match=rf"click\('button'\) waited 1 s .*check '{check}' failed"
    ) as caught:
        await page.click("button", timeout=1)
    assert (caught.value.selector, caught.value.check, words in caught.value.hint) == ("button", check, True)
    assert isinstance(caught.value, CommandTimeout)
    assert await log(page) == []
    clicking = asyncio.create_task(page.click("button"))
    await page.evaluate(
        f"new Promise(done => setTimeout(done, 150)).then(() => {{ const b = document.querySelector('button'); {later} }})"
    )
    await clicking
    assert await log(page) == ["button"]


async def test_what_is_far_away_is_scrolled_to(page, pages):
    await show(
        page,
        pages,
        "<div style='position: fixed; top: 0; height: 60%; width: 100%; background: red'></div><div style='height: 5000px'></div>"
        "<div style='overflow: auto; height: 100px'><div style='height: 900px'></div><a onclick='log.push(1)'>deep</a></div>"
        "<div style='height: 5000px'></div>",
    )
    await page.click("text=deep")
    assert await log(page) == [1]


async def test_parts_and_labels_receive_the_click(page, pages):
    await show(
        page,
        pages,
        "<button onclick='log.push(1)'><b>in</b></button>"
        "<label>on <input type=checkbox id=box style='opacity: 0; position: absolute; z-index: -1'>off</label>"
        "<p>a <a id=link onclick='log.push(2)'>link " + "over lines " * 60 + "</a></p>",
    )
    await page.click("button")
    await page.click("#link")
    assert await log(page) == [1, 2]


async def test_waits_for_selectors(page, pages):
    await show(page, pages, "<p id=there>a</p><p id=unseen style='display: none'>b</p>")
    await page.wait_for_selector("#there")
    await page.wait_for_selector("#unseen", state="attached")
    await page.wait_for_selector("#unseen", state="hidden")
    await page.wait_for_selector("#nowhere", state="hidden")
    await page.wait_for_selector("#nowhere", state="detached")
    for selector, state in (
        ("#unseen", "visible"),
        ("#there", "hidden"),
        ("#unseen", "detached"),
        ("#no", "attached"),
    ):
        with pytest.raises(ActionTimeout, match="wait_for_selector"):
            await page.wait_for_selector(selector, state=state, timeout=0.1)
    waiting = asyncio.create_task(page.wait_for_selector("#late"))
    await page.goto(pages.url)
    await page.evaluate("document.body.innerHTML = '<p id=late>now'")
    await waiting


async def test_waits_for_expressions(page, pages):
    await show(page, pages, "<p>a</p><script>setTimeout(() => window.items = [1, 2], 200)</script>")
    assert await page.wait_for_expression("window.items") == [1, 2]
    assert await page.wait_for_expression("Promise.resolve({a: 1}) // with a comment") == {"a": 1}
    assert await page.wait_for_expression("document.querySelector('p')") is True
    for expression, value in (("Infinity", float("inf")), ("-1/0", float("-inf")), ("10n", 10)):
        assert await page.wait_for_expression(expression) == value
    for expression in ("Symbol()", "({a: window})", "document.querySelector", "new Map()"):
        assert await page.wait_for_expression(expression, timeout=5) is True
    assert await page.wait_for_expression("(() => window.items[1])();") == 2
    with pytest.raises(
        ConfigurationError, match="the expression is a function, which is true at once: call it"
    ):
        await page.wait_for_expression("async () => window.never")
    await page.evaluate("window.value = window.end = 1")
    assert await page.wait_for_expression("value + end", timeout=5) == 2
    with pytest.raises(ActionTimeout, match=r"wait_for_expression\('window.never'\) waited 0\.2 s"):
        await page.wait_for_expression("window.never", timeout=0.2)
    with pytest.raises(EvaluationError, match="null"):
        await page.wait_for_expression("document.querySelector('i').title")
    with pytest.raises(EvaluationError, match="SyntaxError"):
        await page.wait_for_expression("((")
    waiting = asyncio.create_task(page.wait_for_expression("document.title === 'Start'"))
    await page.goto(pages.url)
    assert await waiting is True


# --- where it is looked for -------------------------------------------------------------------------------------------

SHADOW = """<my-card></my-card><script>
customElements.define('my-row', class extends HTMLElement { connectedCallback() {
    this.attachShadow({mode: 'open'}).innerHTML = `<button class=inner title="a > b">Deep Button</button><slot></slot>`;
    this.shadowRoot.addEventListener('click', e => { log.push(e.target.textContent); e.stopPropagation() }) } });
customElements.define('my-card', class extends HTMLElement { connectedCallback() {
    this.attachShadow({mode: 'open'}).innerHTML =
        `<div class=body><my-row><i>slotted</i></my-row><input id=field><button class=inner>Last</button></div>`;
    this.shadowRoot.addEventListener('click', e => log.push(e.target.textContent)) } });</script>"""


@of_our_script
@pytest.mark.parametrize(
    ("selector", "hit"),
    [
        (".inner", "Deep Button"),
        ("my-row .inner", "Deep Button"),
        (".body > .inner", "Last"),
        ("my-card .body my-row i", "slotted"),
        ('nothing, [title="a > b"]', "Deep Button"),
        ("text=deep but", "Deep Button"),
        ('text="Last"', "Last"),
    ],
)
async def test_open_shadow_roots(page, pages, selector, hit):
    await show(page, pages, SHADOW)
    await page.click(selector)
    assert await log(page) == [hit]
    await page.fill("#field", "shadow")
    assert (
        await page.evaluate("document.querySelector('my-card').shadowRoot.querySelector('input').value")
        == "shadow"
    )


@of_our_script
@pytest.mark.parametrize("selector", ["my-card > .body > .inner", 'text="Las"', "i .inner"])
async def test_what_is_in_no_shadow_root(page, pages, selector):
    await show(page, pages, SHADOW)
    with pytest.raises(ActionTimeout, match="no element matches"):
        await page.click(selector, timeout=0.1)


INNER = """<!doctype html><title>Inner</title><input id=inner><button onclick="document.title = inner.value" id=pay>Pay</button>
<div style='height: 2000px'></div><button onclick="document.title = 'low'" id=low>Low</button>"""


@pytest.mark.parametrize("origin", ["url", "other"])
async def test_frames_of_the_same_and_of_other_sites(page, pages, origin):
    pages.pages["/inner"] = INNER
    pages.pages["/middle"] = (
        f"<iframe src='{getattr(pages, origin)}/inner' style='margin: 20px; border: 5px solid'></iframe>"
    )
    await show(
        page,
        pages,
        f"<div style='height: 3000px'></div><iframe src='{getattr(pages, origin)}/middle' width=500 height=400"
        " style='padding: 7px'></iframe>",
    )
    await page.fill("#inner", "1234")
    await page.press("#inner", "5")
    await page.click("#pay")
    frames = await page._frames.all()
    inner = next(frame for frame in frames if frame.parent_id not in {None, page.target_id})
    assert (inner.session is page.session) == (origin == "url")
    world = await inner.session.send(Page.create_isolated_world(inner.id))
    context = world.execution_context_id

    async def title():
        answer = await inner.session.send(
            "Runtime.evaluate", {"expression": "document.title", "contextId": context}
        )
        return answer["result"]["value"]

    assert await title() == "12345"
    await page.click("#low")
    assert await title() == "low"
    await page.wait_for_selector("text=pay")
    await page.wait_for_selector("#nowhere", state="detached")
    with pytest.raises(ActionTimeout, match="is visible"):
        await page.wait_for_selector("#pay", state="hidden", timeout=0.5)
    with pytest.raises(ActionTimeout, match="no element matches in 3 frames"):
        await page.click("#nowhere", timeout=1.5)  # all frames must have answered
    await page.evaluate("document.querySelector('iframe').style.visibility = 'hidden'")
    with pytest.raises(ActionTimeout, match=r"check '(receives the click|visible)' failed"):
        await page.click("#pay", timeout=1.5)
    await page.evaluate("document.querySelector('iframe').remove()")
    await page.wait_for_selector("#pay", state="hidden")


@pytest.mark.parametrize("origin", ["url", "other"])
async def test_a_frame_that_goes_when_its_field_is_set(page, pages, origin):
    pages.pages["/chooser"] = (
        "<select id=choice onchange=\"parent.postMessage('done', '*'); frameElement?.remove()\"><option>a<option>b</select>"
    )
    await show(
        page,
        pages,
        f"<iframe src='{getattr(pages, origin)}/chooser'></iframe>"
        "<script>onmessage = () => { log.push('done'); document.querySelector('iframe')?.remove() }</script>",
    )
    await page.fill("#choice", "b", timeout=10)
    await page.wait_for_expression("log.length && !document.querySelector('iframe')")


async def test_a_frame_that_hangs_does_not_hold_up_the_others(page, pages):
    released = threading.Event()
    answer = pages.answer
    pages.answer = lambda path, given: (
        released.wait(60) and answer(path, given) if path == "/never" else answer(path, given)
    )
    pages.pages |= {
        "/inner": INNER,
        "/hangs": "<script>onmessage = () => {"
        " const request = new XMLHttpRequest(); request.open('GET', '/never', false); request.send() }</script>",
    }
    await show(
        page,
        pages,
        f"<iframe src='{pages.other}/hangs'></iframe><iframe src='/inner'></iframe>",
    )
    await page.evaluate("frames[0].postMessage('go', '*')")
    await until(lambda: ("GET", "/never") in pages.seen)
    try:
        async with asyncio.timeout(25):  # less than a command's own timeout
            await page.fill("#inner", "1234", timeout=20)
            await page.route("*/routed", lambda route: route.fulfill(body="mine"))
            assert await page.evaluate("fetch('/routed').then(answer => answer.text())") == "mine"
            await page.wait_for_selector("#nowhere", state="detached")
            assert await page.evaluate("frames[1].document.querySelector('#inner').value") == "1234"
    finally:
        released.set()


async def test_frames_that_were_removed_leave_nothing_behind(page, pages):
    pages.pages["/inner"] = INNER
    for _ in range(3):
        await show(page, pages, f"<iframe src='/inner'></iframe><iframe src='{pages.other}/inner'></iframe>")
        await page.wait_for_expression("frames.length === 2")
        await page.click("#pay")
    await show(page, pages, "<button>b</button>")
    await page._frames.all()
    assert len(page._frames._scripts) <= 1


async def test_a_text_that_is_shown_is_preferred(page, pages):
    await show(
        page,
        pages,
        "<a style='display: none'>Save</a><p><a onclick='log.push(1)'>Save</a></p><i style='display: none'>Only</i>",
    )
    await page.click("text=save", timeout=5)
    await page.click('text="Save"', timeout=5)
    assert await log(page) == [1, 1]
    await page.wait_for_selector("text=Only", state="attached")
    await page.wait_for_selector("text=Only", state="hidden")


async def test_a_frame_that_comes_late(page, pages):
    pages.pages["/inner"] = INNER
    await show(page, pages, f"<iframe src='{pages.url}/'></iframe>")
    clicking = asyncio.create_task(page.click("#pay"))
    await page.evaluate(
        "new Promise(done => setTimeout(done, 300)).then(() => { const frame = document.createElement('iframe');"
        f" frame.src = '{pages.other}/inner'; document.body.append(frame) }})"
    )
    await clicking


async def test_a_page_in_the_background(page, pages, connection):
    await show(page, pages, "<button onclick='log.push(1)'>b</button>")
    await connection.new_tab(pages.url)
    await page.click("button")
    assert await log(page) == [1]


async def test_a_hostile_page_changes_nothing(page, pages):
    await show(
        page,
        pages,
        "<button onclick='log.push(1)'>b</button><script>Document.prototype.querySelector = () => null;"
        "Element.prototype.getClientRects = () => []; window.requestAnimationFrame = () => 0; window.setTimeout = () => 0</script>",
    )
    await page.click("button")
    assert await log(page) == [1]


# --- what cannot work -------------------------------------------------------------------------------------------------


@of_our_script
@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (lambda tab: tab.click("[["), ElementError, "is no selector"),
        (lambda tab: tab.click(""), ConfigurationError, "selector must be a text"),
        (lambda tab: tab.click("#save", button="main"), ConfigurationError, "button must be one of 'left'"),
        (lambda tab: tab.click("#save", count=0), ConfigurationError, "count must be"),
        (lambda tab: tab.click("#save", timeout="1"), ConfigurationError, "timeout must be"),
        (lambda tab: tab.fill("#box", "a"), ElementError, 'type="checkbox"> cannot be filled'),
        (lambda tab: tab.fill("#save", "a"), ElementError, "cannot be filled"),
        (lambda tab: tab.fill("#number", "abc"), ElementError, "takes numbers only"),
        (lambda tab: tab.click("text="), ConfigurationError, "looks for an empty text"),
        (lambda tab: tab.fill('text=" "', "a"), ConfigurationError, "looks for an empty text"),
        (lambda tab: tab.fill("#day", "28.11.2026"), ElementError, "write it like 2026-11-28"),
        (lambda tab: tab.fill("#shade", "reddish"), ElementError, "write it like #ff8800"),
        (lambda tab: tab.fill("#shade", ""), ElementError, "does not take this value"),
        (lambda tab: tab.fill("#range", "much"), ElementError, "takes numbers from 0 to 10 in steps of 1"),
        (lambda tab: tab.fill("#range", "11"), ElementError, "takes numbers from 0 to 10"),
        (lambda tab: tab.fill("#range", "7.3"), ElementError, "in steps of 1"),
        (lambda tab: tab.fill("#range", ""), ElementError, "takes numbers from"),
        (lambda tab: tab.fill("#name", 5), ConfigurationError, "value must be a text"),
        (lambda tab: tab.fill("#readonly", "a", timeout=0.1), ActionTimeout, "is read-only"),
        (lambda tab: tab.fill("#off", "a", timeout=0.1), ActionTimeout, "check 'enabled' failed"),
        (lambda tab: tab.fill("#select", "c", timeout=0.1), ActionTimeout, "has no option with this value"),
        (lambda tab: tab.press("enter"), ConfigurationError, "no key 'enter'; do you mean 'Enter'"),
        (lambda tab: tab.press("Strg+A"), ConfigurationError, "'Strg' is no modifier"),
        (lambda tab: tab.wait_for_selector("p", state="gone"), ConfigurationError, "state must be one of"),
    ],
)
async def test_what_cannot_work_is_said_at_once(form, act, kind, words):
    with pytest.raises(kind) as caught:
        await act(form)
    assert words in str(caught.value)
    assert not [each for each in await log(form) if not each.startswith("key")]


@pytest.mark.parametrize("selector", ["#number", "#day", "#select"])
async def test_values_stay_out_of_messages(form, selector):
    with pytest.raises((ElementError, ActionTimeout)) as caught:
        await form.fill(selector, "4111 secret", timeout=0.2)
    assert "4111" not in str(caught.value)


async def test_an_attach_that_ended_with_the_connection(page, pages):
    await page.goto(pages.url)
    attaching = page._frames._attached = asyncio.create_task(asyncio.sleep(60))
    waiting = asyncio.create_task(page._frames.all())
    await asyncio.sleep(0)
    attaching.cancel()
    with pytest.raises(ConnectionClosed):
        await waiting
    assert len(await page._frames.all()) == 1  # another try attaches


@pytest.fixture
async def hung(page, pages):
    """A page whose scripts stand still until the test is over."""
    released = threading.Event()
    answer = pages.answer
    pages.answer = lambda path, given: (
        released.wait(100) and answer(path, given) if path == "/never" else answer(path, given)
    )
    pages.pages["/hangs"] = (
        "<button onclick=\"const r = new XMLHttpRequest(); r.open('GET', '/never', false); r.send()\">b</button><input>"
    )
    await page.goto(f"{pages.url}/hangs")

    async def hang(work):
        task = asyncio.create_task(work)
        await until(lambda: ("GET", "/never") in pages.seen)
        return task

    page.hang = hang
    yield page
    released.set()


BLOCKED = "document.querySelector('button').click()"


async def test_each_action_on_a_page_that_hangs_ends_in_time(hung):
    working = await hung.hang(hung.evaluate(BLOCKED))
    hung.on("request", lambda _: None)  # its set-up waits for the page, too
    acts = {
        "click": hung.click("button", timeout=0.2),
        "fill": hung.fill("input", "a", timeout=0.2),
        "press": hung.press("Enter", timeout=0.2),
        "wait_for_selector": hung.wait_for_selector("p", timeout=0.2),
        "wait_for_expression": hung.wait_for_expression("1", timeout=0.2),
        "evaluate": hung.evaluate("1", timeout=0.2),
        "goto": hung.goto("about:blank#a", timeout=0.2),
        "reload": hung.reload(timeout=0.2),
    }
    async with asyncio.timeout(20):  # less than a command's own timeout
        found = dict(zip(acts, await asyncio.gather(*acts.values(), return_exceptions=True), strict=True))
    for verb, error in found.items():
        assert isinstance(
            error, CommandTimeout if verb in {"evaluate", "goto", "reload"} else ActionTimeout
        ), verb
        assert verb in str(error)
        assert "0.2 s" in str(error)
    assert "the page did not answer" in str(found["click"])
    working.cancel()


async def test_a_page_that_hangs_by_the_click_itself(hung, pages):
    async with asyncio.timeout(15):
        with pytest.raises(
            CommandTimeout, match=r"click got no answer .* within 1 s: the page got the input"
        ) as caught:
            await hung.click("button", timeout=1)
    assert not isinstance(caught.value, ActionTimeout)  # which would say that nothing was clicked
    assert ("GET", "/never") in pages.seen


async def test_the_page_is_closed_meanwhile(page, pages):
    await show(page, pages, "<p>a")
    clicking = asyncio.create_task(page.click("button"))
    await page.evaluate("1")
    await page.close()
    with pytest.raises(Exception, match="closed"):
        await clicking
    with pytest.raises(Exception, match="closed"):
        await page.click("button")
    assert issubclass(NavigationError, Exception)
