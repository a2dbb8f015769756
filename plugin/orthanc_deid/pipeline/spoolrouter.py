"""Which projects a file of the spool belongs to: the rules of routing.py, asked of the file itself.

Orthanc knows nothing of it, so what else there is of its study is known from the ledger and from what came since the
start; what refers to others and came before them waits with the unmatched until they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orthanc_deid.config import Condition, Project
from orthanc_deid.pipeline.routing import REFERRING, REMEMBERED
from orthanc_deid.pipeline.spoolfolder import Entry


class SpoolRouter:
    """Decides per series, by its first instance, and remembers. Not for several threads at once."""

    def __init__(self, projects: Iterable[Project], known_study: Callable[[str, str], bool]) -> None:
        """`known_study` tells whether instances of a study (Study Instance UID) went to a project before."""
        self._projects = [project for project in projects if not project.match.empty]
        self._known_study = known_study
        self._own: dict[tuple[str, str, str, str], bool] = {}
        self._studies: set[tuple[str, str]] = set()
        self._joining: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """Files are routed that are written to the ledger together; what was not settled is told again."""
        self._joining.clear()

    def settle(self) -> None:
        """They are in the ledger, and what refers to them and came before has been fetched back."""
        if len(self._studies) >= REMEMBERED:
            self._studies.clear()
        self._studies |= self._joining
        self._joining.clear()

    def route(self, entry: Entry) -> tuple[tuple[str, ...], bool]:
        """Return the projects of a file, and whether its study has just become one's by its rules."""
        projects = []
        joins = False
        for project in self._projects:
            study = (project.name, entry.study_uid)
            if self._matches(project, entry):
                projects.append(project.name)
                joins = joins or study not in self._studies
                self._joining.add(study)
            elif entry.modality in REFERRING and self._is_the_projects(study):
                projects.append(project.name)
        return tuple(projects), joins

    def _is_the_projects(self, study: tuple[str, str]) -> bool:
        return study in self._studies or study in self._joining or self._known_study(*study)

    def _matches(self, project: Project, entry: Entry) -> bool:
        key = (project.name, entry.series, entry.remote_aet, entry.called_aet)
        if key not in self._own:
            if len(self._own) >= REMEMBERED:
                self._own.clear()
            self._own[key] = all(self._holds(rule, entry) for rule in project.match.conditions)
        return self._own[key]

    @staticmethod
    def _holds(rule: Condition, entry: Entry) -> bool:
        if rule.kind == "remote_aet":
            return rule.matches([entry.remote_aet])
        if rule.kind == "called_aet":
            return rule.matches([entry.called_aet])
        return rule.matches(entry.attributes.get(rule.tag or 0, ()))
