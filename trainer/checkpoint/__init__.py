"""What a run needs to resume.

Writing: `write` (one checkpoint, full or sharded), `saver` (in a thread beside the training).
Reading: `read`, and `shard_metadata`, which reads torch's metadata without unpickling code.
Finding: `layout` (the files of one folder), `run_files` (which files belong to which run), `choose`
(which run to resume), `verify` (its newest intact checkpoint), `journal` (its journal's status and
history), `resumed_flags` (which flags the checkpoint decides).
"""
