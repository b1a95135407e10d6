"""Tic-tac-toe as text: a game is a line of digits, and the second player is never beaten.

    python -m data.tictactoe > configs/rules/tictactoe.yaml

The squares are 1 to 9, row by row, and the players take theirs in turn: in `51937` the first has 5,
9 and 7, the second 1 and 3. The rule that is written here looks through all that may follow. It
takes a win, the sooner the better, else a draw. Of replies that are worth the same it takes one
that leaves the first player most moves to go wrong with, and of those the first square.
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

SQUARES = "123456789"
ROWS = [set(row) for row in ("123", "456", "789", "147", "258", "369", "159", "357")]
END = "\n"  # of a line, which is a game

Choose = Callable[[list[str]], Sequence[str]]  # contexts of one length -> what follows each

HEAD = """\
# Tic-tac-toe, never beaten: the model moves second. Made by python -m data.tictactoe.
#
# A game is a line of digits, the squares 1 to 9 row by row, in the order in which they are taken;
# you take the first. Each pattern is a game so far, from the end of the line before; its answer is
# the model's move. No pattern fits after a finished game, nor after a move that is not allowed, one
# to a square that is taken or past the end of a game. Then the model ends the line, and the next
# line is a new game.
chars: "\\n123456789"
block_size: 10
turn: 1
board: 3
default: "\\n"
rules:
"""


def check(chars: str, block_size: int, board: int) -> None:
    """Raise ValueError unless a rule with these can play."""
    if board != 3:
        raise ValueError(f"board must be 3, for tic-tac-toe, not {board}")
    if set(chars) != {END, *SQUARES} or block_size <= len(SQUARES):
        raise ValueError(
            f'board: 3 takes chars: "\\n{SQUARES}" and a block_size of {len(SQUARES) + 1} or more, '
            "for the end of a line and a whole game"
        )


def won(squares: str) -> bool:
    """Whether a player who has these squares has three in a row."""
    return any(row.issubset(squares) for row in ROWS)


def free(game: str) -> list[str]:
    """The squares that nobody has."""
    return [square for square in SQUARES if square not in game]


def over(game: str) -> bool:
    """Whether one of the players has won, or the board is full."""
    return won(game[::2]) or won(game[1::2]) or len(game) == len(SQUARES)


def worth(game: str) -> int:
    """What a game is to the second player, when both play on as well as can be: above 0 a win,
    and more the sooner it comes; 0 a draw; below 0 a loss."""
    return worth_of(frozenset(game[::2]), frozenset(game[1::2]))


@cache
def worth_of(first: frozenset[str], second: frozenset[str]) -> int:
    """`worth` of a game with these squares, in whatever order they were taken."""
    taken = len(first) + len(second)
    if won(first) or won(second):
        return (10 - taken) * (1 if won(second) else -1)
    left = [square for square in SQUARES if square not in first | second]
    if len(first) == len(second):
        return min((worth_of(first | {square}, second) for square in left), default=0)
    return max((worth_of(first, second | {square}) for square in left), default=0)


def reply(game: str) -> str:
    """What the second player writes: a square, or a line end when the game is over."""
    if over(game):
        return END

    def merit(square: str) -> tuple[int, int]:
        after = game + square
        wrong = [further for further in free(after) if worth(after + further) > worth(after)]
        return worth(after), len(wrong)

    return max(free(game), key=merit)


def perfect(contexts: list[str]) -> list[str]:
    """What the second player writes after each context, which is a game behind a line end."""
    return [reply(context.removeprefix(END)) for context in contexts]


def rounds(choose: Choose) -> Iterator[tuple[list[str], list[str]]]:
    """All that the first player can do, against a second who chooses, a move of both at a time: the
    games after the move of the first, and those that go on with what the second made of them."""
    games = [""]
    while games:
        asked = [game + square for game in games for square in free(game)]
        on = [game for game in asked if not over(game)]
        chosen = choose([END + game for game in on]) if on else []
        answered = [game + char for game, char in zip(on, chosen, strict=True)]
        yield asked, answered
        games = [game for game in answered if game[-1] in free(game[:-1]) and not over(game)]


@dataclass
class Games:
    """What became of the second player's games: how many were won, drawn, and lost, and in how many
    it wrote what is no free square."""

    won: int = 0
    drawn: int = 0
    lost: int = 0
    illegal: int = 0

    def __str__(self) -> str:
        total = self.won + self.drawn + self.lost + self.illegal
        lost = f"{self.lost:,}" if self.lost else "none"
        illegal = f", {self.illegal:,} ended by a move that is not allowed" * bool(self.illegal)
        return (
            f"{total:,} games played: {self.won:,} won, {self.drawn:,} drawn, {lost} lost{illegal}"
        )


def play_all(choose: Choose) -> Games:
    """Every game that a first player can play against a second who chooses.

    choose: for contexts of one length, each a line end and a game so far, what follows each
    """
    games = Games()
    for asked, answered in rounds(choose):
        for game in filter(over, asked):
            games.lost += won(game[::2])
            games.drawn += not won(game[::2])
        for game in answered:
            legal = game[-1] in free(game[:-1])
            games.illegal += not legal
            games.won += legal and won(game[1::2])
    return games


def positions(choose: Choose = perfect) -> list[str]:
    """All contexts after which the second player has to write: a line end and a game, in which it
    played as it chooses. After games that are over, which are among them, it ends the line."""
    found = []
    for asked, answered in rounds(choose):
        found += asked + [game for game in answered if over(game)]
    return [END + game for game in found]


def random_game(draw: random.Random, choose: Choose = perfect) -> str:
    """A line end and a game, in which the first player moves at random."""
    game = END
    while not over(game[1:]):
        game += draw.choice(free(game))
        if not over(game[1:]):
            [char] = choose([game])
            game += char
    return game


def told(game: str) -> str:
    """Who has won a game, or has made a move that is not allowed; empty while it goes on."""
    for place, char in enumerate(game):
        if over(game[:place]) or char not in free(game[:place]):
            return f"{char} is not allowed"
    if over(game):
        return next((f"{who} has won" for who in "XO" if won(game["XO".index(who) :: 2])), "a draw")
    return ""


def board(game: str) -> str:
    """The board after a game, three lines: X, who began, O, and the numbers of free squares."""
    marks = {square: "XO"[place % 2] for place, square in reversed([*enumerate(game)])}
    squares = [marks.get(square, square) for square in SQUARES]
    return "\n".join(" ".join(squares[row : row + 3]) for row in (0, 3, 6))


def rule_file() -> str:
    """The content of configs/rules/tictactoe.yaml."""
    moves = [context for context in positions() if not over(context[1:])]
    lines = [f'  "\\n{move[1:]}": "{reply(move[1:])}"\n' for move in moves]
    return HEAD + "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(rule_file())
