"""Runs to and from other loggers: the commands `export` and `import`, a format a file."""
