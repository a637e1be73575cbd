"""Events -> lines on disk, in order, whatever the disk does.

Begin with `journal`: lock, numbers, sync thread, close. `appender` puts lines on disk and goes
on in a segment where that fails; `waiting` is its queue, `reserve` space taken ahead,
`relocation` a journal that is moved or deleted under its writer, `aside` events too large for a
line, `forked` what children log. `repair` and `recovery` mend the tail of a journal after a
crash, `last_session` reads what was there before, `provenance` says who writes, with which
command and commit.
"""
