"""The server of `runs serve`: its answers, who gets them, and hostile requests."""

import contextlib
import os
import socket
import struct
import time

import numpy as np
import orjson
import pytest

import eventlog
from tests.strategies import SESSIONS, line
from tests.tools.conftest import BROKEN, READABLE, make_run
from tests.tools.dashboard.pages import SCRIPT, serving, serving_here, until
from tools.cli import main
from tools.core.rows import GUIDE_NAMES
from tools.live.folders import Folders


def unpack(body):
    """The runs of an answer to /api/curves, each series with its arrays."""
    (size,) = struct.unpack_from("<I", body)
    runs = orjson.loads(body[4 : 4 + size])["runs"]
    at = 4 + size
    for run in runs:
        for series in run.get("series", ()):
            for name, n in [("x", "n"), ("y", "n"), *[(m, "means") for m in ("mx", "m", "c")]]:
                series[name] = np.frombuffer(body, "<f8", series[n], at)
                at += 8 * series[n]
    assert at == len(body)
    return runs


def curves(server, id, keys="loss", **options):
    """The series of one run by key, once its journal has been read."""

    def read():
        query = "".join(f"&{k}={v}" for k, v in options.items())
        _, _, body = server.get(f"/api/curves?runs={id}&keys={keys}{query}")
        (run,) = unpack(body)
        return None if run["reading"] is not None or not any(run["rows"].values()) else run

    return until(read)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("served") / "out"
    out.mkdir()
    make_run(out, "low", [5.0, 3.0], learning_rate=1e-3, n_layer=6)
    make_run(out, "high", [5.0], learning_rate=6e-4, n_layer=12)
    return out


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder) as server:
        until(lambda: server.json("/api/runs")["complete"])
        yield server


# ---- answers


def test_the_table_has_the_rows_of_runs_ls(server, folder, capsys):
    assert main(["ls", "--json", str(folder)]) == 0
    listed = {
        os.path.basename(r["path"]): r
        for r in map(orjson.loads, capsys.readouterr().out.splitlines())
    }

    shown = {os.path.basename(row["path"]): row for row in server.rows().values()}

    assert shown.keys() == listed.keys()
    for name, row in listed.items():
        left_out = {"age_s", "metadata", "nonfinite", *GUIDE_NAMES.values()}  # of `--json` alone
        fields = {k: v for k, v in row.items() if k not in left_out}
        assert {k: shown[name][k] for k in fields} == fields


def test_every_file_is_in_the_table_and_broken_ones_say_why(zoo):
    with serving_here(zoo) as server:
        rows = until(lambda: len(server.rows()) == len(READABLE | BROKEN) and server.rows())

    by_status = {name.split(".")[0]: row["status"] for name, row in rows.items()}
    assert {n for n, status in by_status.items() if status == "unreadable"} == BROKEN
    assert by_status["live"] == "running"
    assert by_status["crashed"] == "interrupted"
    assert all(row["error"] for row in rows.values() if row["status"] == "unreadable")


def test_a_curve_has_every_value_of_the_run(server):
    row = server.rows()["low.jsonl"]

    (series,) = curves(server, row["id"])["series"]

    assert series["x"].tolist() == [0, 1]
    assert series["y"].tolist() == [6.0, 4.0]


def test_only_rows_that_the_page_does_not_have_are_sent(tmp_path):
    with serving_here(tmp_path) as server, eventlog.open_run(tmp_path, save_interval=0) as run:
        for i in range(10):
            run.log_iter(i, 5.0 - i / 10, 50.0)
        (row,) = until(server.rows).values()
        known = curves(server, row["id"])
        run.log_iter(10, 1.5, 50.0)
        had = "~".join(map(str, [row["id"], known["generation"], *known["rows"].values()]))
        (news,) = until(lambda: [s for s in curves(server, had)["series"] if s["n"]])

    assert (news["tail"], news["x"].tolist(), news["y"].tolist()) == (True, [10.0], [1.5])


def test_the_series_of_a_run_have_the_steps_of_runs_show(tmp_path):
    with serving_here(tmp_path) as server, eventlog.open_run(tmp_path, save_interval=0) as run:
        for i in range(10):
            run.log_iter(i, 5.0 - i / 10, 50.0, grad_norm=1.0 if i < 7 else None)
        (row,) = until(server.rows).values()
        shown = until(lambda: server.json(f"/api/run?id={row['id']}")["series"])
        known = eventlog.load_run(run.journal_path).series()

    assert {one["name"]: one["step"] for one in shown} == {
        name: one.last_step for name, one in known.items()
    }
    assert {"loss": 9, "grad_norm": 6}.items() <= {o["name"]: o["step"] for o in shown}.items()


@pytest.fixture
def metrics(tmp_path):
    """A run of metrics that goes on: sparse, with NaN, text, and names of all sorts."""
    with eventlog.open_run(tmp_path, run_name="m", save_interval=0) as run:
        for i in range(20):
            loss = 1 / (i + 1) if i < 18 else float("nan")
            run.log("metrics", step=i, **{"train/loss": loss, "phase": "warmup"})
        run.log("metrics", step=20, **{"val/acc": 0.5, "a\nb": 1.0, "": 2.0, "c\\n": 3.0})
        yield run


def test_every_series_of_a_run_of_metrics_is_sent_under_its_own_name(metrics, tmp_path):
    keys = "train/loss%0Aval/acc%0Aa%5Cnb%0A%5Ce%0Ac%5C%5Cn%0Aphase%0Aloss"
    with serving_here(tmp_path) as server:
        (row,) = until(server.rows).values()
        answer = curves(server, row["id"], keys)

    series = {one["key"]: one["y"].tolist() for one in answer["series"]}
    assert answer["usual"] == ["train/loss"]
    assert set(answer["others"]) == {"val/acc", "a\nb", "", "c\\n"}
    assert series.pop("train/loss")[:18] == [1 / (i + 1) for i in range(18)]
    assert series == {"val/acc": [0.5], "a\nb": [1.0], "": [2.0], "c\\n": [3.0], "phase": []}
    assert answer["series"][0]["nonfinite"] == [[18.0, "nan"]]
    assert row["ends_nonfinite"] == ["train/loss"]


def test_only_values_of_metrics_that_the_page_does_not_have_are_sent(metrics, tmp_path):
    with serving_here(tmp_path) as server:
        (row,) = until(server.rows).values()
        known = curves(server, row["id"], "val/acc")
        metrics.log("metrics", step=21, **{"val/acc": 0.75})
        had = "~".join(map(str, [row["id"], known["generation"], *known["rows"].values()]))
        (news,) = until(lambda: [s for s in curves(server, had, "val/acc")["series"] if s["n"]])

    assert (news["tail"], news["x"].tolist(), news["y"].tolist()) == (True, [21.0], [0.75])


def test_the_series_of_a_run_are_listed_with_their_latest_values_and_text(metrics, tmp_path):
    with serving_here(tmp_path) as server:
        (row,) = until(server.rows).values()
        answer = until(lambda: (a := server.json(f"/api/run?id={row['id']}"))["n_series"] and a)
        status, _, body = server.get(f"/api/csv?runs={row['id']}&keys=train/loss%0Aval/acc")

    series = {one["name"]: one for one in answer["series"]}
    assert (series["phase"]["last"], series["train/loss"]["last"]) == ("warmup", "nan")
    assert (series["train/loss"]["min"], series["train/loss"]["n_nonfinite"]) == (1 / 18, 2)
    lines = body.decode().splitlines()
    assert (status, lines[0]) == (200, "run,iter,seconds,train/loss,val/acc")
    assert [line.split(",")[3:] for line in lines[18:]] == [
        [repr(1 / 18), ""], ["nan", ""], ["nan", ""], ["", "0.5"],
    ]  # fmt: skip


def test_a_filter_selects_as_runs_ls_does_and_a_wrong_one_is_an_error(server):
    ids = {name: row["id"] for name, row in server.rows().items()}

    assert server.json("/api/where?q=n_layer%3D6") == {
        "ids": [ids["low.jsonl"]],
        "left": 0,
    }
    assert "unknown field 'nothing'" in server.json("/api/where?q=nothing%3D6")["error"]


def test_csv_has_every_row_in_view_and_no_cell_is_a_formula(tmp_path):
    with eventlog.open_run(tmp_path, run_name="=cmd()", save_interval=0) as run:
        for i in range(25_000):
            run.log_iter(i, i / 7, 50.0)
    with serving_here(tmp_path) as server:
        (row,) = until(server.rows).values()
        curves(server, row["id"])
        _, headers, whole = server.get(f"/api/csv?runs={row['id']}&keys=loss")
        _, _, part = server.get(f"/api/csv?runs={row['id']}&keys=loss&from=10&to=12")

    lines = whole.decode().splitlines()
    assert lines[0] == "run,iter,seconds,loss"
    assert len(lines) == 25_001
    assert lines[-1].split(",")[1::2] == ["24999", repr(24_999 / 7)]
    assert all(text.startswith("'=cmd()") for text in lines[1:])
    assert [text.split(",")[1] for text in part.decode().splitlines()[1:]] == ["10", "11", "12"]
    assert headers["content-disposition"].startswith("attachment")


def test_a_spike_of_one_iteration_is_drawn_at_every_zoom(tmp_path):
    n, spike = 60_000, 23_457
    lines = [line(0, event="open", run_id="r", run_name="run")]
    lines += [line(i + 1, iter=i, loss=99.0 if i == spike else 2.0 + i % 7) for i in range(n)]
    (tmp_path / "run.jsonl").write_bytes(b"".join(lines))
    with serving_here(tmp_path) as server:
        (row,) = until(server.rows).values()
        for reach in (n, 10_000, 2_000, 300):
            view = {"from": max(0, spike - reach), "to": spike + reach, "px": 100}
            (series,) = curves(server, row["id"], **view)["series"]
            assert len(series["x"]) <= 4 * 100
            assert series["x"][series["y"] == 99.0].tolist() == [spike]


# ---- authentication


def test_requests_for_other_host_names_are_refused(server):
    port = server.port
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", ""):
        assert server.get("/api/runs", host=host)[0] == 421, host
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert server.get("/api/runs", host=host)[0] == 200, host


def test_requests_from_other_sites_are_refused(server):
    assert server.get("/api/runs", sec_fetch_site="cross-site")[0] == 403
    assert server.get("/api/live", sec_fetch_site="same-site")[0] == 403
    assert server.get("/", sec_fetch_site="cross-site")[0] == 200  # a link is fine


@pytest.mark.parametrize("path", ["/", "/main.js", "/api/runs", "/nothing", "/api/run?id=x"])
def test_every_answer_has_the_security_headers(server, path):
    _, headers, _ = server.get(path)

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_methods_other_than_get_and_head_are_refused(server):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"{method} /api/runs HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 405")


def test_a_server_on_other_addresses_requires_its_token(folder):
    with serving(folder, "--host", "0.0.0.0") as server:
        token = server.address.partition("?token=")[2]
        assert len(token) >= 20
        assert server.get("/")[0] == 401
        assert server.get("/api/runs?token=" + token)[0] == 401  # of the page alone, once
        assert server.get("/?token=wrong")[0] == 401
        status, headers, _ = server.get(f"/?token={token}")
        cookie = headers["set-cookie"]
        assert (status, headers["location"]) == (303, "/")
        assert "HttpOnly" in cookie
        assert server.get("/api/runs", cookie=cookie.partition(";")[0])[0] == 200
        assert server.get("/api/runs", authorization=f"Bearer {token}")[0] == 200
        assert server.get("/", authorization=f"Bearer {token}", host="evil.example")[0] == 421


def test_an_empty_token_is_refused(folder):
    with serving(folder, "--host", "0.0.0.0", "--token", "") as server:
        assert server.get("/api/runs")[0] == 401


def test_by_default_only_the_loopback_address_is_listened_on(server):
    with contextlib.closing(socket.socket()) as other:
        assert other.connect_ex(("127.0.0.2", server.port)) != 0  # it would listen there, too


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such/folder"], "no/such/folder"),
        (["--port", "99999"], "cannot listen on 127.0.0.1 port 99999"),
        (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1 port"),
    ],
)
def test_an_error_at_the_start_is_one_line(arguments, message, capsys):
    assert main(["serve", *arguments]) in (1, 2)

    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


# ---- hostile input


PATHS = [
    "/../../etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
    "/theme.css/../../serve.py", "/..\\..\\etc\\passwd", "/main.js%00.css", "/static/../main.js",
    "/api/run?id=../../../etc/passwd", "/api/run?id=%2Fetc%2Fpasswd",
    "/api/csv?runs=../x&keys=loss",
    "/api/curves?runs=../../etc/passwd~1~2~3~4&keys=../x", "/api/live/../../etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_outside_the_folders(server, path):
    status, _, body = server.get(path)

    assert status in (200, 404)
    assert b"root:" not in body
    assert b"def " not in body


def test_a_symlink_out_of_the_folders_is_not_followed(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    secret, other = (make_run(tmp_path, name, [5.0]) for name in ("secret", "other"))
    (out / "link.jsonl").symlink_to(secret)
    (out / "other.json").symlink_to(other.with_suffix(".json"))
    make_run(out, "mine", [5.0])
    (out / "inside.jsonl").symlink_to(out / "mine.jsonl")
    with serving_here(out) as server:
        rows = until(lambda: len(server.rows()) == 3 and server.rows())
        link = rows["link.jsonl"]["id"]
        for _ in range(20):  # a requested run is read in the background
            body = server.get(f"/api/curves?runs={link}&keys=loss")[2]
            time.sleep(0.05)
        states = {name: (row["status"], row["error"]) for name, row in server.rows().items()}

    outside = ("unreadable", "a link that leads out of the folders that are served")
    assert states["link.jsonl"] == outside
    assert states["other.json"] == outside
    assert states["mine.jsonl"][0] == "completed"  # once, though a link leads to it
    assert unpack(body) == [{"id": link, "gone": True}]


def test_a_live_run_that_becomes_a_symlink_out_of_the_folders_is_not_shown(tmp_path):
    out = tmp_path / "out"
    secret = make_run(tmp_path, "secret", [5.0])
    with eventlog.open_run(out, run_name="live", save_interval=0) as run, serving_here(out) as it:
        run.log_iter(0, 3.0, 50.0)
        until(lambda: [row for row in it.rows().values() if row["status"] == "running"])
        run.journal_path.rename(tmp_path / "moved")
        run.journal_path.symlink_to(secret)
        (row,) = until(lambda: [r for r in it.rows().values() if r["status"] == "unreadable"])

    assert "leads out of the folders" in row["error"]
    assert row["best_val_loss"] is None


def test_undecodable_names_pipes_and_folders_leave_the_other_runs_readable(tmp_path):
    make_run(tmp_path, "good", [5.0])
    os.rename(make_run(tmp_path, "bad"), os.fsencode(tmp_path) + b"/bad\xff.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()

    with serving_here(tmp_path) as server:
        rows = until(lambda: len(server.rows()) >= 3 and server.rows())
        id = rows["bad?.jsonl"]["id"]
        found = curves(server, id)
        table = server.get(f"/api/csv?runs={id}&keys=loss")[2]

    assert rows["good.jsonl"]["status"] == "completed"
    assert len(found["series"]) == 1
    assert table.count(b"\n") == 3


def test_the_size_of_an_answer_is_limited(tmp_path):
    with eventlog.open_run(tmp_path, run_name="it", save_interval=0, durability="never") as run:
        for i in range(2_000):
            run.log_iter(i, float(i % 7), 50.0, **{f"f{k}": float(i) for k in range(100)})
    with serving_here(tmp_path) as server:
        (row,) = until(lambda: server.rows().values())
        curves(server, row["id"])
        keys = "%0A".join(f"f{k}" for k in range(100))
        path = f"/api/curves?runs={','.join([row['id']] * 64)}&keys={keys}&px=4000"
        size_bytes = len(server.get(path)[2])

    assert size_bytes < 100e6  # 205 MB if each had its 2,000 rows


NONSENSE = [
    "/api/curves?runs=x", "/api/curves?runs=&keys=", "/api/curves?px=1e99&from=nan&to=inf&x=zzz",
    "/api/curves?runs=ID~a~b~c~d&keys=loss", "/api/curves?runs=ID~1~2&keys=loss",
    "/api/curves?runs=ID&keys=loss&from=9e300&to=-9e300",
    "/api/curves?runs=ID&keys=loss&log=1&from=-5&to=-1",
    "/api/curves?runs=ID&keys=loss&from=-1e308&to=1e308", "/api/curves?runs=ID&keys=eval/&x=tokens",
    "/api/curves?runs=ID&keys=system/loss%0Aloss&superseded=1&px=-4",
    "/api/csv?runs=ID&keys=nothing",
    "/api/csv?runs=ID&keys=loss&from=5&to=1", "/api/runs?since=-1", "/api/runs?since=9" + "9" * 50,
    "/api/runs?since=x", "/api/where?q=" + "(" * 400, "/api/where", "/api/where?q=%00%ff",
    "/api/curves?runs=" + "ID,ID," * 100 + "&keys=loss",
    "/api/study", "/api/study?by=%00&of=" + "[" * 400, "/api/study?by=config.&of=1e999&metric=x",
    "/api/study?by=tags&of=%5B%5D", "/api/study?by=" + "x." * 1000 + "&of=null",
]  # fmt: skip


@pytest.mark.parametrize("path", NONSENSE)
def test_malformed_parameters_are_answered_and_break_nothing(server, path):
    id = server.rows()["low.jsonl"]["id"]
    curves(server, id)

    status, _, body = server.get(path.replace("ID", id))

    assert status == 200, body
    assert server.process.poll() is None


def test_names_and_settings_with_scripts_are_sent_as_they_are(tmp_path):
    config = {SCRIPT: SCRIPT, "deep": {"a": [{"b": SCRIPT}]}}
    with eventlog.open_run(tmp_path, run_name=SCRIPT, config=config, save_interval=0) as run:
        run.log_iter(0, 1.0)
        run.log("note", text=SCRIPT)
    with serving_here(tmp_path) as server:
        (row,) = until(server.rows).values()
        _, headers, _ = server.get(f"/api/run?id={row['id']}")

    assert row["run"].startswith(SCRIPT.replace("/", "_"))
    assert row["config"][SCRIPT] == SCRIPT
    assert headers["content-type"] == "application/json"


def test_a_config_of_60_mb_is_cut_and_does_not_fill_the_memory(tmp_path):
    make_run(tmp_path, "plain", [5.0])
    big = {f"key{i}": "x" * 1_000 for i in range(60_000)}
    document = orjson.loads((tmp_path / "plain.json").read_bytes()) | {"config": big}
    document["run_name"] = "big"
    (tmp_path / "big.json").write_bytes(orjson.dumps(document))
    with serving_here(tmp_path) as server:
        rows = until(lambda: len(server.rows()) == 2 and server.rows(), 60)
        assert len(rows["big.json"]["config"]) == 500
        assert len(server.get("/api/runs")[2]) < 2_000_000
        assert rows["plain.jsonl"]["status"] == "completed"


def test_a_config_of_100_mb_is_refused_by_name(tmp_path):
    head = b'{\n  "run_name": "big",\n  "config": {"x": "'
    tail = b'"},\n  "training_iterations": []\n}'
    with (tmp_path / "big.json").open("wb") as file:
        file.write(head)
        for _ in range(100):
            file.write(b"y" * 1_000_000)
        file.write(tail)
    with serving_here(tmp_path) as server:
        (row,) = until(server.rows).values()

    assert row["status"] == "unreadable"
    assert "not a run" in row["error"]


def test_a_journal_that_is_rewritten_all_the_time_breaks_nothing(tmp_path):
    path = tmp_path / "run.jsonl"
    whole = [line(0, event="open", run_id="r", run_name="run")]
    whole += [line(i + 1, iter=i, loss=float(i)) for i in range(3_000)]
    path.write_bytes(b"".join(whole))
    other = line(0, SESSIONS[1], "open", run_id="q", run_name="other") + b"".join(
        line(i + 1, SESSIONS[1], iter=i, loss=1.0) for i in range(20)
    )
    with serving_here(tmp_path) as server:
        (row,) = until(server.rows).values()
        curves(server, row["id"])
        for k in range(40):
            content = [b"".join(whole[: 50 * k]), other, b"", b"\0" * 500, whole[0] + whole[5]][
                k % 5
            ]
            path.write_bytes(content)
            assert server.get(f"/api/curves?runs={row['id']}&keys=loss")[0] == 200
            time.sleep(0.02)
        path.write_bytes(other)
        until(lambda: server.rows()["run.jsonl"]["run"] == "other")
        until(lambda: curves(server, row["id"])["rows"]["iter"] == 20)


def test_200_clients_get_events_and_leave_no_open_files(server):
    files = server.n_files

    listening = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    for connection in listening:
        connection.sendall(b"GET /api/live?since=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.settimeout(20)
    for connection in listening:
        received = b""
        while b"event: runs" not in received:
            part = connection.recv(65536)
            assert part
            received += part
    assert server.get("/api/runs")[0] == 200
    for connection in listening:
        connection.close()

    until(lambda: server.n_files <= files + 5)


def test_clients_that_read_nothing_cost_limited_memory(folder):
    """They request much and read none of it: only the kernel buffers data for them."""
    with eventlog.open_run(folder.parent / "slow", save_interval=0) as run:
        for i in range(10_000):
            run.log_iter(i, 1.0, 50.0)
        with serving(folder.parent / "slow") as server:
            (row,) = until(server.rows).values()
            curves(server, row["id"])
            begin = server.memory_bytes
            stuck = []
            for _ in range(20):
                connection = socket.socket()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                connection.connect(("127.0.0.1", server.port))
                ask = f"GET /api/csv?runs={row['id']}&keys=loss%0Atime_ms HTTP/1.1\r\n"
                connection.sendall((ask + "Host: localhost\r\n\r\n").encode())
                stuck.append(connection)
            for i in range(10_000, 10_200):
                run.log_iter(i, 1.0, 50.0)
            until(lambda: curves(server, row["id"])["rows"]["iter"] == 10_200)
            grown = server.memory_bytes - begin
            for connection in stuck:
                connection.close()
            until(lambda: server.n_files < 40)

    assert grown < 100e6


def test_a_head_request_for_events_ends(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"HEAD /api/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        answer = b""
        while part := connection.recv(65536):
            answer += part

    assert answer.startswith(b"HTTP/1.1 200")


def test_a_run_has_the_same_id_from_whichever_folder_the_server_is_started(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    make_run(tmp_path / "out", "alpha")
    ids = []

    for start, name in ((tmp_path, "out"), (tmp_path / "out", "."), ("/", tmp_path / "out")):
        monkeypatch.chdir(start)
        folders = Folders([str(name)])
        folders.refresh()
        ids += [row["id"] for row in folders.rows()]

    assert len(ids) == 3
    assert len({*ids}) == 1
