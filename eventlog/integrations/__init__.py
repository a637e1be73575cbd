"""The journal in other people's training loops: one module for each framework.

`huggingface`, `lightning`, `keras`, `accelerate`, and `logging_handler` for Python's own
`logging`. Each is imported by its full name and needs its framework; `eventlog` itself imports
none of them.
"""
