"""`runs archive`, `query` and `prune`: runs kept for years, every byte with a hash.

Begin with `archive`, the command. `archiver` adds runs, `beginning` makes a new archive,
`catalog` says which runs are there, `manifest` names every file, `bundle` and `columns` are
their formats, `files` says which files are a run's, `store` is a folder or object storage.
`query` is SQL. See ARCHIVE.md.
"""
