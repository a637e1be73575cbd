"""The exceptions that eventlog raises.

    EventlogError
    ├── JournalLocked     another process is writing this journal; the message says which
    ├── JournalClosed     something was appended after close()
    ├── NotAJournal       the file holds something else; nothing was changed
    ├── NewerFormat       the file was written by a later, incompatible format
    ├── RecordTooLarge    one event does not fit in a line (MAX_LINE_BYTES)
    ├── UnreadableRun     neither a journal nor a run JSON; says where reading stopped
    ├── UsageError        `init` cannot resume the run that was asked for
    │   └── UnsupportedError  a function of W&B that needs its server
    └── CommError         a request to W&B's server: there is none
        └── AuthenticationError

They are raised when a journal is opened or read, never by `Session.log_*`: logging must not end
a training. `Error` and the last four have the names that scripts for W&B catch.
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


class UsageError(EventlogError):
    """`init` cannot resume the run that was asked for."""


class UnsupportedError(UsageError):
    """A function of W&B that needs its server."""


class CommError(EventlogError):
    """A request to W&B's server: there is none."""


class AuthenticationError(CommError):
    """Never raised: nothing asks for credentials."""


class WandbCoreNotAvailableError(EventlogError):
    """Never raised: there is no such process."""


Error = EventlogError
"""The base class by W&B's name."""
