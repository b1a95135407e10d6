"""Tic-tac-toe, against a player with its own idea of the board: a magic square, and all games."""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations

import pytest
import torch

import handmade
from data import rules, tictactoe
from data.laws import Suffixes
from data.tictactoe import Games, play_all, positions
from proof.proof import played
from tests.helpers import ROOT

MAGIC = dict(zip("123456789", (2, 7, 6, 9, 5, 1, 4, 3, 8), strict=True))  # rows sum to 15


def three(squares: str) -> bool:
    return any(sum(MAGIC[s] for s in row) == 15 for row in combinations(squares, 3))


def ended(game: str) -> str:
    """X, O, = for a draw, or nothing while the game goes on."""
    for who, squares in (("X", game[::2]), ("O", game[1::2])):
        if three(squares):
            return who
    return "=" if len(game) == 9 else ""


@cache
def value(first: str, second: str) -> tuple[int, int]:
    """1, 0 or -1 for a win of the second, a draw or a loss, and how soon a win comes; by search."""
    if three(first) or three(second):
        return (1, len(first + second) * -1) if three(second) else (-1, 0)
    left = sorted({*MAGIC} - {*first, *second})
    if not left:
        return 0, 0
    if len(first) == len(second):
        return min(value("".join(sorted(first + s)), second) for s in left)
    return max(value(first, "".join(sorted(second + s))) for s in left)


def all_games(choose: Callable[[str], str], game: str = "") -> Iterator[tuple[str, str]]:
    """Every game that can be played against one that chooses, and how it ended; ? is a reply that
    is not allowed."""
    for square in sorted({*MAGIC} - {*game}):
        after = game + square
        if not ended(after):
            after += choose(f"\n{after}")
            if after[-1] not in MAGIC or after[-1] in after[:-1]:
                yield after, "?"
                continue
        if ended(after):
            yield after, ended(after)
        else:
            yield from all_games(choose, after)


@pytest.fixture(scope="module")
def model() -> Callable[[str], str]:
    """What the weights of the rule file write after a text, with their own greedy choice."""
    saved = handmade.load("tictactoe")
    built, ids = saved.build().eval(), {char: i for i, char in enumerate(saved.chars)}

    @torch.inference_mode()
    def choose(text: str) -> str:
        idx = torch.tensor([[ids[char] for char in text[-saved.model.block_size :]]])
        return saved.chars[built(idx)[0, -1].argmax()]

    return choose


def test_the_weights_are_never_beaten(model: Callable[[str], str]) -> None:
    """All games there are, played with the weights themselves; and how each line ends."""
    outcomes: Counter[str] = Counter()
    for game, outcome in all_games(model):
        outcomes[outcome] += 1
        assert model(f"\n{game}") == "\n"
        assert model(f"{game}\n5") == "1"  # the next game begins, whatever stood there
    assert outcomes == {"O": 376, "=": 113}
    again = played(handmade.load("tictactoe").build(), "\n123456789")
    assert again == Games(won=376, drawn=113)
    assert str(again) == "489 games played: 376 won, 113 drawn, none lost"


def test_moves_that_are_not_allowed_end_the_line(model: Callable[[str], str]) -> None:
    games = [context[1:] for context in positions()]
    for game in random.Random(1).sample(games, 150):
        for square in {*game}:
            assert model(f"\n{game}{square}") == "\n"
            assert tictactoe.told(game + square) == f"{square} is not allowed"
        assert ended(game) == "" or model(f"\n{game}7") == "\n"
    assert model("\n55") == model("\n515") == model("\n") == model("5") == "\n"


def test_the_player_is_perfect() -> None:
    """It takes what is best by a search of its own, and the soonest win; what it may come to is all
    that a first player can bring about."""
    found = [game for context in positions() if (game := context[1:])]
    for game in found:
        reply = tictactoe.reply(game)
        if ended(game):
            assert reply == "\n"
            continue
        first, second = game[::2], game[1::2]
        values = {
            s: value("".join(sorted(first)), "".join(sorted(second + s)))
            for s in {*MAGIC} - {*game}
        }
        assert values[reply] == max(values.values()) >= (0, 0)
    played = {*(game for game, _ in all_games(lambda text: tictactoe.reply(text[1:])))}
    lengths = {len(game) for game in played}
    cut = {game[:n] for game in played for n in range(1, 10, 2) if n <= len(game)}
    assert lengths == {6, 8, 9} and {*found} == cut | played and len(found) == len({*found})


def test_the_file_is_what_the_module_writes() -> None:
    path = rules.EXAMPLES / "tictactoe.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "data.tictactoe"], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout == path.read_bytes() and done.stderr == b""
    rule = rules.read("tictactoe")
    assert (rule.turn, rule.board, rule.default) == (1, 3, "\n")
    assert [*rule.domain()] == positions()
    assert all(rule.answer(context) == tictactoe.reply(context[1:]) for context in positions())


@pytest.mark.parametrize(
    ("choose", "games"),
    [
        (lambda contexts: ["\n"] * len(contexts), Games(illegal=9)),
        (lambda contexts: [context[-1] for context in contexts], Games(illegal=9)),
        (lambda contexts: [min({*MAGIC} - {*context}) for context in contexts], None),
    ],
)
def test_what_becomes_of_bad_players(choose: Callable, games: Games | None) -> None:
    ends = Counter(outcome for _, outcome in all_games(lambda text: choose([text])[0]))
    expected = Games(ends["O"], ends["="], ends["X"], ends["?"])
    assert play_all(choose) == expected == (games or expected)
    if games is None:
        assert expected.lost > 0 < expected.drawn and f", {expected.lost:,} lost" in str(expected)
    else:
        assert str(expected).endswith("none lost, 9 ended by a move that is not allowed")


def test_the_text_of_the_game() -> None:
    """Lines of games, against moves at random: every opening comes, and the rule's own replies."""
    rule = rules.read("tictactoe")
    lines = rules.text(rule, length=6000, seed=3).split("\n")
    assert lines[0] == "" and len({line[0] for line in lines[1:-1]}) == 9
    for line in lines[1:-1]:
        assert ended(line) in ("O", "=") and not ended(line[:-1])
        assert all(line[i] == rule.answer(f"\n{line[:i]}") for i in range(1, len(line), 2))
    assert rules.text(rule, 60, seed=3) == rules.text(rule, 60, seed=3) != rules.text(rule, 60, 4)


def test_what_people_see() -> None:
    assert tictactoe.board("") == "1 2 3\n4 5 6\n7 8 9"
    assert tictactoe.board("519") == "O 2 3\n4 X 6\n7 8 X"
    told = {
        "": "",
        "519": "",
        "15293": "X has won",
        "147586": "O has won",
        "123546879": "a draw",
        "515": "5 is not allowed",
        "5115": "1 is not allowed",
        "152934": "4 is not allowed",
        "1235468794": "4 is not allowed",
    }
    assert {game: tictactoe.told(game) for game in told} == told


REFUSED = {
    "board": ("board must be 3", {"board": 4}),
    "turn": ("turn must be 1 or more, not -1", {"turn": -1}),
    "chars": ('takes chars: "\\n123456789"', {"chars": "\n12345678"}),
    "window": ("a block_size of 10 or more", {"block_size": 9}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    message, change = REFUSED[name]
    fields = {"chars": "\n123456789", "block_size": 10, "board": 3, **change}
    with pytest.raises(ValueError) as caught:
        Suffixes(default="\n", rules={"\n5": "1"}, **fields)
    assert message in str(caught.value)


def test_another_player() -> None:
    """A file may play worse; what it is about are the games that it comes to."""
    rule = Suffixes("987654321\n", 12, "1", {"\n1": "2", "\n5": "4"}, turn=1, board=3)
    assert rules.write(rule).count("\nturn: 1\nboard: 3\n") == 1
    assert {"\n1", "\n12", "\n123"} & {*rule.domain()} == {"\n1", "\n123"}
    assert play_all(rule.answers).illegal
