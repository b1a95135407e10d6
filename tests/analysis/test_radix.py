"""compare.py --radix: one machine, deep or wide; its table, its JSON, its picture, its refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.image import imread

import compare
import handmade
from data import rules
from system.errors import UserError

ARGV = ("--handmade", "parity", "--radix", "4", "2")
SIZES = [(4, 2, 3, 30, 18_640), (2, 4, 1, 6, 12_116)]  # radix, layers, heads, units, parameters


def test_the_table_and_the_picture(home: Path, call: Callable) -> None:
    ended = call(compare.main, *ARGV)
    lines = ended.out.splitlines()
    assert ended.status == 0 and lines[-1] == "see compare.png"
    names, *rows = (line.split() for line in lines[:3])
    assert names[:5] == ["radix", "layers", "heads", "units", "parameters"]
    assert [tuple(int(cell.replace(",", "")) for cell in row[:5]) for row in rows] == SIZES
    weights = handmade.load("parity").weights.values()
    assert int(rows[0][5].replace(",", "")) == sum(
        int(weight.count_nonzero()) for weight in weights
    )
    for row in rows:
        assert 30 < float(row[6]) < 32 and float(row[7]) > 0 and float(row[8]) > 0
    assert imread("compare.png").shape[:2] == (550, 880)


def test_the_same_numbers_as_json(home: Path, call: Callable) -> None:
    ended = call(compare.main, *ARGV, "--json", "--out", "kept")
    said = json.loads(ended.out)
    assert (said["task"], said["picture"]) == ("parity", str(Path("kept", "compare.png")))
    names = ("radix", "layers", "heads", "units", "parameters")
    assert [tuple(each[name] for name in names) for each in said["radices"]] == SIZES
    assert Path(said["picture"]).is_file()


REFUSALS = {
    ("--radix", "2"): "one-head is no machine of states, which is what --radix builds; name one",
    ("--handmade", "abc", "--radix", "2"): "abc is no machine of states",
    ("--handmade", "ngram", "--radix", "2"): "ngram is no machine of states",
    (*ARGV, "--ckpt", "gone"): "--ckpt and --radix exclude each other; give one",
    (*ARGV, "4"): "--radix has 4 twice; keep one",
    (*ARGV, "1"): "--radix must be at least 2, not 1",
    (*ARGV, "x"): "--radix is a whole number, not 'x'",
    (*ARGV, "17"): "parity: radix must lie between 2 and block_size, 16, not 17",
    ("--handmade", "big.yaml", "--radix", "32"): "more than 100,000,000 weights; take radix 17",
    (*ARGV, "--order", "3"): "--order go with --handmade ngram; add it",
}


@pytest.mark.parametrize("argv", REFUSALS)
def test_refusals(
    argv: tuple[str, ...], home: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is built."""
    monkeypatch.setattr(handmade, "compiled", None)
    big = rules.write(rules.read("parity").within(32))
    Path("big.yaml").write_text(big)
    ended = call(compare.main, *argv)
    assert ended.status == 2 and REFUSALS[argv] in ended.err and ended.err.count("\n") == 1


def test_what_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis import radix

    config, chars, weights = handmade.compiled(rules.read("lamp"))
    weights["lm_head.weight"].neg_()
    monkeypatch.setattr(handmade, "compiled", lambda rule: (config, chars, weights))
    with pytest.raises(
        UserError, match=r"^lamp: columns may be off by .* the right logit leads by"
    ):
        radix.build_all("lamp", [2])
