"""Calls that meet: what is there before, and what two or three sessions call at the same time."""

from __future__ import annotations

from tests.support.fleet_model import Epoch
from tests.support.fleet_steps import Register, Scenario, Simple, Takeover, Turn
from tests.support.fleet_store import Entry

A, B, C = ("a", 1), ("b", 1), ("c", 1)
_HOSTS = (Register("a"), Register("b"), Register("c"))


def claims(me: Epoch, *keys: int, turn: int | None = 0, state: str = "c", run: tuple[int, int] = (1, 1)) -> Turn:
    """A turn with claims alone."""
    return Turn(me, [Entry(key, state, run) for key in keys], (), turn)


def settles(me: Epoch, state: str, *keys: int, turn: int | None = 0, run: tuple[int, int] = (1, 1)) -> Turn:
    """A turn with settles alone."""
    return Turn(me, (), [Entry(key, state, run) for key in keys], turn)


def forget(host: str) -> Simple:
    """An operator declares a host lost."""
    return Simple("forget", host)


def fence(me: Epoch, other: Epoch, seen: int) -> Takeover:
    """One ends the epoch of another."""
    return Takeover("fence", me, other, seen)


def lose(me: Epoch, other: Epoch) -> Takeover:
    """One declares another lost."""
    return Takeover("lose", me, other)


_A_HAS = (*_HOSTS, claims(A, 1, 2))
_A_IS_LOST = (*_A_HAS, settles(A, "R", 2, turn=1), forget("a"))
_A_IS_FENCED = (*_A_HAS, fence(B, A, 1))

SCENARIOS = {
    "claim, claim": Scenario(_HOSTS, [[claims(A, 1)], [claims(B, 1)]]),
    "claim, claim, claim": Scenario(_HOSTS, [[claims(A, 1)], [claims(B, 1)], [claims(C, 1)]]),
    "claims of other orders": Scenario(_HOSTS, [[claims(A, 1, 2)], [claims(B, 2, 1)]]),
    "claim, done": Scenario(_A_HAS, [[settles(A, "o", 1, turn=1)], [claims(B, 1)]]),
    "claim, retry, its copy": Scenario(
        _A_HAS, [[settles(A, "r", 1, turn=1)], [claims(B, 1), claims(B, 1, run=(1, 2), turn=1)]]
    ),
    "claim, given back": Scenario(_A_HAS, [[settles(A, "u", 1, turn=1)], [claims(B, 1)]]),
    "claim, given back and claimed again": Scenario(
        _A_HAS, [[settles(A, "u", 1, turn=1), claims(A, 1, turn=2)], [claims(B, 1)]]
    ),
    "claims of what another settles, crosswise": Scenario(
        (*_HOSTS, claims(A, 1), claims(B, 2)),
        [
            [Turn(A, [Entry(2)], [Entry(1, "o")], 1)],
            [Turn(B, [Entry(1)], [Entry(2, "u")], 1)],
        ],
    ),
    "a conflict that is gone when it is read": Scenario(
        _A_HAS, [[settles(A, "u", 1, turn=1)], [claims(B, 1, 3)], [claims(C, 3)]]
    ),
    "claim, register": Scenario(_A_HAS, [[claims(A, 3, turn=1)], [Register("a")], [claims(B, 3)]]),
    "settle, register": Scenario(_A_HAS, [[settles(A, "o", 1, turn=1)], [Register("a")], [claims(B, 1)]]),
    "register, register": Scenario(_A_HAS, [[Register("a")], [Register("a", "elsewhere")]]),
    "the first register, twice": Scenario((), [[Register("a")], [Register("a", "elsewhere")]]),
    "claim, forget": Scenario(_A_HAS, [[claims(A, 3, turn=1)], [forget("a"), claims(B, 3, state="R")]]),
    "settle, forget": Scenario(_A_HAS, [[settles(A, "o", 1, turn=1)], [forget("a"), claims(B, 1, state="P")]]),
    "adopt, adopt": Scenario(_A_IS_LOST, [[claims(B, 1, state="R")], [claims(C, 1, state="P")]]),
    "adopt, adopt in another order": Scenario(_A_IS_LOST, [[claims(B, 1, 2, state="R")], [claims(C, 2, 1, state="R")]]),
    "adopt, a later run": Scenario(_A_IS_LOST, [[claims(B, 2, state="R")], [claims(C, 2, run=(1, 2))]]),
    "adopt, the host is back": Scenario(_A_IS_LOST, [[claims(B, 1, 2, state="R")], [Register("a")]]),
    "adopt, the host is back, rows in another order": Scenario(
        (*_HOSTS, claims(A, 2), claims(A, 1, turn=1), forget("a")),
        [[claims(B, 1, 2, state="R")], [Register("a")]],
    ),
    "a request, resumed and repeated": Scenario(
        _A_HAS,
        [
            [Turn(A, [Entry(3)], [Entry(1, "o"), Entry(2, "r")], 1)],
            [Simple("resume", A), Turn(A, [Entry(3)], [Entry(1, "o"), Entry(2, "r")], None)],
        ],
    ),
    "repeated while another claims": Scenario(
        _A_HAS,
        [
            [settles(A, "r", 1, turn=1)],
            [Simple("resume", A), settles(A, "r", 1, turn=None)],
            [claims(B, 1, run=(1, 2))],
        ],
    ),
    "leave, claim": Scenario(_HOSTS, [[Simple("leave", A, 0)], [Simple("resume", A), claims(A, 1, turn=None)]]),
    "settle of a forgotten row, claim": Scenario(_HOSTS, [[settles(A, "o", 1)], [claims(B, 1)]]),
    "two settles of a forgotten row": Scenario(_HOSTS, [[settles(A, "o", 1, 2)], [settles(B, "d", 2, 1)]]),
    "a late settle of an earlier run": Scenario(
        _A_HAS, [[claims(A, 1, run=(1, 2), turn=1), settles(A, "r", 1, turn=2)], [claims(B, 1)]]
    ),
    "claim of a later attempt, done": Scenario(_A_HAS, [[settles(A, "o", 1, turn=1)], [claims(B, 1, run=(1, 2))]]),
    "adopt a decision, adopt": Scenario(_A_IS_LOST, [[claims(B, 2, state="P")], [claims(C, 2, state="R")]]),
    "adopt the same decision twice": Scenario(_A_IS_LOST, [[claims(B, 2, state="R")], [claims(C, 2, state="R")]]),
    "leave with a row, claim": Scenario(_A_HAS, [[Simple("leave", A, 1)], [claims(B, 1)]]),
    "given back twice, claim": Scenario(
        _A_HAS, [[settles(A, "u", 1, turn=1), settles(A, "u", 1, turn=2)], [claims(B, 1)]]
    ),
    "register by silence, claim": Scenario(_A_HAS, [[claims(A, 3, turn=1)], [Register("a", "elsewhere", (A, 1))]]),
    "register by a silence that ended, claim": Scenario(
        _A_HAS, [[claims(A, 3, turn=1)], [Register("a", "elsewhere", (A, 2))]]
    ),
    "lost retry, its copy": Scenario(
        (*_A_HAS, settles(A, "r", 1, turn=1)),
        [[settles(B, "g", 1), claims(B, 1, state="R", turn=1)], [claims(C, 1, run=(1, 2))]],
    ),
    "fence, a call": Scenario(_A_HAS, [[claims(A, 3, turn=1)], [fence(B, A, 1), claims(B, 3)]]),
    "fence, settle": Scenario(_A_HAS, [[settles(A, "o", 1, turn=1)], [fence(B, A, 1), claims(B, 1, state="R")]]),
    "fence, fence": Scenario(_A_HAS, [[fence(B, A, 1)], [fence(C, A, 1)]]),
    "fence each other": Scenario(_A_HAS, [[fence(B, C, 0)], [fence(C, B, 0)]]),
    "fence, its end": Scenario(_A_HAS, [[fence(B, A, 1)], [forget("b")]]),
    "fence, resume": Scenario(_A_HAS, [[fence(B, A, 1)], [Simple("resume", A), claims(A, 3, turn=None)]]),
    "fence, register": Scenario(_A_HAS, [[fence(B, A, 1)], [Register("a")]]),
    "fence, register elsewhere": Scenario(_A_HAS, [[fence(B, A, 1)], [Register("a", "elsewhere", (A, 1))]]),
    "fence, forget": Scenario(_A_HAS, [[fence(B, A, 1), lose(B, A)], [forget("a")]]),
    "lose, adopt": Scenario(_A_IS_FENCED, [[lose(B, A)], [claims(C, 1, state="R")]]),
    "lose, lose": Scenario(_A_IS_FENCED, [[lose(B, A)], [lose(C, A)]]),
    "lose, its end": Scenario(_A_IS_FENCED, [[lose(B, A)], [forget("b")]]),
    "lose and adopt, the host is back": Scenario(
        _A_IS_FENCED, [[lose(B, A), claims(B, 1, 2, state="R")], [Register("a")]]
    ),
    "lose one that lives": Scenario(_A_HAS, [[lose(B, A), claims(B, 1, state="R")], [claims(A, 3, turn=1)]]),
}
