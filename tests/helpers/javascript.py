"""The scripts of the page that know of no page, run from Python in V8."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py_mini_racer import MiniRacer

from page.html import PURE, script

HARNESS = """
function decoded(packed) {
  const model = new Model(packed, weightsOf(packed.weights, packed.dtype));
  if (packed.counts) model.counts = new Counts(packed.counts, bytesOf(packed.counts.bytes));
  return model;
}
function answer(name, given) { return JSON.stringify(CASES[name](JSON.parse(given))); }
"""


class Scripts:
    """`call` runs one of the functions in `cases`, an object literal, on plain values."""

    def __init__(self, v8: MiniRacer) -> None:
        self.v8 = v8

    def call(self, name: str, **given: Any) -> Any:
        """What the function `name` makes of `given`; NaN and infinity become None."""
        return json.loads(self.v8.call("answer", name, json.dumps(given)))


@contextmanager
def scripts(cases: str) -> Iterator[Scripts]:
    """V8 with the scripts of the page and `cases`, closed in the end."""
    with MiniRacer() as v8:
        for name in PURE:
            v8.eval(script(name))
        v8.eval(HARNESS)
        v8.eval(f"var CASES = {{{cases}}};")
        yield Scripts(v8)
