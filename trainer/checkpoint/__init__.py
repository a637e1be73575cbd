"""What a run needs to go on.

Begin with `checkpoint`: whole or sharded, durable. `saver` writes it beside the training,
`shard_metadata` reads sharded ones without running anything in them, `run_files` knows which
checkpoints are which run's, `resume` finds what to go on from, `beginning` decides where a run
begins.
"""
