"""Which exceptions go on after the block that handles them."""

import asyncio
from contextlib import suppress
from textwrap import indent

import pytest

from eventlog.tracker.handling import exception_that_goes_on

GOES_ON = {
    "finally": "try: 1 / 0\nfinally: call()",
    "a function called in a finally": "def clean_up(): call()\ntry: 1 / 0\nfinally: clean_up()",
    "with": "with Calls(): 1 / 0",
    "except that raises again": "try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    raise",
    "except that raises another": (
        "try: 1 / 0\nexcept ZeroDivisionError as e:\n    call()\n    raise ValueError from e"
    ),
    "try in a finally": (
        "try: 1 / 0\nfinally:\n    try: call()\n    except ValueError: raise KeyError"
    ),
    "finally behind an except of another": ("try: 1 / 0\nexcept ValueError: pass\nfinally: call()"),
    "finally in a loop": "for _ in range(3):\n    try: 1 / 0\n    finally: call()",
    "finally in an except": (
        "try: [].pop()\nexcept IndexError:\n    try: 1 / 0\n    finally: call()"
    ),
    "finally in a try that handles it": (
        "try:\n    try: 1 / 0\n    finally: call()\nexcept ZeroDivisionError: pass"
    ),
    "finally of a coroutine": (
        "async def main():\n    try: 1 / 0\n    finally:\n        await asyncio.sleep(0)\n"
        "        call()\nasyncio.run(main())"
    ),
}
DOES_NOT = {
    "no exception": "call()",
    "except": "try: 1 / 0\nexcept ZeroDivisionError: call()",
    "except with a name": "try: 1 / 0\nexcept ZeroDivisionError as e:\n    call()\n    str(e)",
    "except of all": "try: 1 / 0\nexcept: call()",
    "one of several excepts": (
        "try: 1 / 0\nexcept KeyError: raise\nexcept (ValueError, ZeroDivisionError) as e: call()\n"
        "except Exception: raise"
    ),
    "except of a group": "try: raise ExceptionGroup('', [KeyError()])\nexcept* KeyError: call()",
    "try in an except": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    try: call()\n    except ValueError: raise"
    ),
    "finally of a try that succeeds in an except": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    try: pass\n    finally: call()"
    ),
    "except in a loop": (
        "for _ in range(3):\n    try: 1 / 0\n    except ZeroDivisionError:\n        call()\n"
        "        break"
    ),
    "a generator that ends": ("def items():\n    try: yield 1\n    finally: call()\nlist(items())"),
    "a generator that ends in an except": (
        "def items():\n    try: yield 1\n    finally: call()\n"
        "try: 1 / 0\nexcept ZeroDivisionError: list(items())"
    ),
    "except of a coroutine": (
        "async def main():\n    try: 1 / 0\n    except ZeroDivisionError:\n"
        "        await asyncio.sleep(0)\n        call()\nasyncio.run(main())"
    ),
}


def exceptions_of(code):
    """What goes on at the first `call()` in a function with this code."""
    found = []

    def call():
        found.append(exception_that_goes_on())

    class Calls:
        def __enter__(self):
            return self

        def __exit__(self, *args):
            call()

    names = {"asyncio": asyncio, "call": call, "Calls": Calls}
    exec(f"def main():\n{indent(code, '    ')}", names)
    with suppress(Exception):
        names["main"]()
    return found


@pytest.mark.parametrize("code", GOES_ON.values(), ids=GOES_ON)
def test_an_exception_that_the_block_does_not_stop_goes_on(code):
    (error,) = exceptions_of(code)

    assert isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("code", DOES_NOT.values(), ids=DOES_NOT)
def test_an_exception_that_the_block_stops_does_not_go_on(code):
    assert exceptions_of(code) == [None]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_a_request_to_exit_goes_on_from_any_block(end):
    found = None
    try:
        raise end
    except BaseException:
        found = exception_that_goes_on()

    assert type(found) is end
