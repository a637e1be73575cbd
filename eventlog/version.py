"""The version of the installed package `runjournal`."""

__version__ = "0.2.0.dev0"
