"""`runs archive`, `query` and `prune`: long-term storage of runs, every byte with a hash.

Begin with `archive`, the command. `archiver` adds runs, `creation` creates an archive, `parts`
writes its Parquet files, `catalog` lists its runs, `manifest` names every file, `bundle` and
`columns` are the formats, `files` decides which files belong to a run, `store` is a folder or
object storage. `query` is SQL, over the `tables` of folders and archives.
"""
