"""The journal's writer: events to lines on disk, in order, whatever the disk does.

Begin with `journal`: open, append, sync, close. Below it, `appender` writes lines and `waiting`
holds those that are not written or not durable; `segments` are the files a session goes on in
when its own fails, `session_files` all that it has open, `relocation` handles a journal that is
moved or deleted, `aside` events too large for a line, `reserve` space taken ahead. `sync` is one
sync, `sync_thread` the thread that makes them, `own_events` what the journal logs about itself.
`fork` and `ignored` are about forked children. `repair` and `recovery` mend a journal's tail after
a crash; `lock`, `sessions` and `provenance` are used when a session begins; `messages` go to
stderr.
"""
