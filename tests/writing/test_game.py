"""A game against weights that were set by hand, through a pipe and at a terminal."""

from collections.abc import Callable
from pathlib import Path

import pytest

import sample
from data import tictactoe
from tests.helpers.faults import Processes

GAME = ("--handmade", "tictactoe", "--interactive", "--device", "cpu")
RULE = """\
chars: "ab\\n"
block_size: 4
default: b
turn: 2
rules: {a: a, aa: "\\n"}
"""


@pytest.fixture
def play(pipe: Callable, call: Callable) -> Callable:
    """What comes out for lines of moves, and what is said beside that."""

    def play(lines: str, *argv: str) -> tuple[str, list[str]]:
        pipe(lines.encode())
        status, out, err = call(sample.main, *GAME, *argv)
        assert status == 0
        return out, err.splitlines()[1:]

    return play


def answered(moves: str) -> str:
    """What should stand after each of the first player's moves, in games one after the other."""
    out, game = "", ""
    for move in moves:
        legal = not tictactoe.told(game + move).endswith("allowed")
        reply = tictactoe.reply(game + move) if legal else "\n"
        game += move + reply
        ends = reply == "\n" or tictactoe.over(game)
        out += move + reply + "\n" * (reply != "\n" and ends) + "\n"
        game = "" if ends else game
    return out


def test_games_through_a_pipe(play: Callable) -> None:
    """A line a move in, a line a move out, and an empty one at the end of a game. Nothing else."""
    moves = "5375154" + "55" + "19" + "2"
    lines = "".join(f"{move}\n" for move in moves)
    assert play(lines) == (answered(moves), [])
    assert answered("53755") == "51\n37\n7\n\n51\n5\n\n"
    assert play("5\n3\n", "--no-prompt") == ("1\n7\n", [])


def test_what_is_asked_for_wins(play: Callable) -> None:
    """As many characters as are asked for; and each line a fresh beginning, from a line end."""
    assert play("5\n", "--max-new-tokens", "2") == ("51\n\n", [])
    said = ["each line is a fresh beginning"]
    assert play(":keep\n5\n\\n5\n", "--seed=3") == ("5\n\n\n51\n", said)


def test_turns_without_a_board(pipe: Callable, call: Callable, tmp_path: Path) -> None:
    (tmp_path / "rule.yaml").write_text(RULE)
    pipe(b"a\nb\n")
    argv = ("--handmade", str(tmp_path / "rule.yaml"), "--interactive", "--device", "cpu")
    ended = call(sample.main, *argv)
    assert (ended.status, ended.out) == (0, "aa\n\nbbb\n")


def test_without_a_talk_a_text_is_as_long_as_any(call: Callable) -> None:
    ended = call(sample.main, "--handmade", "tictactoe", "--device", "cpu", "--prompt", "\\n5")
    assert len(ended.out) == len("\n5") + 500 + len("\n") and ended.out.startswith("\n51")
    assert ended.err.endswith("; 489 games played: 376 won, 113 drawn, none lost\n")


def test_at_a_terminal(processes: Processes, home: Path) -> None:
    """The board is drawn, and it is said how a game ended."""
    typed = [
        ("you are X: type a square; :help lists what else there is\n> ", "5\r"),
        ("51\nO 2 3\n4 X 6\n7 8 9\n> ", "3\r"),
        ("37\nO 2 X\n4 X 6\nO 8 9\n> ", "8\r"),
        ("84\n\nO 2 X\nO X 6\nO X 9\nO has won; a new game begins\n> ", "99\r"),
        ("\n9 is not allowed; a new game begins\n> ", ":help\r"),
        ("Type your turn and press Enter.", "\x04"),
    ]
    ended = processes.run("sample", *GAME, cwd=home, typed=typed)
    assert ended.status == 0
