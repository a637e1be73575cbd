"""A crash-safe, human-readable log of training runs.

A run is a *journal*, `out/run_20261123_032501.jsonl`, and the *run JSON* made from it.

*Writing.* `open_run` creates the journal, takes its lock, and appends an `open` event, which is on
disk before any other event is accepted. Then each `log_iter`, `log_eval` or `log_checkpoint` is one
line in one `write`: when the call returns, the event survives the death of the process. A thread
syncs once a second, and at once after evals and checkpoints: then it survives power loss. `close`
records how the run ended.

*Crashes.* A process that is killed leaves no `close` event, and perhaps an incomplete last line.
Nothing needs to be done: the compactor, a process of its own, detects the exit and writes the final
run JSON. If the whole machine went down, `eventlog compact out/` writes it.

*Reading.* `Scanner` verifies each line by its checksum and its number, goes on after damage, and
reports what is missing. `Fold` makes a run of the records: one curve, also if a resumed session
repeats iterations. `load_run` does both, for a journal or a run JSON; `compact` writes the run JSON
atomically.

*The API of other trackers.* `init`, `run.log({...})`, `finish`: numbers by any name, a row a step,
in the run's `metrics`. In a W&B script only the import changes: names that are not listed here,
such as `Table`, `login` or `CommError`, are in `tracker.compatibility`.

*Notebooks.* `load_run(...).frame("iterations")` is a pandas frame, `load_run(...).plot()` a figure;
`frame` and `plot` are for several runs. pandas and the tools are imported when they are called.

*Annotations.* `annotate` adds a note or a tag to any run, live or ended, in a segment of its own
beside the journal.

*Credentials.* A value that looks like one, by its name or its form, is replaced by `***` before it
is written: in the command line, the config, notes, log lines and errors. See `masking` for
`EVENTLOG_MASK=off` and the two lists of names.

*Many ranks.* `open_run(journal=..., rank=3)` gives a rank a journal of its own beside the run's;
`find_ranks` finds them.

*Resuming.* A new session in the same journal, with the iteration it starts from. An incomplete last
line is moved to a file of its own first.

*Packages*, each importing only those before it: `format` (one event, one line), `masking`, `read`
(bytes to verified records), `write` (the journal's writer), `fold` (records to the run, and its
JSON), `tracker` (`open_run`, `init`), then `cli` and `integrations`. `disk` is the only module that
changes files. FORMAT.md is the specification.
"""

from typing import TYPE_CHECKING, Any

from eventlog.blocks import check_is_file, open_to_read, sha256_of
from eventlog.disk import DISK, atomic_write, fitting, is_locked
from eventlog.errors import (
    EventlogError,
    JournalClosed,
    JournalLocked,
    NewerFormat,
    NotAJournal,
    RecordTooLarge,
    UnreadableRun,
)
from eventlog.fold.compaction import compact
from eventlog.fold.document import Run
from eventlog.fold.flat_rows import flat_cells, flatten, restore_nonfinite, without_aside
from eventlog.fold.fold import Fold
from eventlog.fold.load import compare_runs, lacks_journal, load_run, without_journal
from eventlog.fold.losses import LOSSES, VAL_LOSSES, usual_losses
from eventlog.fold.row_sink import RowSink
from eventlog.fold.series import PREFIXES as SERIES_PREFIXES
from eventlog.fold.series import Series, column_of, definition_of
from eventlog.format.events import KINDS, MFU_UNKNOWN, describe
from eventlog.format.files import (
    ASIDE_SUFFIX,
    BEFORE_LOSS_SUFFIX,
    JOURNAL_SUFFIX,
    PRUNED_SUFFIX,
    RANK_SUFFIX,
    RUN_JSON_SUFFIX,
    SEGMENT_SUFFIX,
    TORN_SUFFIX,
    aside_name,
    is_shortened_aside,
    journal_path,
    parse_orphan,
    parse_segment_name,
    short_run_id,
)
from eventlog.format.record import FORMAT, Record, header_fields
from eventlog.format.text import (
    NEAR_MAX,
    counted,
    did_you_mean,
    print_lines,
    printable,
    printable_json,
    similar,
)
from eventlog.format.times import duration, seconds
from eventlog.interruption import is_interruption
from eventlog.masking import load_masking
from eventlog.notebook import frame, plot
from eventlog.read.alive import is_alive, process_lives
from eventlog.read.candidates import find_orphans, find_ranks
from eventlog.read.defects import Defect
from eventlog.read.ends import last_open, opening_event
from eventlog.read.identify import begins_like_journal
from eventlog.read.reader import Items, Reader, scan
from eventlog.read.scanner import Scanner
from eventlog.read.sequence import SequenceCheck
from eventlog.read.subfolders import Listing, Walk, list_folder
from eventlog.tracker.annotation import Annotator, annotate
from eventlog.tracker.api import finish, init, log, module_attribute
from eventlog.tracker.media import add_charts
from eventlog.tracker.opening import open_run
from eventlog.tracker.run import ActiveRun
from eventlog.tracker.session import Session
from eventlog.version import __version__
from eventlog.write.messages import say

if TYPE_CHECKING:
    from eventlog.command_line import command_parser
    from eventlog.masking.masking import mask, mask_command
    from eventlog.masking.names import Masking
    from eventlog.masking.text import mask_text

__all__ = [
    "ASIDE_SUFFIX",
    "BEFORE_LOSS_SUFFIX",
    "DISK",
    "FORMAT",
    "JOURNAL_SUFFIX",
    "KINDS",
    "LOSSES",
    "MFU_UNKNOWN",
    "NEAR_MAX",
    "PRUNED_SUFFIX",
    "RANK_SUFFIX",
    "RUN_JSON_SUFFIX",
    "SEGMENT_SUFFIX",
    "SERIES_PREFIXES",
    "TORN_SUFFIX",
    "VAL_LOSSES",
    "ActiveRun",
    "Annotator",
    "Defect",
    "EventlogError",
    "Fold",
    "Items",
    "JournalClosed",
    "JournalLocked",
    "Listing",
    "Masking",
    "NewerFormat",
    "NotAJournal",
    "Reader",
    "Record",
    "RecordTooLarge",
    "RowSink",
    "Run",
    "Scanner",
    "SequenceCheck",
    "Series",
    "Session",
    "UnreadableRun",
    "Walk",
    "__version__",
    "annotate",
    "aside_name",
    "atomic_write",
    "begins_like_journal",
    "check_is_file",
    "column_of",
    "command_parser",
    "compact",
    "compare_runs",
    "counted",
    "definition_of",
    "describe",
    "did_you_mean",
    "duration",
    "find_orphans",
    "find_ranks",
    "finish",
    "fitting",
    "flat_cells",
    "flatten",
    "frame",
    "header_fields",
    "init",
    "is_alive",
    "is_interruption",
    "is_locked",
    "is_shortened_aside",
    "journal_path",
    "lacks_journal",
    "last_open",
    "list_folder",
    "load_run",
    "log",
    "mask",
    "mask_command",
    "mask_text",
    "open_run",
    "open_to_read",
    "opening_event",
    "parse_orphan",
    "parse_segment_name",
    "plot",
    "print_lines",
    "printable",
    "printable_json",
    "process_lives",
    "restore_nonfinite",
    "say",
    "scan",
    "seconds",
    "sha256_of",
    "short_run_id",
    "similar",
    "usual_losses",
    "without_aside",
    "without_journal",
]


add_charts(plot)


def __getattr__(name: str) -> Any:
    if name in ("mask", "mask_command", "mask_text", "Masking"):
        return getattr(load_masking(), name)
    if name == "command_parser":
        from eventlog.command_line import command_parser  # argparse, which only commands need

        return command_parser
    return module_attribute(name)
