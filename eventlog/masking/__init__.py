"""Credentials become `***` before anything is written.

Begin with `masking`: events and configs. `text` and `command` mask texts and command lines; `names`
decides by a value's name, `rules` by what it looks like; `formats` lists the tokens of services.
Only writers import this, with `load_masking`: compiling the patterns takes 10 ms.
"""

import _thread
from types import ModuleType

_PATIENCE_S = 10.0  # where the importing thread waits for a lock of this one
_loaded: list[ModuleType] = []


def load_masking() -> ModuleType:
    """The module `eventlog.masking.masking`, imported at the first call.

    It is imported in a thread. A signal handler can interrupt an import of the main thread, and
    would find half a module if it logs; it interrupts no other thread, and waits for that one.
    """
    if not _loaded:
        is_done = _thread.allocate_lock()
        is_done.acquire()
        try:  # not a Thread: a handler may have interrupted the start of one, which holds a lock
            _thread.start_new_thread(_import_in_thread, (is_done,))
        except RuntimeError:  # no more threads, or the interpreter ends
            _import()
        else:
            is_done.acquire(timeout=_PATIENCE_S)
    if not _loaded:
        _import()  # raises what the thread could not
    return _loaded[0]


def _import() -> None:
    from eventlog.masking import masking

    _loaded.append(masking)


def _import_in_thread(is_done: _thread.LockType) -> None:
    try:
        _import()
    except Exception:
        return
    finally:
        is_done.release()
