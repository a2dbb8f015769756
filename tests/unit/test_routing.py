"""Match decides per series; what refers to a matched series of its study goes with it, whatever comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from orthanc_deid.config import Config
from orthanc_deid.orthanc.changes import Stored
from orthanc_deid.orthanc.client import NotFound
from orthanc_deid.pipeline.routing import Router


class Rest:
    """One study in memory: series by id with their modality and instances; counts what it is asked."""

    def __init__(
        self, series: dict[str, str], tags: dict[str, Any] | None = None, gone: frozenset[str] = frozenset()
    ) -> None:
        self.modalities = series
        self.gone = gone
        self.tags = tags or {}
        self.asked: list[str] = []

    def get_json(self, path: str, params: dict[str, Any] | None = None) -> Any:
        self.asked.append(path)
        level, name = path.split("/")[1:3]
        if level == "instances":
            return self.tags
        if name in self.gone:
            raise NotFound(path, 404)
        if level == "series":
            return {
                "ParentStudy": "study",
                "MainDicomTags": {"Modality": self.modalities[name]},
                "Instances": [f"{name}-1"],
            }
        return {
            "ID": "study",
            "MainDicomTags": {"StudyInstanceUID": "1.2", "StudyDescription": "LUNG follow up"},
            "PatientMainDicomTags": {"PatientID": "X"},
            "Series": list(self.modalities),
        }

    def post_json(self, path: str, body: dict[str, Any]) -> Any:
        return [{"ID": name, "ParentSeries": name.split("-")[0], "Metadata": {}} for name in body["Resources"]]


def stored(series: str, remote: str = "", called: str = "", number: int = 1) -> Stored:
    return Stored(f"{series}-{number}", series, "v", remote, called)


def router(rest: Rest, tmp_path: Path, known: bool = False, **matches: dict[str, Any]) -> Router:
    projects = {
        name: {"Profile": "basic", "Match": match, "Destinations": [{"Peer": "research"}]}
        for name, match in matches.items()
    }
    config = Config.parse({"Projects": projects}, data_directory=tmp_path)
    return Router(rest, config.projects.values(), lambda project, study: known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("match", "goes"),
    [
        ({"Modality": "CT"}, True),
        ({"Modality": ["MR", "CT"]}, True),
        ({"Modality": "C"}, False),
        ({"RemoteAET": "CT1|CT2"}, True),
        ({"RemoteAET": "CT"}, False),
        ({"CalledAET": "LUNG"}, True),
        ({"RemoteAET": "CT1", "CalledAET": "OTHER"}, False),
        ({"StudyDescription": "LUNG.*"}, True),
        ({"StudyDescription": "LUNG"}, False),
        ({"ImageType": "AXIAL"}, True),
        ({"0008,0008": "LOCALIZER"}, False),
        ({}, False),
    ],
)
def test_rules(tmp_path: Path, match: dict[str, Any], goes: bool) -> None:
    rest = Rest({"ct": "CT"}, {"0008,0008": "ORIGINAL\\PRIMARY\\AXIAL"})
    routed = router(rest, tmp_path, lung=match).route(stored("ct", "CT1", "LUNG"))
    assert routed.projects == (("lung",) if goes else ())


def test_a_referring_series_follows_what_came_before(tmp_path: Path) -> None:
    one = router(Rest({"ct": "CT", "seg": "SEG", "us": "US"}), tmp_path, lung={"Modality": "CT"})
    assert one.route(stored("ct")).projects == ("lung",)
    assert one.route(stored("seg")).projects == ("lung",)
    assert one.route(stored("us")).projects == ()


def test_a_referring_series_that_came_first_is_fetched(tmp_path: Path) -> None:
    rest = Rest({"seg": "SEG", "sr": "SR", "us": "US"})
    one = router(rest, tmp_path, lung={"Modality": "CT"})
    assert one.route(stored("seg")).projects == ()
    rest.modalities["ct"] = "CT"
    routed = one.route(stored("ct"))
    assert routed.projects == ("lung",)
    assert set(routed.also["lung"]) == {"seg", "sr"}
    assert one.route(stored("ct", number=2)).also["lung"] == (), "once for a study"
    one.begin()
    assert set(one.route(stored("ct", number=2)).also["lung"]) == {"seg", "sr"}, "it did not get into the ledger"
    one.settle()
    one.begin()
    assert one.route(stored("ct", number=3)).also["lung"] == ()
    assert one.route(stored("seg", number=2)).projects == ("lung",)


def test_a_sibling_that_has_gone_takes_nobody_along(tmp_path: Path) -> None:
    rest = Rest({"ct": "CT", "seg": "SEG", "gone": "SR"}, gone=frozenset({"gone"}))
    routed = router(rest, tmp_path, lung={"Modality": "CT"}).route(stored("ct"))
    assert routed.projects == ("lung",) and routed.also["lung"] == ("seg",)


def test_after_a_restart_the_study_is_still_known(tmp_path: Path) -> None:
    # The CT may have left Orthanc meanwhile: the ledger remembers.
    assert router(Rest({"seg": "SEG"}), tmp_path, known=True, lung={"Modality": "CT"}).route(stored("seg")).projects
    assert router(Rest({"seg": "SEG", "ct": "CT"}), tmp_path, lung={"Modality": "CT"}).route(stored("seg")).projects
    assert not router(Rest({"seg": "SEG"}), tmp_path, lung={"Modality": "CT"}).route(stored("seg")).projects


def test_several_projects_each_by_its_own_rules(tmp_path: Path) -> None:
    one = router(Rest({"ct": "CT", "mr": "MR"}), tmp_path, a={"Modality": "CT"}, b={"Modality": "CT|MR"})
    assert one.route(stored("ct")).projects == ("a", "b")
    assert one.route(stored("mr")).projects == ("b",)


def test_a_series_is_looked_up_once(tmp_path: Path) -> None:
    rest = Rest({"ct": "CT"})
    one = router(rest, tmp_path, lung={"Modality": "CT"})
    one.route(stored("ct"))
    before = len(rest.asked)
    for number in range(50):
        one.route(stored("ct", number=number))
    assert len(rest.asked) == before


def test_another_way_in_is_another_decision(tmp_path: Path) -> None:
    one = router(Rest({"ct": "CT"}), tmp_path, lung={"RemoteAET": "CT1"})
    assert one.route(stored("ct", "WORKSTATION")).projects == ()
    assert one.route(stored("ct", "CT1")).projects == ("lung",)


def test_of_a_patient_only_what_rules_ask_for_is_remembered(tmp_path: Path) -> None:
    made = router(Rest({"a": "CT"}), tmp_path, lung={"StudyDescription": "LUNG.*"}, brain={"Modality": "MR"})
    made.route(stored("a"))
    assert made.series("a").tags == {"StudyDescription": "LUNG follow up", "Modality": "CT"}
