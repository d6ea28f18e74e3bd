"""A crawl of a site made to be nasty, on both builds: each field of each response is what the site says it served."""

from __future__ import annotations

import hashlib
import re
from functools import cache

import pytest

from tests.conftest import clean_environment
from tests.integrations._nasty import DOCUMENTS, Document, page, plain, serve
from tests.integrations.test_scrapy import crawl, rendered  # noqa: F401
from tests.own_user import open_way

pytestmark = pytest.mark.chromium

SETTINGS = {
    "CDPBRIDGE_TABS_PER_BROWSER": 4,
    "RETRY_ENABLED": False,
    "METAREFRESH_ENABLED": False,
    "DOWNLOAD_TIMEOUT": 40,
}
# The last is the forwarder's own: it lets no site speak in its name.
OF_THE_TRANSFER = {"content-encoding", "content-length", "transfer-encoding", "proxy-status"}


@pytest.fixture(scope="module")
def site():
    with serve() as running:
        yield running


def asked(site, path, **more):
    meta = {"handle_httpstatus_all": True, "cookiejar": path} | more.pop("meta", {})
    return rendered(site.url + path, meta=meta, **more)


URL = b"<url><loc>http://site.test/%07d</loc></url>\n"


@cache
def sitemap():
    """45 MB of XML."""
    return b"<?xml version='1.0'?><urlset>%s</urlset>" % b"".join(URL % n for n in range(1_000_000))


MOVING = ("/replaced", "/replaced-soon", "/replaced-after", "/refreshed", "/submits")
TIMES = 4


def endless(kind, chunk):
    head = [("Content-Type", kind.encode()), ("Transfer-Encoding", b"chunked")]
    return Document(200, head, chunk, endless=True)


SIZED = {
    "/large-json": plain("application/json", b"[%s]" % (b"1," * 5000 + b"1")),
    "/large-page": page("Large", rest="<p>" + "large " * 5000),
    "/endless-json": endless("application/json", b"1, " * 5000),
    "/endless-page": endless("text/html", b"<p>" + b"endless " * 2000),
}


@pytest.fixture(scope="module", params=["shell", "full"])
def crawled(request, crawl, site, server, tmp_path_factory):  # noqa: F811
    """One crawl of the whole site, by browsers of one build."""
    environment = server.environment()
    paths = dict.fromkeys(DOCUMENTS)
    if request.param == "full":
        folder = tmp_path_factory.mktemp("full")
        open_way(folder / "any")
        environment = clean_environment(
            CDPBRIDGE_PROVIDER="local", CDPBRIDGE_DATA_DIR=str(folder), CDPBRIDGE_BROWSER_BUILD="full"
        )
    site.more |= SIZED | {"/sitemap": plain("application/xml", sitemap()), "/sent": page("Sent")}
    at_most = {"download_maxsize": 9000}
    return crawl(
        {path: asked(site, path) for path in paths}
        | {f"{number} {path}": asked(site, path) for path in MOVING for number in range(TIMES)}
        | {path: asked(site, path, meta=at_most) for path in SIZED}
        | {
            "sent": asked(site, "/sent", headers={"X-Own": "naïve", "X-Plain": "yes"}, cookies={"a": "é"}),
            "unsent": asked(site, "/page", headers={"X-Own": "caf\xe9"}, encoding="latin-1"),
            "sitemap": asked(site, "/sitemap", meta={"download_warnsize": 40_000_000}),
            "half": asked(site, "/cut-json", meta={"download_fail_on_dataloss": False}),
            "head": asked(site, "/json-1251", method="HEAD"),
            "head of a page": asked(site, "/page", method="HEAD"),
            "picture": asked(site, "/svg", options={"screenshot": True}),
            "script": asked(site, "/json-404", options={"script": "document.contentType"}),
            "waits": asked(site, "/png", options={"wait_for_selector": "#never"}),
        },
        environment=environment,
        **SETTINGS,
    )


def wrong(told, path, site):
    """What is not as the site says that it served it; nothing where all is right."""
    document = DOCUMENTS[path]
    if "error" in told:
        return [] if told["error"] in document.failure else [f"{told['error']}: {told['text']}"]
    if document.failure and told["status"] != 304:
        return [f"no failure, but {told['status']} with {told['body']!r:.80}"]
    landed = told["url"].removeprefix(site.url).partition("?")[0]
    if landed not in (document.lands_at or (path,)):
        return [f"landed at {landed}"]
    document = DOCUMENTS[landed]
    found = []
    if told["status"] != document.status:
        found.append(f"status {told['status']}")
    for name in {name for name, _ in document.head} - {"Set-Cookie"}:
        served = [value.decode("latin-1") for other, value in document.head if other == name]
        got = told["headers"].get(name.lower(), [])
        if got != ([] if name.lower() in OF_THE_TRANSFER else served):
            found.append(f"{name}: {got}")
    if document.body is not None and told["body"] != document.body.decode("latin-1"):
        found.append(f"body {told['body']!r:.80}")
    if document.body is None and told["status"] < 600 and document.sent:
        title = re.search("<title>(.*)</title>", told["body"])
        if (title[1] if title else "") != document.title:
            found.append(f"page {told['body']!r:.80}")
    if document.text is not None and told["text"] != document.text:
        found.append(f"text {told['text']!r:.80}")
    return found


def all_wrong(crawled, site, *paths):
    found = {path: wrong(crawled[path], path, site) for path in paths}
    return {path: problems for path, problems in found.items() if problems}


def test_every_document_is_what_the_site_served_or_a_failure_with_its_reason(crawled, site):
    paths = [path for path in DOCUMENTS if path in crawled]
    assert paths == list(DOCUMENTS)
    assert all_wrong(crawled, site, *paths) == {}


def test_fault_c01_a_page_that_cannot_load_because_it_moves_on(crawled, site):
    assert all_wrong(crawled, site, "/waits", "/waits-json", "/moves-to-nothing", "/moves-to-204") == {}


def test_fault_c02_an_answer_that_breaks_off_is_a_failure_that_can_be_repeated(crawled, site):
    broken = [
        path
        for path in DOCUMENTS
        if path.startswith(("/cut", "/reset", "/chunk-missing", "/packed-b", "/packed-h"))
    ]
    assert len(broken) == 9
    assert all_wrong(crawled, site, *broken) == {}


def test_fault_c03_a_status_without_a_body(crawled, site):
    assert all_wrong(crawled, site, "/empty-404", "/empty-500", "/204") == {}
    assert crawled["/204"]["body"] == ""
    assert all(not re.sub("<.*?>", "", crawled[path]["body"]) for path in ("/empty-404", "/empty-500"))


def test_fault_c05_a_file_comes_from_the_browser_with_one_request(crawled, site):
    for path in ("/attached", "/attached-pdf", "/octets", "/csv"):
        assert wrong(crawled[path], path, site) == []
        assert crawled[path]["flags"] == ["cdpbridge"]
    assert crawled["/attached"]["kind"] == "HtmlResponse"
    assert "<title>Offers</title>" in crawled["/offers"]["body"]


def test_fault_c07_one_document_where_the_page_moves_on_while_it_is_read(crawled, site):
    found = {(path, n): wrong(crawled[f"{n} {path}"], path, site) for path in MOVING for n in range(TIMES)}
    assert {name: problems for name, problems in found.items() if problems} == {}


@pytest.mark.parametrize(
    "path",
    [path for path, document in DOCUMENTS.items() if document.text is not None]
    + ["/all-bytes", "/delete-signs", "/style", "/chunked-json", "/packed-json", "/typeless-text"],
)
def test_fault_c08_bytes_and_text_of_any_charset(crawled, site, path):
    assert wrong(crawled[path], path, site) == []


def test_fault_c10_a_pdf_and_media_are_their_bytes(crawled, site):
    assert all_wrong(crawled, site, "/pdf", "/png", "/svg", "/video") == {}


def test_fault_c11_header_values_are_bytes(crawled, site):
    for path in ("/headers", "/headers-json"):
        headers = crawled[path]["headers"]
        assert headers["x-latin"] == ["caf\xe9"]
        assert headers["x-utf8"] == ["café".encode().decode("latin-1")]
    assert crawled["/headers"]["headers"]["set-cookie"] == [
        "one=\xe9t\xe9; Path=/",
        "two=2; Path=/; Expires=Fri, 01 Jan 2100 00:00:00 GMT",
    ]
    assert crawled["/headers-json"]["headers"]["set-cookie"] == ["three=\xe9; Path=/", "four=4; Path=/"]
    head = site.requests["/sent"]
    assert "\r\nX-Own: naïve\r\n".encode() in head
    assert "\r\nCookie: a=é\r\n".encode() in head
    assert crawled["unsent"]["error"] == "ConfigurationError"
    assert "X-Own has others: give it as text" in crawled["unsent"]["text"]


def test_fault_c12_half_of_a_surrogate_pair(crawled):
    assert "half � of" in crawled["/surrogate"]["text"]


def test_fault_c14_elements_with_the_names_of_the_documents_own(crawled):
    assert crawled["/named"]["body"].startswith("<!DOCTYPE html><html><head><title>Named</title>")
    assert "<p>the end</p>" in crawled["/named"]["body"]


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_fault_c09_a_sitemap_of_45_megabytes(crawled):
    assert (crawled["sitemap"]["size"], crawled["sitemap"]["digest"]) == (
        len(sitemap()),
        hashlib.sha256(sitemap()).hexdigest(),
    )
    assert "over 40000000 (DOWNLOAD_WARNSIZE)" in crawled["log"]


@pytest.mark.parametrize("path", ["/large-json", "/large-page", "/endless-json", "/endless-page"])
def test_fault_c09_a_limit_of_the_size_is_obeyed(crawled, path):
    assert crawled[path]["error"] == "DownloadCancelledError"
    assert "over the limit of 9000 (DOWNLOAD_MAXSIZE)" in crawled[path]["text"]
    assert ("will have" if "large" in path else "has at least") in crawled[path]["text"]


def test_the_half_of_a_body_comes_where_that_is_wanted(crawled):
    assert (crawled["half"]["body"], crawled["half"]["flags"]) == ('{"a": 1}', ["cdpbridge", "dataloss"])


def test_head_has_no_body(crawled):
    for name in ("head", "head of a page"):
        assert (crawled[name]["status"], crawled[name]["body"]) == (200, "")


def test_what_is_no_page_has_a_document_where_a_picture_or_a_script_asks_for_one(crawled):
    assert crawled["picture"]["result"] == {"screenshot": "89504e470d0a1a0a"}
    assert crawled["picture"]["body"] == DOCUMENTS["/svg"].body.decode()
    assert crawled["script"]["result"] == {"script": "application/json"}
    assert (crawled["script"]["status"], crawled["script"]["body"]) == (404, '{"error": "no"}')
    assert crawled["waits"]["digest"] == hashlib.sha256(DOCUMENTS["/png"].body).hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.one_build("memory of the crawling program; what both builds bring is compared above")
@pytest.mark.parametrize("kind", ["application/octet-stream", "application/json"])
def test_fault_c09_200_megabytes_are_in_memory_at_most_2_2_times(crawl, site, server, kind):  # noqa: F811
    sent = (
        bytes(range(256)) * 781_250
        if kind.endswith("stream")
        else b'["%s"]' % (b"abc \xc3\xa9 " * 28_571_428)
    )
    site.more["/huge"] = plain(kind, sent)
    found = crawl(
        {"huge": asked(site, "/huge", meta={"memory": True, "download_timeout": 90})},
        environment=server.environment(),
        limit=300,
        **SETTINGS,
    )
    del site.more["/huge"]
    assert found["huge"]["digest"] == hashlib.sha256(sent).hexdigest()
    assert found["huge, memory"]["peak"] <= 2.2 * len(sent)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.one_build("many documents in a row; each kind of them is compared above on both builds")
def test_a_crawl_of_500_nasty_documents(crawl, site, server):  # noqa: F811
    names = [f"{number} {path}" for number in range(8) for path in DOCUMENTS]
    assert len(names) >= 500
    requests = {name: asked(site, name.partition(" ")[2]) for name in names}
    found = crawl(requests, environment=server.environment(), limit=800, **SETTINGS)
    problems = {name: wrong(found[name], name.partition(" ")[2], site) for name in names}
    assert {name: each for name, each in problems.items() if each} == {}
