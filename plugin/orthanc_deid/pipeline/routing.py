"""Which projects an instance belongs to, by their Match rules: decided per series, never instance by instance.

What refers to a matched series of the same study (segmentations, reports, presentation states, radiotherapy objects)
goes with it, whether it comes before or after, so that studies are not torn apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from pydicom.datadict import keyword_for_tag

from orthanc_deid.config import Condition, Project
from orthanc_deid.orthanc import changes
from orthanc_deid.orthanc.changes import Series, Stored
from orthanc_deid.orthanc.client import NotFound, OrthancClient

# fmt: off
REFERRING = frozenset({
    "ANN", "FID", "KO", "PLAN", "PR", "REG", "RTDOSE", "RTIMAGE", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT",
    "RWV", "SEG", "SR",
})
# fmt: on
"""Modalities (PS3.3 C.7.3.1.1.1) of objects that are about other objects of their study."""
REMEMBERED = 1000
"""Series and studies whose decisions are kept in memory; they can always be made again."""


K = TypeVar("K")
V = TypeVar("V")


class _Memory(OrderedDict[K, V]):
    """A dictionary that forgets the oldest."""

    def keep(self, key: K, value: V) -> V:
        """Remember a value and return it."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > REMEMBERED:
            self.popitem(last=False)
        return value


@dataclass(frozen=True, slots=True)
class Routed:
    """Where one series goes. `projects`: for these instances. `also`: for each project, other series of the study
    that come with it from now on, all of their instances."""

    series: Series
    projects: tuple[str, ...]
    also: dict[str, tuple[str, ...]]


class Router:
    """Decides, and remembers what it decided. Not for several threads at once."""

    def __init__(
        self, client: OrthancClient, projects: Iterable[Project], known_study: Callable[[str, str], bool]
    ) -> None:
        """`known_study` tells whether instances of a study (Study Instance UID) went to a project by its rules
        before."""
        self._client = client
        self._projects = [project for project in projects if not project.match.empty]
        self._known_study = known_study
        rules = [rule for project in self._projects for rule in project.match.conditions]
        # Of a patient nothing is remembered that no rule asks for.
        self._keywords = {keyword_for_tag(rule.tag) for rule in rules if rule.tag}
        self._series: _Memory[str, Series] = _Memory()
        self._own: _Memory[tuple[str, str, str, str], bool] = _Memory()
        self._study: _Memory[tuple[str, str], bool] = _Memory()
        self._joined: _Memory[tuple[str, str], bool] = _Memory()
        self._joining: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """Instances are routed that are written to the ledger together; what was not settled is asked for again."""
        self._joining.clear()

    def settle(self) -> None:
        """They are in the ledger, and with them the referring series that came before them."""
        for key in self._joining:
            self._joined.keep(key, True)
        self._joining.clear()

    @property
    def wanted(self) -> bool:
        """Whether any project takes instances as they arrive."""
        return bool(self._projects)

    def series(self, series_id: str) -> Series:
        """Return what a series says of itself. Raises NotFound."""
        found = self._series.get(series_id)
        if found is None:
            found = self._series.keep(series_id, changes.series(self._client, series_id, self._keywords))
        return found

    def route(self, stored: Stored) -> Routed:
        """Decide for the series of an instance. Raises NotFound when it has gone meanwhile."""
        series = self.series(stored.series)
        projects: list[str] = []
        also: dict[str, tuple[str, ...]] = {}
        for project in self._projects:
            if self._matches(project, series, stored):
                projects.append(project.name)
                also[project.name] = self._join(project, series)
            elif series.modality in REFERRING and self._follows(project, series):
                projects.append(project.name)
        return Routed(series, tuple(projects), also)

    def _matches(self, project: Project, series: Series, stored: Stored) -> bool:
        """Whether the rules themselves take a series; asked again only for another way in."""
        key = (project.name, series.series, stored.remote_aet, stored.called_aet)
        known = self._own.get(key)
        if known is None:
            attributes: dict[str, object] = {}
            known = self._own.keep(
                key, all(self._holds(rule, series, stored, attributes) for rule in project.match.conditions)
            )
        return known

    def _holds(self, rule: Condition, series: Series, stored: Stored, attributes: dict[str, object]) -> bool:
        if rule.kind == "remote_aet":
            return rule.matches([stored.remote_aet])
        if rule.kind == "called_aet":
            return rule.matches([stored.called_aet])
        tag = rule.tag or 0
        keyword = keyword_for_tag(tag)
        if keyword in series.tags:
            return rule.matches(changes.values_of(series.tags[keyword]))
        if not attributes:
            attributes.update(changes.attributes(self._client, stored.instance))
        return rule.matches(changes.values_of(attributes.get(f"{tag >> 16:04x},{tag & 0xFFFF:04x}")))

    def _join(self, project: Project, series: Series) -> tuple[str, ...]:
        """Note that a study is the project's; return its referring series, once, since they may have come before."""
        key = (project.name, series.study)
        if self._joined.get(key) or key in self._joining:
            return ()
        found = []
        for other in changes.series_of_study(self._client, series.study):
            with suppress(NotFound):  # it has gone meanwhile
                if other != series.series and self.series(other).modality in REFERRING:
                    found.append(other)
        self._study.keep(key, True)
        self._joining.add(key)
        return tuple(found)

    def _follows(self, project: Project, series: Series) -> bool:
        """Whether another series of the study is the project's by its rules."""
        key = (project.name, series.study)
        known = self._study.get(key)
        if known is None:
            known = self._study.keep(
                key, self._known_study(project.name, series.study_uid) or self._any(project, series)
            )
        return known

    def _any(self, project: Project, series: Series) -> bool:
        for other_id in changes.series_of_study(self._client, series.study):
            if other_id == series.series:
                continue
            try:
                first = changes.instances_of_series(self._client, other_id)[:1]
                for stored in changes.describe(self._client, first).values():
                    if self._matches(project, self.series(other_id), stored):
                        return True
            except NotFound:
                continue
        return False
