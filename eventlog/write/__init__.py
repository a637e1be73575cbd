"""The journal's writer: events to lines on disk, in order, whatever the disk does.

Begin with `journal`: open, append, sync, close. Below it, `line_writer` writes lines, `waiting`
holds those that are not written or not durable, and `appender` goes on elsewhere when a file
fails: `segments` creates the files it goes on in, `session_files` has all that are open,
`relocation` handles a journal that is moved or deleted. `aside` is for events too large for a
line, `reserve` for space reserved ahead. `sync` is one sync, `sync_thread` the thread that makes
them, `own_events` what the journal logs about itself. `fork` and `ignored` are about forked
children. `repair` and `recovery` mend a journal's tail after a crash; `lock`, `sessions`,
`provenance` and `git` are used when a session begins; `messages` go to stderr.
"""
