"""Which exceptions go on after the block that handles them."""

import asyncio
import cProfile
import sys
from contextlib import suppress
from textwrap import indent
from types import SimpleNamespace

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
    "except in a finally": (
        "try: 1 / 0\nfinally:\n    try: [].pop()\n    except IndexError: call()"
    ),
    "except in a function called in a finally": (
        "def clean_up():\n    try: [].pop()\n    except IndexError: call()\n"
        "try: 1 / 0\nfinally: clean_up()"
    ),
    "except in an except that raises again": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    try: [].pop()\n    except IndexError: call()\n"
        "    raise"
    ),
    "raise behind a loop": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    for _ in range(1): call()\n    raise"
    ),
    "raise in each of two branches": (
        "try: 1 / 0\nexcept ZeroDivisionError as e:\n    call()\n"
        "    if str(e): raise\n    else: raise ValueError"
    ),
    "raise behind a try that succeeds": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    try: pass\n"
        "    except KeyError: pass\n    raise"
    ),
    "os._exit": "try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    os._exit(1)",
    "sys.exit": "try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    sys.exit(2)",
    "exit": "try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    exit('no data')",
    "sys.exit in a finally": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    try: call()\n    finally: sys.exit(1)"
    ),
    "finally with a return on a condition": (
        "try: 1 / 0\nfinally:\n    call()\n    if not sys: return"
    ),
    "finally in a loop with a break in another loop": (
        "try: 1 / 0\nfinally:\n    for _ in range(1):\n        call()\n        break"
    ),
    "raise in a with": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    with suppress(KeyError): raise"
    ),
    "finally behind a function that raised it once more": (
        "def report(e):\n    try: raise e\n    except ZeroDivisionError: pass\n"
        "try: 1 / 0\nexcept KeyError: pass\nfinally:\n    report(sys.exc_info()[1])\n    call()"
    ),
    "except of another that came out of an except, in a finally": (
        "try: 1 / 0\nfinally:\n    try:\n        try: [].pop()\n"
        "        except IndexError: raise KeyError\n    except KeyError: call()"
    ),
    "finally around a bare raise": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    try: raise\n    finally: call()"
    ),
    "finally of a coroutine": (
        "async def main():\n    try: 1 / 0\n    finally:\n        await asyncio.sleep(0)\n"
        "        call()\nasyncio.run(main())"
    ),
}
DOES_NOT = {
    "no exception": "call()",
    "finally with a return": "try: 1 / 0\nfinally:\n    call()\n    return",
    "finally with a return of a value": "try: 1 / 0\nfinally:\n    call()\n    return len('a')",
    "finally with a break": (
        "while True:\n    try: 1 / 0\n    finally:\n        call()\n        break"
    ),
    "finally with a continue": (
        "for _ in range(1):\n    try: 1 / 0\n    finally:\n        call()\n        continue"
    ),
    "sys.exit of success": ("try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    sys.exit(0)"),
    "sys.exit without a code": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    sys.exit()"
    ),
    "sys.exit of an unknown code": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    sys.exit(len(''))"
    ),
    "sys.exit on a condition": (
        "try: 1 / 0\nexcept ZeroDivisionError as e:\n    call()\n    if not str(e): sys.exit(1)"
    ),
    "sys.exit that a try behind it stops": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    try: sys.exit(1)\n"
        "    except SystemExit: pass"
    ),
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
    "raise in the other branch": (
        "try: 1 / 0\nexcept ZeroDivisionError as e:\n    if 'division' in str(e): call()\n"
        "    else: raise"
    ),
    "raise behind a return": (
        "try: 1 / 0\nexcept ZeroDivisionError as e:\n    if 'division' in str(e):\n"
        "        call()\n        return\n    raise"
    ),
    "raise behind a break": (
        "while True:\n    try: 1 / 0\n    except ZeroDivisionError as e:\n"
        "        if str(e):\n            call()\n            break\n        raise"
    ),
    "raise in another case": (
        "try: 1 / 0\nexcept ZeroDivisionError as e:\n    match len(str(e)):\n"
        "        case 0: raise\n        case _: call()"
    ),
    "assert behind it": (
        "try: 1 / 0\nexcept ZeroDivisionError as e:\n    call()\n    assert str(e)"
    ),
    "raise on a condition": (
        "try: 1 / 0\nexcept ZeroDivisionError as e:\n    call()\n    if not str(e): raise"
    ),
    "except of another that came out of a finally": (
        "try:\n    try: 1 / 0\n    finally: [].pop()\nexcept IndexError: call()"
    ),
    "except of another that came out of an except that raises": (
        "try:\n    try: 1 / 0\n    except ZeroDivisionError as e: raise KeyError from e\n"
        "except KeyError: call()"
    ),
    "except of another that came out of a function": (
        "def clean_up():\n    try: 1 / 0\n    finally: [].pop()\n"
        "try: clean_up()\nexcept IndexError: call()"
    ),
    "except in an except": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    try: [].pop()\n    except IndexError: call()"
    ),
    "except of a cancelled task": (
        "async def wait():\n    try: await asyncio.sleep(9)\n"
        "    except asyncio.CancelledError: call()\n"
        "async def main():\n    task = asyncio.create_task(wait())\n    await asyncio.sleep(0)\n"
        "    task.cancel()\n    await task\nasyncio.run(main())"
    ),
    "except of an own BaseException": (
        "class Stop(BaseException): pass\ntry: raise Stop\nexcept Stop: call()"
    ),
    "raise that a try behind it stops": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    call()\n    try: raise ValueError\n"
        "    except ValueError: pass"
    ),
    "except of another that came out of an except, in an except": (
        "try: 1 / 0\nexcept ZeroDivisionError:\n    try:\n        try: [].pop()\n"
        "        except IndexError: raise KeyError\n    except KeyError: call()"
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

    system = SimpleNamespace(_exit=sys.exit)
    names = {
        "asyncio": asyncio,
        "os": system,
        "call": call,
        "Calls": Calls,
        "suppress": suppress,
        "sys": sys,
    }
    exec(f"def main():\n{indent(code, '    ')}", names)
    with suppress(Exception, SystemExit):
        names["main"]()
    return found


@pytest.mark.parametrize("code", GOES_ON.values(), ids=GOES_ON)
def test_an_exception_that_the_block_does_not_stop_goes_on(code):
    (error,) = exceptions_of(code)

    assert isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("code", DOES_NOT.values(), ids=DOES_NOT)
def test_an_exception_that_the_block_stops_does_not_go_on(code):
    assert exceptions_of(code) == [None]


def calls_for(n_blocks):
    """How many functions are called to find what goes on from a function with so many blocks."""
    blocks = "\n".join("    try: [].a\n    except AttributeError: pass" for _ in range(n_blocks))
    profile = cProfile.Profile(builtins=False)
    profile.enable()
    (error,) = exceptions_of(f"try:\n{blocks}\n    1 / 0\nfinally: call()")
    profile.disable()
    assert isinstance(error, ZeroDivisionError)
    return sum(entry.callcount for entry in profile.getstats())


def test_the_work_in_a_long_function_grows_with_its_length():
    few, many = calls_for(100), calls_for(1000)

    assert many < 15 * few


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_a_request_to_exit_goes_on_from_any_block(end):
    found = None
    try:
        raise end
    except BaseException:
        found = exception_that_goes_on()

    assert type(found) is end
