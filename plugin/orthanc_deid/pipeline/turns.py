"""Whose turn it is: tasks that wait, the best priority first, and of one priority who waits longest.

What is fresh may take every place, what is not only some of them: so a fresh task finds a place at once, even while
others have tens of thousands of instances to do. Only so many wait here; the rest is in the ledger, where the keeper
finds it. Pure, and not for several threads at once.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from orthanc_deid.store.rows import FRESH

Key = tuple[str, ...]


class Turns:
    """The tasks of one kind that wait for a place."""

    def __init__(self, places: int, unhurried: int, most: int) -> None:
        """`places` for all, of which `unhurried` for what is not fresh; `most` may wait."""
        self.places, self.unhurried, self.most = places, unhurried, most
        self._lanes: dict[int, dict[Key, None]] = {}
        self._priority: dict[Key, int] = {}

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._priority)

    def add(self, name: Key, priority: int) -> bool:
        """Let a task wait, once; False when there are too many that are at least as urgent."""
        before = self._priority.get(name)
        if before is not None:
            if before > priority:
                self.take(name)
                self._put(name, priority)
            return True
        if len(self) >= self.most:
            worst = max(lane for lane, names in self._lanes.items() if names)
            if worst <= priority:
                return False
            self.take(next(reversed(self._lanes[worst])))
        self._put(name, priority)
        return True

    def _put(self, name: Key, priority: int) -> None:
        self._lanes.setdefault(priority, {})[name] = None
        self._priority[name] = priority

    def take(self, name: Key) -> int:
        """Let a task wait no more; returns its priority."""
        priority = self._priority.pop(name)
        del self._lanes[priority][name]
        return priority

    def next(self, taken: Iterable[int], but: Container[Key] = ()) -> Key | None:
        """Return who has its turn while tasks of these priorities have places; none of `but`."""
        priorities = list(taken)
        if len(priorities) >= self.places:
            return None
        full = sum(priority > FRESH for priority in priorities) >= self.unhurried
        for priority in sorted(self._lanes):
            if priority > FRESH and full:
                return None
            for name in self._lanes[priority]:
                if name not in but:
                    return name
        return None
