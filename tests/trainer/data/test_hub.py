"""Data sets by name, from a local server with the API of the hub."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pyarrow
import pytest
from pyarrow import parquet

from trainer import prepare
from trainer.data import hub
from trainer.data.dataset import Dataset

REPO, REVISION, FOLDERS = hub.SETS["fineweb-edu"]
DOCUMENTS = [f"page {i}: " + "text of the web " * 40 for i in range(60)]


class Hub(ThreadingHTTPServer):
    """`files`: path in the repository -> bytes; `stall_at`: a file that is sent only in part."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.asked, self.stall_at = files, [], None
        self.stalled, self.ended = threading.Event(), threading.Event()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.command, self.path))
        path = unquote(self.path)
        if tree := re.match(rf"/api/datasets/{REPO}/tree/{REVISION}/([^?]*)", path):
            return self.answer(json.dumps(self.listed(tree[1])).encode(), {})
        if path.startswith(f"/api/datasets/{REPO}/revision/{REVISION}"):
            return self.answer(json.dumps({"id": REPO, "sha": REVISION}).encode(), {})
        name = path.removeprefix(f"/datasets/{REPO}/resolve/{REVISION}/").partition("?")[0]
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return None
        identity = hashlib.sha256(content).hexdigest()
        return self.answer(content, {"ETag": f'"{identity}"', "X-Repo-Commit": REVISION}, name)

    do_HEAD = do_GET

    def listed(self, folder):
        return [
            {"type": "file", "oid": "0" * 40, "size": len(content), "path": path}
            for path, content in self.server.files.items()
            if path.startswith(folder)
        ]

    def answer(self, content, headers, name=None):
        self.send_response(200)
        for key, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        if name is not None and name == self.server.stall_at:
            self.wfile.write(content[: len(content) // 2])
            self.server.stalled.set()
            # The client is killed while it waits for the rest.
            self.server.ended.wait(60)
            self.close_connection = True
            return
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    files = {}
    for number in range(3):
        path = tmp_path / "made.parquet"
        parquet.write_table(
            pyarrow.table({"text": DOCUMENTS[number * 20 : number * 20 + 20]}), path
        )
        files[f"sample/10BT/{number:03}_00000.parquet"] = path.read_bytes()
    files["sample/10BT/README.md"] = b"not data"
    files["sample/100BT/000_00000.parquet"] = b"of another size"
    with Hub(files) as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        yield hub
        hub.ended.set()
        hub.shutdown()
        thread.join()


def command(tmp_path, server, *more, **env):
    """`prepare.py --input=fineweb-edu`, in another process."""
    return subprocess.Popen(
        [
            sys.executable, "-W", "error", "-m", "trainer.prepare", f"--data_dir={tmp_path}/data",
            "--input=fineweb-edu", "--tokenizer=bytes", *more,
        ],
        env=os.environ
        | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": f"{tmp_path}/hf",
            "NO_PROXY": "127.0.0.1",
        }
        | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def ended(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def gets(server):
    return [p.rpartition("/")[2] for verb, p in server.asked if verb == "GET" and "/resolve/" in p]


def test_a_data_set_is_downloaded_by_name_and_reused_without_a_network(tmp_path, server):
    status, out, err = ended(command(tmp_path, server))
    assert status == 0, err
    server.asked.clear()

    again = ended(command(tmp_path, server))

    (folder,) = (tmp_path / "data").glob("fineweb-edu-10BT-bytes-*")
    opened = Dataset.open(folder, block_size=8)
    text = bytes(id for id in opened.train.window(0, len(opened.train)).tolist() if id < 256)
    assert text.decode() == "".join(d for i, d in enumerate(DOCUMENTS, 1) if i % 10)
    assert again[:2] == (0, out)
    assert server.asked == []


def test_a_killed_download_keeps_the_complete_files(tmp_path, server):
    server.stall_at = "sample/10BT/001_00000.parquet"
    process = command(tmp_path, server)
    assert server.stalled.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.stall_at = None
    server.asked.clear()

    status, _, err = ended(command(tmp_path, server))

    assert status == 0, err
    assert gets(server) == ["001_00000.parquet", "002_00000.parquet"]


def test_without_a_network_one_line_suggests_local_files(tmp_path, server):
    status, out, err = ended(command(tmp_path, server, HF_HUB_OFFLINE="1"))

    assert (status, out) == (1, "")
    assert re.fullmatch(r"prepare\.py: hub:HuggingFaceFW/fineweb-edu@\w+/sample/10BT could not be "
                        r"downloaded \(.*\): go online .* --input=FOLDER\n", err)  # fmt: skip
    assert not [path for path in (tmp_path / "data").iterdir() if path.is_dir()]


def test_an_unreachable_hub_is_a_one_line_error(tmp_path, server):
    process = command(tmp_path, server, HF_ENDPOINT="http://127.0.0.1:9")

    status, _, err = ended(process)

    assert status == 1
    assert err.count("\n") == 1
    assert "could not be downloaded" in err


def test_a_missing_revision_is_a_one_line_error(tmp_path, server):
    server.files.clear()

    status, _, err = ended(command(tmp_path, server))

    assert status == 1
    assert err.endswith("/sample/10BT: no Parquet files found\n")


def test_every_name_is_pinned_to_a_commit():
    for _, revision, _ in hub.SETS.values():
        assert re.fullmatch("[0-9a-f]{40}", revision)


def test_an_unknown_size_lists_the_available_ones():
    assert hub.find("fineweb-edu") == hub.find("fineweb-edu:10BT")
    assert hub.find("fineweb:350BT").folder == "sample/350BT"
    assert hub.find("openwebtext").folder == "plain_text"
    assert hub.find("books/") is None
    with pytest.raises(ValueError, match="unknown size; available: fineweb:10BT, fineweb:100BT"):
        hub.find("fineweb:10")


def test_an_existing_folder_has_precedence_over_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fineweb").mkdir()
    (tmp_path / "fineweb" / "a.txt").write_text("my own")

    source = prepare.find_source("fineweb", "text", tmp_path / "data")

    assert source.open().files == ((tmp_path / "fineweb" / "a.txt").relative_to(tmp_path),)


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    with pytest.raises(ValueError, match="pip install huggingface_hub; or give its Parquet files"):
        hub.list_files(hub.find("fineweb"))
