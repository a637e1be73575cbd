"""Logging from the training loops of other frameworks: one module for each.

`huggingface`, `lightning`, `keras`, `accelerate`, and `logging_handler` for Python's own
`logging`. Import each by its full name; it needs its framework. `eventlog` imports none of them.
"""
