"""When REST is asked next, and for what together.

Sans-I/O: time comes in, in seconds on the monotonic clock, and batches go out.

`interval_s` is how long one key waits between two polls. The rota holds the plans of
all and puts those of one group (asset class and kind) together: a group has one batch
in its interval however many keys it has, a key whose turn comes between two batches
goes with the next, and only what is urgent (a stream was lost) goes at once.

    plan ──▶ planned ──▶ due, with its group ──▶ taken (it is asked; plan it again)
               │ ▲                                 ▲
        cancel ▼ └ plan replaces                   └── urgent: at its own time
"""

from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

from onetape.client._notices import TransportPolicy

K = TypeVar("K", bound=Hashable)
G = TypeVar("G", bound=Hashable)

_AHEAD: Final = 0.25  # of the interval: who is due that soon goes with the batch


def interval_s(
    policy: TransportPolicy, base_s: float, *, unchanged: int, is_open: bool, is_calm: bool
) -> float:
    """Return how long to wait for the next poll of a key.

    Args:
        policy: The steps and bounds.
        base_s: The interval of the asset class, or what was asked for instead.
        unchanged: How many polls in a row brought nothing new, failed ones included.
        is_open: Whether the market trades.
        is_calm: Whether the symbol moves little.
    """
    interval = base_s * policy.calm_factor if is_calm else base_s
    if not is_open:
        interval = max(interval, policy.closed_interval_s)
    steps = max(0, unchanged - policy.unchanged_polls + 1)
    return min(interval + steps * policy.unchanged_step_s, max(interval, policy.interval_cap_s))


class _Plan(NamedTuple, Generic[G]):
    group: G
    at: float
    interval_s: float | None  # None: urgent


class Rota(Generic[K, G]):
    """What is planned, by key. `plan` and `cancel` are O(1), the rest is O(planned)."""

    def __init__(self) -> None:
        self._plans: dict[K, _Plan[G]] = {}
        self._asked_at: dict[G, float] = {}  # the last batch that was not urgent
        self._wake_at: float | None = None
        self._dirty = False

    def __len__(self) -> int:
        return len(self._plans)

    def __contains__(self, key: K) -> bool:
        return key in self._plans

    def plan(self, key: K, group: G, at: float, *, interval_s: float) -> None:
        """Ask for the key then, or with the group's next batch; batches are `interval_s` apart."""
        self._plans[key] = _Plan(group, at, interval_s)
        self._dirty = True

    def urge(self, key: K, group: G, at: float) -> None:
        """Ask for the key then and no later."""
        self._plans[key] = _Plan(group, at, None)
        self._dirty = True

    def hasten(self, key: K, at: float, *, interval_s: float) -> None:
        """Ask for it then, if it is planned for later."""
        plan = self._plans.get(key)
        if plan is not None and plan.at > at:
            self.plan(key, plan.group, at, interval_s=interval_s)

    def cancel(self, key: K) -> None:
        """Do not ask for it."""
        if self._plans.pop(key, None) is not None:
            self._dirty = True

    def wake_at(self) -> float | None:
        """Return when there is something to take; None when nothing is planned."""
        if self._dirty:
            self._dirty = False
            self._wake_at = min(map(self._due_at, self._plans.values()), default=None)
        return self._wake_at

    def take(self, now: float) -> list[tuple[G, list[K]]]:
        """Return what is to be asked now, in batches, and forget its plans."""
        wake_at = self.wake_at()
        if wake_at is None or wake_at > now:
            return []
        due = [plan for plan in self._plans.values() if self._due_at(plan) <= now]
        regular = {plan.group for plan in due if plan.interval_s is not None}
        batches: dict[G, list[K]] = {}
        for key, plan in self._plans.items():
            if _goes(plan, now, regular):
                batches.setdefault(plan.group, []).append(key)
        for keys in batches.values():
            for key in keys:
                del self._plans[key]
        self._asked_at.update(dict.fromkeys(regular, now))
        self._dirty = True
        return list(batches.items())

    def _due_at(self, plan: _Plan[G]) -> float:
        asked_at = self._asked_at.get(plan.group)
        if plan.interval_s is None or asked_at is None:
            return plan.at
        return max(plan.at, asked_at + plan.interval_s)


def _goes(plan: _Plan[G], now: float, regular: set[G]) -> bool:
    """Return whether a plan is for now, given the groups that have a batch now."""
    if plan.interval_s is None:
        return plan.at <= now
    return plan.group in regular and plan.at <= now + plan.interval_s * _AHEAD
