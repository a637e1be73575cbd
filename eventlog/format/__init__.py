"""What writer and reader share: one event as one line, and the names around it.

Begin with `record`: an event to a line with its checksum, and back. `segment` has the names and
headers of segments, `json_rows` rows as the run JSON prints them, `text` shows on a terminal
what others wrote. FORMAT.md, one folder up, is the specification.
"""
