"""`runs serve --edit`: notes, tags and the layout, written by the page and by nobody else."""

import http.client
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

import eventlog
from tests.tools.conftest import make_run
from tests.tools.dashboard.pages import serving, until


@pytest.fixture
def out(tmp_path):
    make_run(tmp_path, "alpha", [5.0, 4.0])
    return tmp_path


@pytest.fixture
def editable(out):
    with serving(out, "--edit") as server:
        yield server


def token_of(server):
    return parse_qs(urlsplit(server.address).query)["token"][0]


def send(server, path, fields, **headers):
    """Status and text of the answer to a POST, by default as the page sends it."""
    here = f"http://127.0.0.1:{server.port}"
    sent = {
        "content-type": "application/json", "authorization": f"Bearer {token_of(server)}",
        "origin": here, "sec-fetch-site": "same-origin",
    } | headers  # fmt: skip
    body = fields if isinstance(fields, bytes) else orjson.dumps(fields)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        sent = {name: value for name, value in sent.items() if value is not None}
        connection.request(headers.pop("method", "POST"), path, body, sent)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def run_id(server):
    runs = server.json("/api/runs", authorization=f"Bearer {token_of(server)}")["runs"]
    return runs[0]["id"] if runs else None


def journal_of(out):
    (journal,) = out.glob("*.jsonl")
    return eventlog.load_run(journal).journal


def test_a_note_and_a_tag_of_the_page_are_events_beside_an_unchanged_journal(editable, out):
    (journal,) = out.glob("*.jsonl")
    before = journal.read_bytes()
    id = until(lambda: run_id(editable))

    noted = send(editable, "/api/note", {"id": id, "text": "lr too high\nsee \x1b[31m#12"})
    tagged = send(editable, "/api/tag", {"id": id, "tags": ["+good", "other"]})
    untagged = send(editable, "/api/tag", {"id": id, "tags": ["-other"]})

    assert [status for status, _ in (noted, tagged, untagged)] == [200, 200, 200]
    assert journal.read_bytes() == before
    of_run = journal_of(out)
    assert [note["text"] for note in of_run["notes"]] == ["lr too high\nsee \x1b[31m#12"]
    assert of_run["tags"] == ["good"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 403),
        ({"content-type": "application/x-www-form-urlencoded"}, 403),
        ({"authorization": None}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"host": "evil.example"}, 421),
    ],
)
def test_an_edit_that_is_not_from_the_page_is_refused(editable, out, headers, status):
    id = until(lambda: run_id(editable))

    for path, fields in (
        ("/api/note", {"id": id, "text": "x"}),
        ("/api/tag", {"id": id, "tags": ["x"]}),
        ("/api/layout/keep", {"layout": {}}),
    ):
        assert send(editable, path, fields, **headers)[0] == status

    assert journal_of(out)["notes"] == journal_of(out)["tags"] == []
    assert not (out / "page.layout").exists()


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/api/note", {"id": "ffff", "text": "x"}, 404),
        ("/api/note", {"id": "../../etc/passwd", "text": "x"}, 404),
        ("/api/note", {"text": "x"}, 400),
        ("/api/note", {"id": 1, "text": "x"}, 400),
        ("/api/note", b"{", 400),
        ("/api/note", b"[]", 400),
        ("/api/note", b"x" * 200_000, 413),
        ("/api/layout/keep", {"layout": []}, 400),
        ("/api/layout/keep", b'{"layout":' + b'{"a":' * 300 + b"1" + b"}" * 301, 400),
        ("/api/layout/keep", {"layout": {"pin": ["x" * 60_000]}}, 413),
    ],
)
def test_a_malformed_edit_changes_nothing_and_says_why(editable, out, path, fields, status):
    until(lambda: run_id(editable))

    answer = send(editable, path, fields)

    assert answer[0] == status
    assert answer[1].strip()
    assert journal_of(out)["notes"] == []
    assert not (out / "page.layout").exists()


@pytest.mark.parametrize(
    ("path", "fields"),
    [("/api/note", {"text": " "}), ("/api/tag", {"tags": ["two words"]}),
     ("/api/tag", {"tags": ["+a", "-a"]})],
)  # fmt: skip
def test_a_note_or_tag_that_is_none_is_refused_with_the_reason(editable, out, path, fields):
    id = until(lambda: run_id(editable))

    status, text = send(editable, path, {"id": id} | fields)

    assert status == 409
    assert "must" in text or "cannot" in text
    assert journal_of(out)["notes"] == journal_of(out)["tags"] == []


@pytest.mark.parametrize("flags", [[], ["--token", "secret"]])
def test_without_edit_the_server_writes_nothing(out, flags):
    with serving(out, *flags) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        headers = {"content-type": "application/json", "authorization": "Bearer secret"}
        connection.request("POST", "/api/layout/keep", b'{"layout":{}}', headers)
        answer = connection.getresponse()
        assert answer.status == 405
        answer.read()
        connection.close()

    assert not (out / "page.layout").exists()


def test_a_person_notes_tags_and_keeps_a_layout_in_the_browser(open_page, editable, out):
    id = until(lambda: run_id(editable))
    page = open_page(editable).page  # the address has the token: it becomes a cookie
    page.goto(f"http://127.0.0.1:{editable.port}/#tab=run&run={id}")
    page.fill("[aria-label='Add a note']", "the best <b>one</b>")
    page.press("[aria-label='Add a note']", "Enter")
    page.wait_for_selector(".facts >> text=the best <b>one</b>")
    page.fill("[aria-label='Add a tag: one word']", "two words")
    page.click("[aria-label='Add the tag']")
    page.wait_for_selector("text=Not saved: '+two words': a tag must be one word")
    page.fill("[aria-label='Add a tag: one word']", "good")
    page.click("[aria-label='Add the tag']")
    page.wait_for_selector("[aria-label='Remove the tag good']")

    page.hover(".panel[data-key=loss]")
    page.click(".panel[data-key=loss] button[aria-label^=Settings]")
    page.click(".panel-menu button:has-text('Pin')")
    page.click("text=Keep this layout")
    until(lambda: (out / "page.layout").exists())

    page.goto(f"http://127.0.0.1:{editable.port}/#tab=run&run={id}")
    page.fill("[aria-label='Another name']", "the best")
    page.click("[aria-label='Rename the run']")
    page.wait_for_selector("h1 >> text=the best")
    assert journal_of(out)["tags"] == ["good"]
    page.goto("about:blank")
    page.goto(f"http://127.0.0.1:{editable.port}/")
    page.wait_for_selector(".section-name >> text=Pinned")


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b'{"pin": {"a": 1}}', b"\xff" * 90_000])
def test_a_damaged_layout_file_is_the_usual_layout(open_page, out, text):
    (out / "page.layout").write_bytes(text)

    with serving(out) as server:
        opened = open_page(server)

        opened.page.wait_for_selector(".panel[data-key=loss][data-points]")
        assert (out / "page.layout").read_bytes() == text
