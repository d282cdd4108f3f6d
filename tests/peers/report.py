"""Checks by name, and waiting without guessing how long."""

import time
from contextlib import contextmanager


class Report:
    """Prints each check as it ends; a failed one does not keep the next from being made."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    @contextmanager
    def check(self, name):
        try:
            yield
        except Exception as error:
            self.failed += 1
            why = str(error) if isinstance(error, (AssertionError, TimeoutError)) else f"{type(error).__name__}: {error}"
            print(f"FAIL {name}: {why}", flush=True)
        else:
            self.passed += 1
            print(f"ok {name}", flush=True)

    def summary(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1


def expect(got, wanted, what):
    assert got == wanted, f"{what}: got {got!r}, wanted {wanted!r}"


def wait_for(predicate, what, timeout=10.0):
    """The first true result of `predicate`."""
    deadline = time.monotonic() + timeout
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(0.01)
