"""The exceptions that eventlog raises.

    EventlogError
    ├── JournalLocked     another process is writing this journal; the message says which
    ├── JournalClosed     something was appended after close()
    ├── NotAJournal       the file holds something else; nothing was changed
    ├── NewerFormat       the file was written by a later, incompatible format
    ├── RecordTooLarge    one event does not fit in a line (MAX_LINE_BYTES)
    └── UnreadableRun     neither a journal nor a run JSON; says where reading stopped

They are raised when a journal is opened or read, never by `Session.log_*`: logging must not end
a training.
"""


class EventlogError(Exception):
    """Base class; `str()` is one sentence."""


class JournalLocked(EventlogError):
    """Another process is writing this journal."""


class JournalClosed(EventlogError):
    """The journal was closed; no more events can be appended."""


class NotAJournal(EventlogError):
    """The file holds bytes, but no whole record of a journal; nothing was changed."""


class NewerFormat(EventlogError):
    """The journal's format is newer than this reader; nothing was changed."""


class RecordTooLarge(EventlogError):
    """The event does not fit in one line; nothing of it was written."""


class UnreadableRun(EventlogError):
    """The file is neither a journal nor a run JSON."""
