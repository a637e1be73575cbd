"""`logging` and frameworks on a journal: nothing recurses, hangs, or ends the training."""

import decimal
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import eventlog
from eventlog.integrations import _guarded
from eventlog.integrations.logging_handler import NESTED_MAX, JournalHandler


@pytest.fixture
def logger():
    return logging.Logger("tests.guarded", logging.INFO)  # of its own: pytest listens to all others


def texts(run):
    return [r.fields["text"] for r in eventlog.scan(run.journal_path) if r.event == "log"]


class Chatty:
    """A value whose `__repr__` logs, perhaps itself."""

    def __init__(self, logger, what):
        self.logger, self.what = logger, what

    def __repr__(self):
        self.logger.warning("within: %s", self if self.what is None else self.what)
        return "chatty"


def test_a_line_logged_by_a_values_repr_comes_after_the_line_with_the_value(tmp_path, logger):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        logger.addHandler(JournalHandler(run))
        logger.info("a %r", Chatty(logger, "words"))

    assert texts(run) == ["a chatty", "within: words"]


def test_a_value_whose_repr_logs_itself_does_not_recurse_for_ever(tmp_path, logger):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        logger.addHandler(JournalHandler(run))
        logger.info("a %r", Chatty(logger, None))
        logger.info("and on")

    lines = texts(run)
    assert (lines[0], lines[-1]) == ("a chatty", "and on")
    assert len(lines) <= 2 + NESTED_MAX


def test_a_value_of_the_journal_whose_repr_logs_neither_recurses_nor_hangs(tmp_path, logger):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        logger.addHandler(JournalHandler(run))
        run.log("thing", value=Chatty(logger, "words"))
        run.log_iter(0, 1.5, 50.0)

    assert [r.event for r in eventlog.scan(run.journal_path)].count("iter") == 1
    assert run.errors == 0


def test_a_thread_that_formats_a_line_does_not_block_another_that_it_waits_for(tmp_path, logger):
    other = threading.Thread(target=lambda: logger.info("the other's"), daemon=True)

    class Waits:
        def __str__(self):
            other.start()
            other.join(5)
            return "waited" if not other.is_alive() else "hung"

    with eventlog.open_run(tmp_path, save_interval=0) as run:
        logger.addHandler(JournalHandler(run))
        logger.info("%s", Waits())

    assert texts(run) == ["the other's", "waited"]


@pytest.mark.parametrize("stderr", ["closed", "none", "raises"])
def test_a_line_that_cannot_be_formatted_does_not_raise_whatever_stderr_is(
    tmp_path, logger, stderr
):
    script = f"""
import io, logging, sys, eventlog
from eventlog.integrations.logging_handler import JournalHandler
class Raises(io.StringIO):
    def write(self, text): raise RuntimeError(text)
run = eventlog.open_run({str(tmp_path)!r}, save_interval=0)
logger = logging.getLogger("x"); logger.propagate = False; logger.setLevel(logging.INFO)
logger.addHandler(JournalHandler(run))
if {stderr!r} == "closed": sys.stderr.close()
else: sys.stderr = None if {stderr!r} == "none" else Raises()
class Bad:
    def __str__(self): raise ValueError("bad")
logger.info("%d", "no number"); logger.info("%s", Bad()); logger.info("good")
run.close()
print("done", flush=True)
"""

    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=60)

    assert done.stdout == b"done\n"
    (journal,) = tmp_path.glob("*.jsonl")
    lines = [r.fields["text"] for r in eventlog.scan(journal) if r.event == "log"]
    assert lines == ["good"]


def test_the_journals_own_messages_are_not_logged_into_it(tmp_path):
    own = logging.getLogger("eventlog.write.journal")
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        own.addHandler(handler := JournalHandler(run))
        own.error("the disk refuses")
        own.removeHandler(handler)

    assert texts(run) == []


# ---- frameworks


def test_a_callback_that_fails_is_reported_once_and_the_training_goes_on(capfd):
    @_guarded.guarded
    def on_log(step):
        raise RuntimeError(f"at step {step}\nand more")

    assert [on_log(step) for step in range(1_000)] == [None] * 1_000

    err = capfd.readouterr().err
    assert err.count("the training goes on: RuntimeError: at step 0") == 1
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exceptions_that_end_a_program_pass_through_a_callback(error):
    @_guarded.guarded
    def on_log():
        raise error

    with pytest.raises(error):
        on_log()


def test_an_error_of_a_frameworks_c_code_is_not_mistaken_for_an_interruption():
    file = Path(eventlog.__file__).with_name("integrations") / "framework.py"
    code = compile("decimal.Decimal('x')", str(file), "exec")
    with pytest.raises(decimal.InvalidOperation) as caught:
        exec(code, {"decimal": decimal})

    assert not eventlog.is_interruption(caught.value)


def test_variables_of_wandb_do_not_turn_off_the_run_of_a_callback(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    with eventlog.init(dir=tmp_path, save_interval=0, **_guarded.defaults()) as run:
        assert not run.disabled

    monkeypatch.setenv("EVENTLOG_MODE", "disabled")
    with eventlog.init(dir=tmp_path, save_interval=0, **_guarded.defaults()) as run:
        assert run.disabled
