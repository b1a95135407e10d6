"""Any finite-state machine, and one whose texts can do all there is to do."""

from hypothesis import strategies as st

from data.machines import Machine

WINDOWS = {1: 9, 2: 7, 3: 5, 4: 4}  # whose contexts are soon tried


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Any states, edges, answers, alphabet, window and radix that is soon built."""
    chars = "".join(draw(st.permutations("abé\n")))[: draw(st.integers(1, 4))]
    names = draw(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3, unique=True))
    T = draw(st.integers(2, WINDOWS[len(chars)]))
    to, answer = st.sampled_from(names), st.sampled_from(chars)
    return Machine(
        chars,
        T,
        draw(to),
        {name: draw(answer) for name in names},
        {name: {char: draw(to) for char in chars} for name in names},
        draw(st.integers(2, min(T, 5 - len(names)))) if len(names) < 3 else 2,
    )


def symmetric(Q: int, T: int, radix: int = 2) -> Machine:
    """All functions of Q states: a turns them round, b swaps two, c makes two one."""
    names = [f"q{i}" for i in range(Q)]
    after = {
        "a": [*names[1:], names[0]],
        "b": [names[1], names[0], *names[2:]],
        "c": [names[0], names[0], *names[2:]],
    }
    edges = {name: {c: after[c][i] for c in "abc"} for i, name in enumerate(names)}
    answers = {name: "abc"[i % 3] for i, name in enumerate(names)}
    return Machine("abc", T, names[0], answers, edges, radix)
