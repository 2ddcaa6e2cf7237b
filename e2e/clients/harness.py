"""Runs the scenarios of one client library and reports them one line each, as Rust's test runner does."""

import os
import sys
import traceback

ENDPOINT = os.environ["S3_ENDPOINT"]
ACCESS_KEY = os.environ["AWS_ACCESS_KEY_ID"]
SECRET_KEY = os.environ["AWS_SECRET_ACCESS_KEY"]

_scenarios = []


def scenario(function):
    """Registers a test; its name is the function's."""
    _scenarios.append(function)
    return function


def start_anew():
    """Forgets what a module that was only imported has registered."""
    _scenarios.clear()


def run(client, *arguments):
    """Runs all scenarios in order; a failure is told with its trace and does not stop the others."""
    only = sys.argv[1:]
    for function in _scenarios:
        name = f"{client}::{function.__name__}"
        if only and not any(part in name for part in only):
            continue
        try:
            function(*arguments)
            print(f"test {name} ... ok", flush=True)
        except Exception:  # noqa: BLE001: whatever went wrong is what we want to see.
            print(f"test {name} ... FAILED", flush=True)
            traceback.print_exc(limit=6)
            sys.stderr.flush()


def pattern(size, seed=1):
    """Bytes that differ from place to place and repeat only after a long while."""
    block = bytearray()
    state = seed * 2654435761 % 2**32
    while len(block) < min(size, 1 << 16):
        state = (state * 1664525 + 1013904223) % 2**32
        block += state.to_bytes(4, "little")
    out = bytearray()
    turn = 0
    while len(out) < size:
        out += turn.to_bytes(4, "little") + block
        turn += 1
    return bytes(out[:size])
