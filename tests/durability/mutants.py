"""Mutation tests: small faults in a copy of eventlog, one at a time; the suite must find each.

python -m tests.durability.mutants          all: fault, file, the test that found it
python -m tests.durability.mutants segment  those whose name contains this word
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PATIENCE_S, WHOLE_PATIENCE_S = 300, 3000  # for a mutant, and for all tests without any


class Mutant(NamedTuple):
    """`old` in `file` becomes `new`; a test in one of `tests` has to fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


SCAN = ("eventlog/read/test_scanner.py",)
BATCH = ("eventlog/read/test_batch.py",)
FOLD = ("eventlog/fold/test_fold.py",)
METRICS = ("eventlog/fold/test_metrics.py",)
JOURNAL = ("eventlog/write/test_journal.py",)
BLOCKS = ("eventlog/test_blocks.py",)
SEGMENTS = ("eventlog/read/test_segments.py",)
ORPHANS = ("tools/core/test_orphans.py",)
MISSING = ("eventlog/read/test_missing.py",)
RECOVERY = ("eventlog/write/test_repair.py",)
STATES = ("durability/test_crash_states.py",)
NTH_CALL = ("durability/test_nth_call.py",)
FULL = ("durability/test_full_at_the_end.py",)
FULL_DISK = ("durability/test_full_disk.py",)
INIT = ("eventlog/tracker/test_init_never_ends_a_training.py",)
REENTRANCY = ("eventlog/write/test_reentrancy.py",)
RELOCATION = ("eventlog/write/test_relocation.py",)
ASIDES = ("eventlog/write/test_asides.py",)
EXIT = ("eventlog/tracker/test_exit_code.py",)
HANDLING = ("eventlog/tracker/test_handling.py",)
ENDING = ("eventlog/tracker/test_ending.py",)
BEGINNING = ("eventlog/tracker/test_beginning.py",)
VALUES = ("eventlog/tracker/test_hostile_values.py",)
COMPLETE = ("durability/test_complete_means_complete.py",)
MAIN = ("eventlog/cli/test_main.py",)
TAIL = ("eventlog/cli/test_tail.py",)
ANNOTATION = ("eventlog/tracker/test_annotation.py",)
SESSION = ("eventlog/tracker/test_session.py",)
LAST_ERROR = ("eventlog/tracker/test_last_error.py",)

MUTANTS = [
    Mutant(
        "no line feed after a short write",
        "write/line_writer.py",
        "        if n_bytes:\n            self._torn = True\n",
        "        if n_bytes:\n",
        STATES,
    ),
    Mutant(
        "records written during a sync count as durable",
        "write/appender.py",
        "self.durable_n = max(self.durable_n, goal.durable_n)",
        "self.durable_n = self.accepted_n",
        STATES,
    ),
    Mutant(
        "a failed sync is tried again on the same file",
        "write/appender.py",
        "moved = self._n_missed <= 1 + len(self._asides.folders) and self.to_segment()",
        "moved = True",
        JOURNAL,
    ),
    Mutant(
        "a segment begins without the records that are not durable",
        "write/appender.py",
        "            entries = [*self._unsynced, *entries]\n",
        "",
        JOURNAL,
    ),
    Mutant(
        "anything is dropped when memory is full",
        "write/waiting.py",
        "        queue = self.droppable\n        if not queue:",
        "        queue = self.required or self.droppable\n        if not queue:",
        JOURNAL,
    ),
    Mutant(
        "refused records are written in reverse order",
        "write/waiting.py",
        "            queue.append(entry)\n",
        "            queue.appendleft(entry)\n",
        NTH_CALL,
    ),
    Mutant(
        "a new journal's name is not durable",
        "write/journal.py",
        "            self._disk.sync_dir(appender.journal.parent)\n",
        "",
        STATES,
    ),
    Mutant(
        "a failed sync is not logged",
        "write/own_events.py",
        '            self.append("io_error", fields)\n',
        "",
        NTH_CALL,
    ),
    Mutant(
        "an urgent event waits for the interval",
        "write/journal.py",
        '        elif urgent and self._durability != "never":\n            self._thread.wake()\n',
        "",
        JOURNAL,
    ),
    Mutant(
        "the torn tail is cut before it is saved",
        "write/repair.py",
        "        _save(copy, tail, disk)\n        disk.truncate(fd, start)\n",
        "        disk.truncate(fd, start)\n        _save(copy, tail, disk)\n",
        STATES,
    ),
    Mutant(
        "a whole line without its line feed is cut",
        "write/repair.py",
        "if decode(tail) is not None",
        "if False",
        JOURNAL + STATES,
    ),
    Mutant(
        "whole records before a tail of zeros are cut",
        "write/repair.py",
        "    if whole:\n        keep",
        "    if False:\n        keep",
        JOURNAL,
    ),
    Mutant(
        "a second writer gets in",
        "disk.py",
        "                return False\n            if error.errno in (errno.ENOLCK",
        "                return True\n            if error.errno in (errno.ENOLCK",
        JOURNAL,
    ),
    Mutant(
        "renamed before it is durable",
        "disk.py",
        "            sync_file(fd, disk)\n            size_bytes",
        "            pass\n            size_bytes",
        STATES,
    ),
    Mutant(
        "a rename that is not made durable",
        "disk.py",
        "    disk.sync_dir(path.parent)\n    return size_bytes",
        "    return size_bytes",
        STATES,
    ),
    Mutant(
        "the run JSON outlives its journal",
        "fold/compaction.py",
        "    _sync_journal(folding.reader.files, disk)\n",
        "",
        STATES,
    ),
    Mutant(
        "a checksum is not compared",
        "format/record.py",
        "line[-TRAILER_BYTES:] != b'%b%08x\"}' % (CRC_KEY, crc)",
        "line[-TRAILER_BYTES:-10] != CRC_KEY",
        SCAN,
    ),
    Mutant(
        "checksums of many lines at once are not compared",
        "read/batch.py",
        'return crcs if b"".join(map(_TRAILER, lines)) == trailers else None',
        "return crcs",
        BATCH,
    ),
    Mutant(
        "a gap does not end a batch",
        "read/batch.py",
        'if b"".join(map(itemgetter(slice(len(start))), lines)) != starts:',
        "if False:",
        BATCH,
    ),
    Mutant(
        "a record glued behind half a line is not found",
        "read/scanner.py",
        "            if record is None:\n                before, searched",
        "            if True:\n                before, searched",
        SCAN,
    ),
    Mutant(
        "a last line without line feed is left out",
        "read/scanner.py",
        "            self._admit(record, records)\n            self._defects",
        "            self._defects",
        SCAN,
    ),
    Mutant(
        "two different records of one name are one",
        "read/sequence.py",
        'return "duplicate" if known == crc else "conflict"',
        'return "duplicate"',
        SCAN,
    ),
    Mutant(
        "NaN read at once: counted as one row",
        "fold/metrics.py",
        "value, mark, times=len(batch))",
        "value, mark)",
        BATCH,
    ),
    Mutant(
        "an end without LF: read after later segments",
        "read/reader.py",
        "items = [*items, *scanner.finish()]",
        "yield from self._noted(items, path.parent, file)\n            items = scanner.finish()",
        SEGMENTS,
    ),
    Mutant(
        "tail: the head is what was read first",
        "read/reader.py",
        "read_head(path, HEAD_BYTES) if start else bytes(chunk[:HEAD_BYTES])",
        "bytes(chunk[:HEAD_BYTES])",
        TAIL,
    ),
    Mutant(
        "a traced function loses its variables",
        "interruption.py",
        "if not is_traced and sys.getrefcount",
        "if sys.getrefcount",
        LAST_ERROR,
    ),
    Mutant(
        "a handler counts only while it is installed",
        "interruption.py",
        "number = _signal_of_call(frame, by_name=True)",
        "pass",
        ENDING,
    ),
    Mutant(
        "a long reason is cut before it is masked",
        "tracker/session.py",
        "masked(text[: REASON_MAX + _CREDENTIAL_MAX])",
        "text",
        SESSION,
    ),
    Mutant(
        "a fallback folder that is gone is no loss",
        "read/segments.py",
        "if folder in of_named or (is_gone and folder != was_there):",
        "if folder in of_named or is_gone:",
        MISSING,
    ),
    Mutant(
        "a fallback folder that was made again is the one that was there",
        "read/segments.py",
        "return not _was_made_after(self.path, place.opened)",
        "return False",
        MISSING,
    ),
    Mutant(
        "a segment of a live run is one of a killed run",
        "fold/load.py",
        'return not session.get("status") and lives is not False',
        "return False",
        ORPHANS,
    ),
    Mutant(
        "a function with a number and a frame is a signal handler",
        "interruption.py",
        "if is_like_one or not by_name:",
        "if True:",
        ENDING,
    ),
    Mutant(
        "a folder that is gone with its parent was on another machine",
        "read/segments.py",
        "existing = next(f for f in (folder, *folder.parents) if os.path.lexists(f))",
        "existing = folder",
        MISSING,
    ),
    Mutant(
        "an unreadable sector ends reading",
        "blocks.py",
        "        if error.errno not in _UNREADABLE:\n",
        "        if True:\n",
        BLOCKS,
    ),
    Mutant(
        "a segment of another run is read",
        "read/candidates.py",
        "        if self.run and self.run != short_run_id(run_id):\n            return True\n",
        "",
        SEGMENTS,
    ),
    Mutant(
        "a missing segment costs nothing",
        "read/segments.py",
        "return 0 if s in closed else None",
        "return 0",
        MISSING,
    ),
    Mutant(
        "the content of a large event is not compared",
        "read/evidence.py",
        "if digest.hexdigest() != aside.sha256:",
        "if False:",
        MISSING,
    ),
    Mutant(
        "a lost tail is not reported",
        "read/sequence.py",
        "            self._note_lost_tail(record, file)\n",
        "            pass\n",
        MISSING,
    ),
    Mutant(
        "the clock decides the order of sessions",
        "read/order.py",
        "            lambda other: not _is_smaller(other, start),\n",
        "            lambda other: other.t >= start.t,\n",
        SEGMENTS,
    ),
    Mutant(
        "a file that is not a journal is recovered",
        "read/identify.py",
        "    if not _holds_records(path):\n",
        "    if False:\n",
        RECOVERY,
    ),
    Mutant("a gap is one too large", "read/sequence.py", "lost=n - end", "lost=n - end + 1", SCAN),
    Mutant(
        "a repeated iteration does not replace the first",
        "fold/tables.py",
        "return bool(self.numbers) and i > self.numbers[-1]",
        "return bool(self.numbers) and i >= self.numbers[-1]",
        FOLD,
    ),
    Mutant(
        "an eval is superseded with the iteration that the run resumes from",
        "fold/fold.py",
        "self._supersede_evals(to_iter + 1)",
        "self._supersede_evals(to_iter)",
        FOLD,
    ),
    Mutant(
        "a large row is parsed and encoded at each return to it",
        "fold/metrics.py",
        "if row is None or (row.is_returned_to and len(row.values) > _LARGE):",
        "if row is None:",
        METRICS,
    ),
    Mutant(
        "a non-finite element of a value stays listed for ever",
        "fold/metrics.py",
        'inside = f"{name}."',
        'inside = f"{name}.."',
        METRICS,
    ),
    Mutant(
        "the summary is not that of a value that was logged again",
        "fold/metrics.py",
        "self._is_stale = self._is_stale or not row.values.keys().isdisjoint(values)",
        "self._is_stale = self._is_stale and not row.values.keys().isdisjoint(values)",
        METRICS,
    ),
    Mutant(
        "descending steps move all rows each time",
        "fold/tables.py",
        "if len(self._steps[k]) >= 2 * ROW_BLOCK:",
        "if len(self._steps[k]) < 0:",
        METRICS,
    ),
    Mutant(
        "a second file of an iteration replaces the first",
        "fold/fold.py",
        "replaced = self._checkpoints.get(i, {}).pop(path, None)",
        "replaced = self._checkpoints.pop(i, {}).pop(path, None)",
        FOLD,
    ),
    # ---- interrupted appends, and other programs
    Mutant(
        "the lock of an append is not re-entrant",
        "write/durability.py",
        "free_after_fork(threading.RLock())\n        self._messages: ",
        "threading.Condition(threading.Lock())\n        self._messages: ",
        REENTRANCY,
    ),
    Mutant(
        "an interrupted append is not finished",
        "write/line_writer.py",
        "self.settle()  # an exception, or a handler that appends",
        "self.writing = None  #",
        REENTRANCY,
    ),
    Mutant(
        "an interrupted write is always written again",
        "write/line_writer.py",
        "        elif extra_bytes == size_bytes:",
        "        elif False:",
        REENTRANCY,
    ),
    Mutant(
        "an exception of a watchdog is taken for a disk error",
        "interruption.py",
        "        if frame.f_code in handlers or _is_call_of_handler(frame):\n",
        "        if False:\n",
        (*REENTRANCY, *VALUES),
    ),
    Mutant(
        "a fork keeps the lock of a run that is being closed",
        "write/journal.py",
        "        with OPENING:\n            self._writer.close()\n",
        "        _LIVE.discard(self)\n        for _ in [0]:\n            self._writer.close()\n",
        REENTRANCY,
    ),
    Mutant(
        "what a forked child logs is not counted",
        "write/journal.py",
        "            self.child.ignore()\n",
        "            pass\n",
        REENTRANCY,
    ),
    Mutant(
        "the place of the journal is not checked",
        "write/durability.py",
        "                appender.check_place()\n            appender.retry()",
        "                pass\n            appender.retry()",
        RELOCATION,
    ),
    Mutant(
        "a replaced journal goes on without its earlier lines",
        "write/relocation.py",
        "appender.to_segment(appender.lines_of_session())",
        "appender.to_segment()",
        RELOCATION,
    ),
    Mutant(
        "a descriptor is not checked",
        "write/line_writer.py",
        "            is_moved = self.disk.position(self.fd) != self.end[1]\n",
        "            is_moved = False\n",
        RELOCATION,
    ),
    Mutant(
        "lines that wait at the end are discarded",
        "write/appender.py",
        "            if not self._leave_file():\n                if",
        "            if True:\n                if",
        FULL,
    ),
    Mutant(
        "the journal does not record where it goes on",
        "write/own_events.py",
        '            self._notes.append(appender.append("segment", encode_fields(fields)))\n',
        "            pass\n",
        FULL,
    ),
    Mutant(
        "lost events are not counted",
        "write/own_events.py",
        "        appender.lost = dropped if is_closed and is_noted else dropped + 1\n",
        "",
        FULL,
    ),
    Mutant(
        "a large event is named by its number",
        "format/files.py",
        "{sha256[:HASH_LENGTH]}",
        "{len(sha256)}",
        ASIDES,
    ),
    Mutant(
        "a large event is durable before its file is",
        "write/sync.py",
        "    for path in goal.asides:\n",
        "    for path in ():\n",
        ASIDES,
    ),
    Mutant(
        "metrics of earlier sessions stay where a later one logs them again",
        "fold/metrics.py",
        "        if not self._is_first:\n            self._supersede_earlier",
        "        if False:\n            self._supersede_earlier",
        METRICS,
    ),
    Mutant(
        "a metric that is logged twice at a step is not counted as superseded",
        "fold/metrics.py",
        "            self._keep(step, row.merge(values))\n",
        "            row.merge(values)\n",
        METRICS,
    ),
    Mutant(
        "the first line of a session rewinds it where damage has put it later",
        "fold/fold.py",
        "        if session.n_records == 1:",
        "        if True:",
        FOLD,
    ),
    Mutant(
        "a sync that fails after the close event is an error",
        "write/own_events.py",
        "        if appender.is_closed:\n            appender.moves.clear()",
        "        if False:\n            appender.moves.clear()",
        JOURNAL,
    ),
    Mutant(
        "a program that exits with a code completes its run",
        "tracker/exit_code.py",
        "            note(error, code)\n",
        "            pass\n",
        EXIT,
    ),
    Mutant(
        "the own code of a class of SystemExit is not watched",
        "tracker/exit_code.py",
        "            kind.code = _Code(own)",
        "            own = _Code(own)",
        EXIT,
    ),
    Mutant(
        "values are encoded where they are, and not copied",
        "format/record.py",
        "            fields = {name: _copy(value) for name, value in fields.items()}\n",
        "            pass\n",
        VALUES,
    ),
    Mutant(
        "an exception of a value's own is taken for one from outside",
        "interruption.py",
        "    return _checks(last)\n",
        "    return True\n",
        VALUES,
    ),
    Mutant(
        "a JournalClosed of another run is taken for our own",
        "write/journal.py",
        "                if not self._closed:\n                    raise",
        "                if False:\n                    raise",
        VALUES,
    ),
    Mutant(
        "lost notes do not count",
        "read/evidence.py",
        "    return of_sessions + _n_annotations_lost(known, sequence, sessions)\n",
        "    return of_sessions\n",
        COMPLETE,
    ),
    Mutant(
        "a kept run JSON that cannot be read counts as none",
        "read/evidence.py",
        "            known.unreadable.append(path.name)\n",
        "",
        RELOCATION,
    ),
    Mutant(
        "what an earlier run JSON has is not in the next one",
        "fold/load.py",
        "if not self._was_searched(d)), *fewer]",
        "if not self._was_searched(d))]",
        RELOCATION,
    ),
    Mutant(
        "a run whose journal was lost gets a new id",
        "tracker/location.py",
        "        or run_id_by_segments(journal, fallback)\n",
        "",
        COMPLETE,
    ),
    Mutant(
        "nothing is reserved on a disk that is nearly full",
        "write/reserve.py",
        "(RESERVE_BYTES, *LESS_BYTES)",
        "(RESERVE_BYTES,)",
        FULL,
    ),
    Mutant(
        "a long line is written into the space for the last lines",
        "write/line_writer.py",
        "if size_bytes > LAST_BYTES and not self._has_room(size_bytes):",
        "if False:",
        FULL,
    ),
    Mutant(
        "a long line that no file has space for costs all after it",
        "write/appender.py",
        "if self._asides.is_final and not self.drop_large():",
        "if self._asides.is_final:",
        FULL,
    ),
    Mutant(
        "events wait for the next call where files may not be longer",
        "write/line_writer.py",
        "while len(self._waiting) and self._is_at_limit and self._leave_file():",
        "while False:",
        FULL,
    ),
    Mutant(
        "lines wait behind a large event that there is no space for",
        "write/aside.py",
        "PENDING_MAX_BYTES = 64 << 20",
        "PENDING_MAX_BYTES = 0",
        ASIDES,
    ),
    Mutant(
        "content that is in memory alone counts as durable",
        "write/appender.py",
        "durable_n = n if first_pending is None else min(n, first_pending)",
        "durable_n = n",
        ASIDES,
    ),
    Mutant(
        "a large event does not go to the fallback folder",
        "write/aside.py",
        "if folder != refusing and folder / aside.name not in self._failed:",
        "if False:",
        ASIDES,
    ),
    Mutant(
        "lost events of the same content count once",
        "read/evidence.py",
        "lost=len(named),",
        "lost=1,",
        ASIDES,
    ),
    Mutant(
        "a segment writes behind the end that it was cut to",
        "write/segments.py",
        "            self._disk.only_append(fd)\n",
        "",
        FULL,
    ),
    Mutant(
        "a raise in any branch of an except counts",
        "tracker/handling.py",
        "return may_raise and not may_not if",
        "return may_raise if",
        HANDLING,
    ),
    Mutant(
        "what the parent of a process was handling ends its run",
        "tracker/handling.py",
        " or (earlier and _key(error, block) in earlier)",
        "",
        EXIT,
    ),
    Mutant(
        "a child leaves its number to a parent that has closed the run",
        "write/fork.py",
        " and not self._counter.is_closed():",
        ":",
        REENTRANCY,
    ),
    Mutant(
        "the folders are tried again for each long line that is dropped",
        "write/line_writer.py",
        "        while (entry := self._waiting.first) is not None and len(entry[1]) > LAST_BYTES:",
        "        if (entry := self._waiting.first) is not None and len(entry[1]) > LAST_BYTES:",
        FULL,
    ),
    Mutant(
        "space is reserved by four mebibytes or not at all",
        "write/reserve.py",
        "if error.errno not in NO_SPACE:",
        "if error.errno == errno.EFBIG:",
        FULL,
    ),
    Mutant(
        "the first line of a session does not wait for its content",
        "write/aside.py",
        "        if not self.may_wait:\n            raise error\n",
        "",
        ASIDES,
    ),
    Mutant(
        "a disk that fails is waited for as one that is full",
        "write/line_writer.py",
        "self._is_at_limit = now - self._refuses_since >= RETRY_AFTER_S",
        "self._is_at_limit = False",
        ("durability/test_full_disk.py",),
    ),
    Mutant(
        "a large event goes to the fallback folder only for lack of space",
        "write/aside.py",
        "            except OSError as error:\n                if not is_of_a_call(error):\n"
        "                    raise\n                if not self._is_elsewhere",
        "            except OSError as error:\n                if error.errno != errno.ENOSPC:\n"
        "                    raise\n                if not self._is_elsewhere",
        ASIDES,
    ),
    Mutant(
        "lines are not synced while the content of a large event waits",
        "write/appender.py",
        "is_new = n > self.synced_n or durable_n",
        "is_new = durable_n",
        ASIDES,
    ),
    Mutant(
        "a large event's file that is not there is a failed sync",
        "write/durability.py",
        "if isinstance(error, AsideNotSynced):",
        "if False:",
        ASIDES,
    ),
    Mutant(
        "a large event's file is synced again after its sync failed",
        "write/aside.py",
        "is_new=path in self._failed",
        "is_new=False",
        ASIDES,
    ),
    Mutant(
        "the content of large events counts as lines that may be written again",
        "write/waiting.py",
        "            self.n_bytes > most_bytes or",
        "            self.n_bytes + self.content_bytes > most_bytes or",
        ASIDES,
    ),
    Mutant(
        "any run's file with the same hash is this run's",
        "read/evidence.py",
        "aside_path(folder, name, aside.sha256, reader.path.stem)",
        "aside_path(folder, name, aside.sha256)",
        ASIDES,
    ),
    Mutant(
        "a segment holds all that waits, or nothing",
        "write/segments.py",
        "if error.errno not in NO_SPACE or not is_of_a_call(error):",
        "if True:",
        FULL,
    ),
    Mutant(
        "a loss is noted in the journal alone",
        "write/own_events.py",
        "        if not (is_closed and is_noted):\n",
        "        if False:\n",
        FULL,
    ),
    Mutant(
        "a descriptor that became the program's file is closed",
        "write/segments.py",
        "        return disk.identity(fd) == identity\n",
        "        return True\n",
        RELOCATION,
    ),
    Mutant(
        "a journal that the session has left is not locked again",
        "write/relocation.py",
        "        case Place.CLOSED:\n            _lock_again(appender)\n",
        "",
        RELOCATION,
    ),
    Mutant(
        "a run JSON does not name the annotators",
        "fold/load.py",
        '**({"annotators": annotators} if annotators else {}),',
        "",
        MISSING,
    ),
    Mutant(
        "no note goes into a journal over which a disk is mounted",
        "write/segments.py",
        " and not has_name(file.fd)",
        "",
        FULL,
    ),
    Mutant(
        "a file that is deleted on NFS counts as moved",
        "disk.py",
        "return _DELETED_ON_NFS.fullmatch(name) is None",
        "return True",
        RELOCATION,
    ),
    Mutant(
        "a segment that is deleted after its session left it is not noticed",
        "write/relocation.py",
        "            _check_left_segments(self)\n",
        "",
        RELOCATION,
    ),
    Mutant(
        "a journal that is cut after its session left it is not noticed",
        "write/relocation.py",
        "        case Place.HERE:\n            _check_size(appender)\n",
        "",
        RELOCATION,
    ),
    Mutant(
        "what is written of a first line that has no space stays",
        "write/journal.py",
        "            appender.remove_torn_opening()\n",
        "",
        FULL_DISK,
    ),
    Mutant(
        "a run is not resumed where its journal has no space",
        "write/journal.py",
        "if appender.files.begin and appender.to_segment():",
        "if False:",
        FULL_DISK,
    ),
    Mutant(
        "without a thread nobody syncs before the end",
        "write/journal.py",
        "            self._syncs_in_calls = True\n",
        "",
        INIT,
    ),
    Mutant(
        "a journal that was resumed is corrected",
        "write/correction.py",
        '(last.s, last.event) == (s, "close")',
        'last.event == "close"',
        ENDING,
    ),
    Mutant(
        "a journal is corrected while another process has its lock",
        "write/correction.py",
        "None if disk.lock(fd) is False else _end(path, s)",
        "_end(path, s)",
        ENDING,
    ),
    Mutant(
        "an exit code counts for each run of a program",
        "tracker/ending.py",
        "self._handled is not None or _n_begun == 1",
        "True",
        ENDING,
    ),
    Mutant(
        "a run of which one way calls finish is taken for one that always does",
        "tracker/beginning.py",
        "            return False\n        elif",
        "            pass\n        elif",
        BEGINNING,
    ),
    Mutant(
        "a run keeps the first name that it was renamed to",
        "fold/tables.py",
        'renamed[-1].fields.get("name")',
        'renamed[0].fields.get("name")',
        ANNOTATION,
    ),
    Mutant(
        "verify of a folder leaves out the journals of ranks",
        "cli/commands.py",
        "find_journals(arguments.paths, with_ranks=True)",
        "find_journals(arguments.paths)",
        MAIN,
    ),
    Mutant(
        "an output that nobody reads ends the command",
        "cli/journals.py",
        "    except BrokenPipeError:\n",
        "    except ZeroDivisionError:\n",
        MAIN,
    ),
]


def killer(mutant: Mutant | None, *, tests: tuple[str, ...] = ()) -> str:
    """The test that finds this mutant; empty if none does. Without a mutant: any failing test."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("eventlog", "tests", "trainer", "tools", "pyproject.toml"):
            _copy(ROOT / name, copy / name)
        if mutant is not None:
            file = copy / "eventlog" / mutant.file
            text = file.read_text()
            assert text.count(mutant.old) == 1, f"{mutant.name}: the line was not found"
            file.write_text(text.replace(mutant.old, mutant.new))
            tests = mutant.tests
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "-p", "no:cacheprovider"]
            + [f"tests/{test}" for test in tests],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},  # programs that tests start, too
            capture_output=True,
            text=True,
            timeout=PATIENCE_S if mutant is not None else WHOLE_PATIENCE_S,
        )
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"{tests[0]} (died of signal {-done.returncode})"
    match = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", done.stdout, re.MULTILINE)
    if match is None:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return match[1]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    else:
        shutil.copy(source, target)


def main() -> int:
    begun = time.monotonic()
    mutants = [mutant for mutant in MUTANTS if all(word in mutant.name for word in sys.argv[1:])]
    if not mutants:
        print("no mutant has all of these words in its name; without words, all are tried")
        return 2
    every = tuple(sorted({test for mutant in mutants for test in mutant.tests}))
    if failing := killer(None, tests=every):
        print(f"without any fault put in, {failing} fails")
        return 1
    n_killed = 0
    with ThreadPoolExecutor(2) as pool:
        for mutant, by in zip(mutants, pool.map(killer, mutants), strict=True):
            print(f"{mutant.name:55} {mutant.file:22} {by or 'SURVIVES'}", flush=True)
            n_killed += bool(by)
    print(f"{n_killed} of {len(mutants)} killed, {time.monotonic() - begun:.0f} s")
    return 0 if n_killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
