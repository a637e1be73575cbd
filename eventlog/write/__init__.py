"""The journal's writer: events to lines on disk, in order, whatever the disk does.

Begin with `journal`: open, append, close; `durability` syncs it. Below them, `line_writer` writes
lines, `waiting` holds those that are not written or not durable, `sync` has the thread that syncs,
and `appender` goes on in `segments` when a file fails; `relocation` handles a journal that is moved
or deleted. `aside` is for events too large for a line, `reserve` for space reserved ahead,
`own_events` for what the journal logs about itself, `fork` for forked children, `repair` for a tail
after a crash. `lock`, `sessions` and `provenance` are used when a session begins; `messages` go to
stderr.
"""
