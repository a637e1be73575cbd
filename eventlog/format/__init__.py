"""What writer and reader share: the grammar of a journal.

Begin with `record`: an event to a line with its checksum, and back. `events` has every kind of
event, `files` every file name and suffix, `json_rows` rows as the run JSON prints them, `text`
makes text from other sources safe for a terminal, `foreign` values of other libraries Python's own.
FORMAT.md, one folder up, is the specification.
"""
