"""Clean Structured Content, references and Clean Graphics on whole objects (PS3.15 E.3.3, E.3.4)."""

from __future__ import annotations

import csv
import datetime
import io
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.deidentify import deidentify as run
from orthanc_deid.core.profile import Profile, ProfileError
from orthanc_deid.core.sinks import BytesSink
from orthanc_deid.core.source import Source
from orthanc_deid.core.uids import map_uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests import builders, raw
from tests.canaries import Mint, leaks
from tests.conformance.test_dciodvfy import TOOL, errors
from tests.engine import SUBJECT
from tests.objects.base import Origin, code, common, extend, make, origin, person

STRUCTURED = ("clean-structured-content",)
MODIFIED = (*STRUCTURED, "clean-descriptors", "retain-longitudinal-modified-dates")
FULL = (*STRUCTURED, "clean-descriptors", "retain-longitudinal-full-dates")
GRAPHICS = ("clean-graphics", "clean-descriptors")
COMPREHENSIVE_3D = "1.2.840.10008.5.1.4.1.1.88.34"
DOSE = "1.2.840.10008.5.1.4.1.1.88.67"
ANNOTATIONS = "1.2.840.10008.5.1.4.1.1.91.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
DSRDUMP = shutil.which("dsrdump")
DAYS = datetime.timedelta(days=SUBJECT.date_offset)


@cache
def profile(options: tuple[str, ...], references: str = "remove") -> Profile:
    content: dict[str, Any] = {"name": "test", "options": list(options), "references": references}
    try:
        return Profile.parse(content)
    except ProfileError as error:  # options that disagree about an attribute of devices: it goes
        keywords = [line.split()[1] for line in error.errors if "has to be decided" in line]
        content["attributes"] = [{"attribute": one, "action": "remove", "reason": "a device's"} for one in keywords]
        return Profile.parse(content)


def deidentify(dataset: Dataset, options: tuple[str, ...], references: str = "remove") -> tuple[Dataset, bytes]:
    source, sink = Source.from_bytes(builders.to_bytes(dataset)), BytesSink()
    run(source, profile(options, references).plan(source.facts.sop_class), SUBJECT, sink)
    return pydicom.dcmread(io.BytesIO(sink.getvalue())), sink.getvalue()


def item(kind: str, relation: str, concept: Dataset | None, **values: Any) -> Dataset:
    d = make(RelationshipType=relation, ValueType=kind)
    if concept is not None:
        d.ConceptNameCodeSequence = [concept]
    return extend(d, **values)


def local(meaning: str = "Something") -> Dataset:
    """A concept that no table knows."""
    return code("77", "99LOCAL", meaning)


def image(uid: str, **more: Any) -> Dataset:
    return make(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=uid, **more)


def document(content: list[Dataset], sop_class: str = COMPREHENSIVE_3D, title: Dataset | None = None) -> Dataset:
    """A valid report around `content`."""
    d = builders.PASS["sr_measurements"]()
    d.SOPClassUID = sop_class
    d.ContentSequence = content
    if title is not None:
        d.ConceptNameCodeSequence = [title]
    return d


def items(dataset: Dataset, path: str = "") -> Iterator[tuple[str, Dataset]]:
    """Content items depth first, with the positions that references within a document count."""
    for number, one in enumerate(dataset.get("ContentSequence", []), 1):
        where = f"{path}.{number}" if path else str(number)
        yield where, one
        yield from items(one, where)


def shape(dataset: Dataset) -> list[tuple[str, str, str, str]]:
    """What a reader navigates by: position, relationship, Value Type and concept of every item."""
    found = []
    for where, one in items(dataset):
        concept = one.get("ConceptNameCodeSequence") or [Dataset()]
        found.append(
            (where, one.get("RelationshipType", ""), one.get("ValueType", ""), str(concept[0].get("CodeValue")))
        )
    return found


def value(dataset: Dataset, where: str) -> Dataset:
    return dict(items(dataset))[where]


def moved(date: str) -> str:
    return (datetime.datetime.strptime(date[:8], "%Y%m%d") + DAYS).strftime("%Y%m%d") + date[8:]


def mapped(uid: str) -> str:
    return map_uid(SUBJECT.uid_key, uid)


def every_type(mint: Mint, level: int = 0) -> list[Dataset]:
    """Items of every Value Type with canaries, nested three deep."""

    def where(what: str) -> str:
        return f"{what} at level {level}"

    coordinates = make(ReferencedSOPSequence=[image(mint.uid(where("SCOORD image")))])
    coordinates.RelationshipType, coordinates.ValueType = "SELECTED FROM", "IMAGE"
    cells = [
        make(TableRowNumber=1, TableColumnNumber=1, TextValue=mint.token(where("cell text"))),
        make(TableRowNumber=1, TableColumnNumber=2, PersonName=mint.name(where("cell name"))),
        make(TableRowNumber=1, TableColumnNumber=3, Date=mint.date(where("cell date"))),
        make(TableRowNumber=1, TableColumnNumber=4, UID=mint.uid(where("cell UID"))),
    ]
    table = make(
        NumberOfTableRows=1,
        NumberOfTableColumns=4,
        TableRowDefinitionSequence=[make(TableRowNumber=1, ConceptNameCodeSequence=[local()])],
        TableColumnDefinitionSequence=[
            make(TableColumnNumber=number, ConceptNameCodeSequence=[local()]) for number in (1, 2, 3, 4)
        ],
        CellValuesSequence=cells,
    )
    found = [
        item("TEXT", "CONTAINS", local(), TextValue=mint.token(where("TEXT"))),
        item("PNAME", "CONTAINS", local(), PersonName=mint.name(where("PNAME"))),
        item("DATE", "CONTAINS", local(), Date=mint.date(where("DATE"))),
        item("TIME", "CONTAINS", local(), Time="101112"),
        item("DATETIME", "CONTAINS", local(), DateTime=mint.date(where("DATETIME")) + "101112"),
        item("UIDREF", "CONTAINS", local(), UID=mint.uid(where("UIDREF"))),
        item("CODE", "CONTAINS", local(), ConceptCodeSequence=[code("4147007", "SCT", "Mass")]),
        item(
            "NUM",
            "CONTAINS",
            code("410668003", "SCT", "Length"),
            MeasuredValueSequence=[
                make(NumericValue="12.5", MeasurementUnitsCodeSequence=[code("mm", "UCUM", "millimeter")])
            ],
        ),
        item("IMAGE", "CONTAINS", local(), ReferencedSOPSequence=[image(mint.uid(where("IMAGE")))]),
        item(
            "COMPOSITE",
            "CONTAINS",
            local(),
            ReferencedSOPSequence=[
                make(ReferencedSOPClassUID=DOSE, ReferencedSOPInstanceUID=mint.uid(where("COMPOSITE")))
            ],
        ),
        item(
            "WAVEFORM",
            "CONTAINS",
            local(),
            ReferencedSOPSequence=[
                make(
                    ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.9.1.1",
                    ReferencedSOPInstanceUID=mint.uid(where("WAVEFORM")),
                    ReferencedWaveformChannels=[1, 1],
                )
            ],
        ),
        item(
            "SCOORD",
            "CONTAINS",
            local(),
            GraphicType="POLYLINE",
            GraphicData=[1.5, 2.5, 3.5, 4.5],
            FiducialUID=mint.uid(where("fiducial")),
            ContentSequence=[coordinates],
        ),
        item(
            "SCOORD3D",
            "CONTAINS",
            local(),
            GraphicType="POINT",
            GraphicData=[1.0, 2.0, 3.0],
            ReferencedFrameOfReferenceUID=mint.uid(where("SCOORD3D frame")),
        ),
        item(
            "TCOORD",
            "CONTAINS",
            local(),
            TemporalRangeType="POINT",
            ReferencedDateTime=mint.date(where("TCOORD")) + "101112",
        ),
        item("TABLE", "CONTAINS", local(), TabulatedValuesSequence=[table]),
        item("POEM", "CONTAINS", local(), TextValue=mint.token(where("unknown type")), UID=mint.uid(where("its UID"))),
        item("TEXT", "CONTAINS", None, TextValue=mint.token(where("text without a concept"))),
        item(
            "TEXT",
            "HAS OBS CONTEXT",
            local(),
            TextValue="Seen",
            ObservationDateTime=mint.date(where("observation")) + "101112",
            ObservationUID=mint.uid(where("observation UID")),
            PersonName=mint.name(where("name in a TEXT")),
        ),
    ]
    inner = every_type(mint, level + 1) if level < 2 else []
    inner.append(make(RelationshipType="INFERRED FROM", ReferencedContentItemIdentifier=[1, 8]))
    found.append(item("CONTAINER", "CONTAINS", local(), ContinuityOfContent="SEPARATE", ContentSequence=inner))
    return found


@pytest.mark.parametrize("options", [STRUCTURED, MODIFIED, (*MODIFIED, "retain-device-identity"), FULL], ids=len)
def test_a_tree_of_every_value_type(options: tuple[str, ...]) -> None:
    mint = Mint()
    source = document(every_type(mint))
    found, out = deidentify(source, options)
    wanted = [one for one in mint.made if options != FULL or one.kind != "date"]
    assert [str(leak) for leak in leaks(out, wanted)] == []
    assert shape(found) == shape(source)
    for where, before in items(source):
        after = value(found, where)
        for keyword in ("ConceptCodeSequence", "GraphicData", "GraphicType", "ReferencedContentItemIdentifier"):
            assert after.get(keyword) == before.get(keyword), (where, keyword)
        kind = before.get("ValueType")
        if kind == "NUM":
            assert after.MeasuredValueSequence == before.MeasuredValueSequence
        if kind == "UIDREF":
            assert mapped(before.UID) == after.UID
        if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
            reference = after.ReferencedSOPSequence[0]
            assert reference.ReferencedSOPInstanceUID == mapped(
                before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            )
            assert reference.ReferencedSOPClassUID == before.ReferencedSOPSequence[0].ReferencedSOPClassUID
        if kind == "SCOORD3D":
            assert after.ReferencedFrameOfReferenceUID == mapped(before.ReferencedFrameOfReferenceUID)
        if kind == "PNAME":
            assert str(after.PersonName) == "REMOVED"
        if kind in ("DATE", "DATETIME"):
            keyword = "Date" if kind == "DATE" else "DateTime"
            day = before[keyword].value
            if options == FULL:
                assert after[keyword].value == day
            elif options == STRUCTURED:
                assert after[keyword].value.startswith("1900")
            else:
                assert after[keyword].value == moved(day)


def test_without_the_option_the_content_is_replaced() -> None:
    mint = Mint()
    found, out = deidentify(document(every_type(mint)), ("clean-descriptors",))
    assert not leaks(out, mint.made)
    assert len(found.ContentSequence) == 1
    assert found.ContentSequence[0].TextValue == "Removed"


def test_identifying_items_of_every_template_go_whatever_stays_otherwise() -> None:
    """Person observer, accession, subject, device, stations, UDI: by the concept, in the Value Type of the table."""
    mint = Mint()
    content = [
        item(
            "PNAME", "HAS OBS CONTEXT", code("121008", "DCM", "Person Observer Name"), PersonName=mint.name("observer")
        ),
        item("TEXT", "HAS OBS CONTEXT", code("121022", "DCM", "Accession Number"), TextValue="HEAD 123"),
        item("PNAME", "HAS OBS CONTEXT", code("121029", "DCM", "Subject Name"), PersonName=mint.name("subject")),
        item("TEXT", "HAS OBS CONTEXT", code("121030", "DCM", "Subject ID"), TextValue="CHEST"),
        item("DATE", "HAS OBS CONTEXT", code("121031", "DCM", "Subject Birth Date"), Date=mint.date("birth date")),
        item("TEXT", "HAS OBS CONTEXT", code("121016", "DCM", "Device Observer Serial Number"), TextValue="HEAD"),
        item("TEXT", "HAS OBS CONTEXT", code("110119", "DCM", "Station AE Title"), TextValue="CHEST"),
        item(
            "CODE",
            "HAS OBS CONTEXT",
            code("121032", "DCM", "Subject Sex"),
            ConceptCodeSequence=[code("F", "DCM", "Female")],
        ),
        item(
            "NUM",
            "HAS OBS CONTEXT",
            code("121033", "DCM", "Subject Age"),
            MeasuredValueSequence=[make(NumericValue="93", MeasurementUnitsCodeSequence=[code("a", "UCUM", "years")])],
        ),
        item("TEXT", "CONTAINS", code("121071", "DCM", "Finding"), TextValue="HEAD"),
    ]
    found, out = deidentify(document(content), MODIFIED)
    assert not leaks(out, mint.made)
    texts = [one.get("TextValue") for _, one in items(found)]
    assert texts == [None, "REMOVED", None, "REMOVED", None, "REMOVED", "REMOVED", None, None, "HEAD"]
    assert str(value(found, "3").PersonName) == "REMOVED"
    assert value(found, "5").Date == "19000101"
    assert value(found, "8").ConceptCodeSequence[0].CodeValue != "F"
    assert value(found, "9").MeasuredValueSequence == Sequence()
    kept, _ = deidentify(document(content), (*MODIFIED, "retain-device-identity", "retain-patient-characteristics"))
    assert value(kept, "6").TextValue == "HEAD"
    assert value(kept, "7").TextValue == "CHEST"
    assert value(kept, "8").ConceptCodeSequence[0].CodeValue == "F"
    assert value(kept, "9").MeasuredValueSequence == Sequence()
    assert value(kept, "2").TextValue == "REMOVED"


def test_the_patients_own_values_in_the_text_of_a_report_go() -> None:
    p = person(1)
    family, given = p.name.split("^")[:2]
    text = f"{family}, {given} ({p.patient_id}) was seen; call {p.phone}"
    content = [item("TEXT", "CONTAINS", code("121071", "DCM", "Finding"), TextValue=text)]
    _, out = deidentify(document(content), MODIFIED)
    for secret in (family, given, p.patient_id, p.phone):
        assert secret.encode() not in out


def dose_report(mint: Mint, event: str) -> Dataset:
    """Shaped like TID 10011: a CT dose report with its device, scope, totals and one irradiation event."""

    def number(concept: tuple[str, str], amount: str, unit: str) -> Dataset:
        return item(
            "NUM",
            "CONTAINS",
            code(concept[0], "DCM", concept[1]),
            MeasuredValueSequence=[make(NumericValue=amount, MeasurementUnitsCodeSequence=[code(unit, "UCUM", unit)])],
        )

    started, ended = mint.date("start of irradiation") + "101112", mint.date("end of irradiation") + "101212"
    acquisition = item(
        "CONTAINER",
        "CONTAINS",
        code("113819", "DCM", "CT Acquisition"),
        ContinuityOfContent="SEPARATE",
        ContentSequence=[
            item("TEXT", "CONTAINS", code("125203", "DCM", "Acquisition Protocol"), TextValue="CHEST"),
            item(
                "CODE",
                "CONTAINS",
                code("113820", "DCM", "CT Acquisition Type"),
                ConceptCodeSequence=[code("116152004", "SCT", "Spiral Acquisition")],
            ),
            item("UIDREF", "CONTAINS", code("113769", "DCM", "Irradiation Event UID"), UID=event),
            number(("113824", "Exposure Time"), "2.5", "s"),
            number(("113830", "Mean CTDIvol"), "8.25", "mGy"),
            number(("113838", "DLP"), "321.5", "mGy.cm"),
            item("TEXT", "CONTAINS", code("113832", "DCM", "Identification of the X-Ray Source"), TextValue="1"),
        ],
    )
    content = [
        item(
            "CODE",
            "HAS CONCEPT MOD",
            code("121058", "DCM", "Procedure reported"),
            ConceptCodeSequence=[code("77477000", "SCT", "Computed Tomography X-Ray")],
        ),
        item(
            "CODE",
            "HAS OBS CONTEXT",
            code("121005", "DCM", "Observer Type"),
            ConceptCodeSequence=[code("121007", "DCM", "Device")],
        ),
        item("UIDREF", "HAS OBS CONTEXT", code("121012", "DCM", "Device Observer UID"), UID=mint.uid("device")),
        item("TEXT", "HAS OBS CONTEXT", code("121013", "DCM", "Device Observer Name"), TextValue=mint.token("station")),
        item("TEXT", "HAS OBS CONTEXT", code("121014", "DCM", "Device Observer Manufacturer"), TextValue="SIEMENS"),
        item("TEXT", "HAS OBS CONTEXT", code("121016", "DCM", "Device Observer Serial Number"), TextValue="48213"),
        item(
            "TEXT",
            "HAS OBS CONTEXT",
            code("121017", "DCM", "Device Observer Physical Location During Observation"),
            TextValue=mint.token("room"),
        ),
        item("DATETIME", "HAS OBS CONTEXT", code("113809", "DCM", "Start of X-Ray Irradiation"), DateTime=started),
        item("DATETIME", "HAS OBS CONTEXT", code("113810", "DCM", "End of X-Ray Irradiation"), DateTime=ended),
        item(
            "CODE",
            "HAS OBS CONTEXT",
            code("113705", "DCM", "Scope of Accumulation"),
            ConceptCodeSequence=[code("113014", "DCM", "Study")],
            ContentSequence=[
                item("UIDREF", "HAS PROPERTIES", code("110180", "DCM", "Study Instance UID"), UID=origin().study_uid)
            ],
        ),
        item(
            "CONTAINER",
            "CONTAINS",
            code("113811", "DCM", "CT Accumulated Dose Data"),
            ContinuityOfContent="SEPARATE",
            ContentSequence=[
                number(("113812", "Total Number of Irradiation Events"), "1", "{events}"),
                number(("113813", "CT Dose Length Product Total"), "321.5", "mGy.cm"),
            ],
        ),
        acquisition,
        item(
            "CODE",
            "CONTAINS",
            code("113854", "DCM", "Source of Dose Information"),
            ConceptCodeSequence=[code("113856", "DCM", "Automated Data Collection")],
        ),
    ]
    d = document(content, DOSE, code("113701", "DCM", "X-Ray Radiation Dose Report"))
    d.ContentTemplateSequence = [make(MappingResource="DCMR", TemplateIdentifier="10011")]
    d.VerificationFlag = "UNVERIFIED"
    del d.VerifyingObserverSequence
    return d


def test_a_dose_report_keeps_its_doses_and_loses_its_device() -> None:
    mint = Mint()
    event = mint.uid("event")
    source = dose_report(mint, event)
    found, out = deidentify(source, MODIFIED)
    assert not leaks(out, mint.made)
    assert shape(found) == shape(source)
    numbers = {where: one.MeasuredValueSequence for where, one in items(source) if one.get("ValueType") == "NUM"}
    assert len(numbers) == 5
    for where, measured in numbers.items():
        assert value(found, where).MeasuredValueSequence == measured
    assert mapped(event) == value(found, "12.3").UID
    assert found.StudyInstanceUID == value(found, "10.1").UID
    assert value(found, "6").TextValue == "REMOVED"
    assert value(found, "12.7").TextValue == "REMOVED"
    assert value(found, "8").DateTime == moved(value(source, "8").DateTime)
    assert value(found, "9").DateTime == moved(value(source, "9").DateTime)
    assert value(found, "12.1").TextValue == "CHEST"
    assert found.ContentTemplateSequence[0].TemplateIdentifier == "10011"
    ct = builders.PASS["ct"](rows=8, columns=8)
    ct.IrradiationEventUID = event
    assert deidentify(ct, MODIFIED)[0].IrradiationEventUID == mapped(event)


def references(dataset: Dataset) -> set[str]:
    """Instances that an object refers to, wherever."""
    return {
        one.value
        for one in dataset.iterall()
        if one.keyword == "ReferencedSOPInstanceUID" and one.value and not one.value.startswith("1.2.840.10008.")
    }


def study() -> list[Dataset]:
    """A CT series, of which later images refer to the first one, and the documents that are about it."""
    p = person(1)
    slices = [builders.PASS["ct"](Origin(p, 1, 1, number), rows=8, columns=8) for number in (1, 2, 3)]
    for one in slices[1:]:
        one.ReferencedImageSequence = [image(slices[0].SOPInstanceUID)]
        one.SourceImageSequence = [image(slices[0].SOPInstanceUID)]
        one.ReferencedStudySequence = []
        one.ReferencedPerformedProcedureStepSequence = []
    others = ("sr_comprehensive", "sr_measurements", "kos", "gsps")
    documents = [builders.PASS[name](Origin(p, 1, number)) for number, name in enumerate(others, 8)]
    seg = builders.PASS["seg"](Origin(p, 1, 3), source=slices[0])
    return [*slices, *documents, seg, builders.PASS["rtstruct"](Origin(p, 1, 4), source=slices[0])]


def test_every_reference_between_outputs_resolves() -> None:
    sources = study()
    outputs = [deidentify(one, (*MODIFIED, "clean-graphics"), "keep")[0] for one in sources]
    there = {one.SOPInstanceUID for one in outputs}
    before = {one.SOPInstanceUID for one in sources}
    assert len(there) == len(before)
    for source, output in zip(sources, outputs, strict=True):
        expected = {mapped(uid) for uid in references(source)}
        assert expected, source.SOPClassUID.name
        inside = {mapped(uid) for uid in references(source) & before}
        assert inside <= references(output) & there, source.SOPClassUID.name
        assert references(output) <= expected, source.SOPClassUID.name


def test_references_are_removed_where_the_profile_does_not_keep_them() -> None:
    second = study()[1]
    found, _ = deidentify(second, MODIFIED)
    assert "ReferencedImageSequence" not in found
    assert "SourceImageSequence" not in found
    kept, _ = deidentify(second, MODIFIED, "keep")
    assert kept.SourceImageSequence[0].ReferencedSOPInstanceUID == mapped(study()[0].SOPInstanceUID)


def test_kept_references_carry_nothing_else_along() -> None:
    mint = Mint()
    second = study()[1]
    second.SourceImageSequence = [
        image(
            mint.uid("source"),
            PatientName=mint.name("name"),
            StudyDescription=mint.token("text"),
            StudyDate=mint.date("date"),
            PurposeOfReferenceCodeSequence=[code("121322", "DCM", "Source image")],
            SpatialLocationsPreserved="YES",
        )
    ]
    second.ReferencedPatientSequence = [image(mint.uid("patient"))]
    found, out = deidentify(second, MODIFIED, "keep")
    assert not leaks(out, mint.made)
    assert found.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert found.SourceImageSequence[0].SpatialLocationsPreserved == "YES"
    assert "ReferencedPatientSequence" not in found


def presentation(mint: Mint) -> Dataset:
    d = builders.PASS["gsps"]()
    reference = d.GraphicAnnotationSequence[0].ReferencedImageSequence[0]
    text = make(
        UnformattedTextValue=f"HEAD {mint.token('annotation')}",
        BoundingBoxAnnotationUnits="PIXEL",
        BoundingBoxTopLeftHandCorner=[1.0, 2.0],
        BoundingBoxBottomRightHandCorner=[3.0, 4.0],
        BoundingBoxTextHorizontalJustification="LEFT",
    )
    line = make(
        GraphicAnnotationUnits="PIXEL",
        GraphicDimensions=2,
        NumberOfGraphicPoints=2,
        GraphicData=[1.5, 2.5, 3.5, 4.5],
        GraphicType="POLYLINE",
        GraphicFilled="N",
    )
    ruler = make(
        CompoundGraphicInstanceID=1,
        CompoundGraphicUnits="PIXEL",
        GraphicDimensions=2,
        NumberOfGraphicPoints=2,
        GraphicData=[1.5, 2.5, 3.5, 4.5],
        CompoundGraphicType="RULER",
        MajorTicksSequence=[make(TickPosition=0.5, TickLabel=mint.token("tick"))],
    )
    extend(
        d,
        ContentDescription=mint.token("content description"),
        GraphicAnnotationSequence=[
            make(
                ReferencedImageSequence=[reference],
                GraphicLayer="LAYER1",
                TextObjectSequence=[text],
                GraphicObjectSequence=[line],
                CompoundGraphicSequence=[ruler],
            )
        ],
        GraphicLayerSequence=[
            make(GraphicLayer="LAYER1", GraphicLayerOrder=1, GraphicLayerDescription=mint.token("layer"))
        ],
        GraphicGroupSequence=[
            make(
                GraphicGroupID=1, GraphicGroupLabel=mint.token("group"), GraphicGroupDescription=mint.token("about it")
            )
        ],
    )
    return d


def test_graphics_keep_their_shapes_and_lose_what_is_written() -> None:
    mint = Mint()
    source = presentation(mint)
    source.add_new(0x60000010, "US", 8)
    source.add_new(0x60000011, "US", 8)
    source.add_new(0x60000022, "LO", mint.token("overlay description"))
    source.add_new(0x60003000, "OW", mint.value("OW", "overlay"))
    source.add_new(0x50003000, "OW", mint.value("OW", "curve"))
    source.IconImageSequence = [make(Rows=1, Columns=2)]
    found, out = deidentify(source, GRAPHICS)
    assert not leaks(out, mint.made)
    annotation, before = found.GraphicAnnotationSequence[0], source.GraphicAnnotationSequence[0]
    assert annotation.GraphicObjectSequence == before.GraphicObjectSequence
    assert annotation.CompoundGraphicSequence[0].GraphicData == [1.5, 2.5, 3.5, 4.5]
    assert annotation.TextObjectSequence[0].UnformattedTextValue.startswith("HEAD")
    assert annotation.TextObjectSequence[0].BoundingBoxTopLeftHandCorner == [1.0, 2.0]
    assert annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID == mapped(
        before.ReferencedImageSequence[0].ReferencedSOPInstanceUID
    )
    assert found.GraphicLayerSequence[0].GraphicLayer == "LAYER1"
    assert not any(el.tag.group in (0x5000, 0x6000) for el in found)
    assert "IconImageSequence" not in found


def test_graphics_alone_have_no_text_at_all() -> None:
    mint = Mint()
    source = presentation(mint)
    found, out = deidentify(source, ("clean-graphics",))
    assert not leaks(out, mint.made)
    assert found.GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue == "REMOVED"
    assert found.GraphicAnnotationSequence[0].GraphicObjectSequence[0].GraphicData == [1.5, 2.5, 3.5, 4.5]


def test_without_the_option_annotations_are_replaced() -> None:
    mint = Mint()
    found, out = deidentify(presentation(mint), ("clean-descriptors",))
    assert not leaks(out, mint.made)
    assert len(found.GraphicAnnotationSequence) == 1
    assert "GraphicObjectSequence" not in found.GraphicAnnotationSequence[0]


def slide_annotations(mint: Mint) -> Dataset:
    """Annotations of a whole-slide image: points in groups."""
    d = common(origin(series=21), ANNOTATIONS, "ANN")
    points = struct.pack("<4f", 1.5, 2.5, 3.5, 4.5)
    group = make(
        AnnotationGroupNumber=1,
        AnnotationGroupUID=mint.uid("group"),
        AnnotationGroupLabel=mint.token("group label"),
        AnnotationGroupDescription=mint.token("group description"),
        AnnotationGroupGenerationType="MANUAL",
        AnnotationPropertyCategoryCodeSequence=[code("91723000", "SCT", "Anatomical Structure")],
        AnnotationPropertyTypeCodeSequence=[code("84640000", "SCT", "Nucleus")],
        NumberOfAnnotations=2,
        GraphicType="POINT",
        AnnotationAppliesToAllOpticalPaths="YES",
        PointCoordinatesData=points,
    )
    return extend(
        d,
        ContentLabel="NUCLEI",
        ContentDescription=mint.token("content description"),
        ContentCreatorName=mint.name("creator"),
        AnnotationCoordinateType="2D",
        PixelOriginInterpretation="VOLUME",
        AnnotationGroupSequence=[group],
        ReferencedSeriesSequence=[
            make(
                SeriesInstanceUID=mint.uid("series"),
                ReferencedInstanceSequence=[
                    make(
                        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6",
                        ReferencedSOPInstanceUID=mint.uid("slide"),
                    )
                ],
            )
        ],
    )


@pytest.mark.parametrize("options", [GRAPHICS, ("clean-graphics",), MODIFIED], ids=len)
def test_annotations_of_slides_keep_their_points(options: tuple[str, ...]) -> None:
    mint = Mint()
    source = slide_annotations(mint)
    found, out = deidentify(source, options)
    assert not leaks(out, mint.made)
    group, before = found.AnnotationGroupSequence[0], source.AnnotationGroupSequence[0]
    assert group.PointCoordinatesData == before.PointCoordinatesData
    assert group.AnnotationPropertyTypeCodeSequence == before.AnnotationPropertyTypeCodeSequence
    assert group.AnnotationGroupUID == mapped(before.AnnotationGroupUID)
    assert group.AnnotationGroupLabel
    reference = found.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    old = source.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert reference.ReferencedSOPInstanceUID == mapped(old.ReferencedSOPInstanceUID)


def test_acquisition_context_follows_the_same_rules() -> None:
    mint = Mint()
    d = builders.PASS["ct"](rows=8, columns=8)
    d.AcquisitionContextSequence = [
        make(ConceptNameCodeSequence=[local()], NumericValue="12.5", MeasurementUnitsCodeSequence=[local()]),
        make(ValueType="TEXT", ConceptNameCodeSequence=[local()], TextValue=mint.token("text")),
        make(ValueType="PNAME", ConceptNameCodeSequence=[local()], PersonName=mint.name("name")),
        make(ValueType="CODE", ConceptNameCodeSequence=[local()], ConceptCodeSequence=[code("1", "99LOCAL", "One")]),
        make(ValueType="TEXT", ConceptNameCodeSequence=[code("121030", "DCM", "Subject ID")], TextValue="HEAD"),
    ]
    found, out = deidentify(d, MODIFIED)
    assert not leaks(out, mint.made)
    context = found.AcquisitionContextSequence
    assert len(context) == 5
    assert context[0].NumericValue == 12.5
    assert context[3].ConceptCodeSequence[0].CodeMeaning == "One"
    assert context[4].TextValue == "REMOVED"


@pytest.mark.parametrize("keyword", ["ContentItemModifierSequence", "PerformedProcessingParametersSequence"])
def test_content_items_follow_the_same_rules_wherever_they_stand(keyword: str) -> None:
    modifiers = [
        make(ValueType="DATE", ConceptNameCodeSequence=[code("121031", "DCM", "Subject Birth Date")], Date="19640311"),
        make(ValueType="TEXT", ConceptNameCodeSequence=[code("121030", "DCM", "Subject ID")], TextValue="lung"),
    ]
    d = document([item("TEXT", "CONTAINS", local(), TextValue="lung", **{keyword: modifiers})])
    for options in (MODIFIED, FULL):
        out = deidentify(d, options)[0].ContentSequence[0]
        birth, subject = out[keyword].value
        assert (birth.Date, subject.TextValue) == ("19000101", "REMOVED")
        assert out.TextValue == "lung"


def test_content_sent_as_un_is_cleaned_too() -> None:
    mint = Mint()
    source = document(every_type(mint))
    file = builders.to_bytes(source, un=[0x0040A730])
    reader, sink = Source.from_bytes(file), BytesSink()
    run(reader, profile(MODIFIED).plan(reader.facts.sop_class), SUBJECT, sink)
    assert not leaks(sink.getvalue(), mint.made)
    dates = [el for _, el in raw.walk(raw.parse(sink.getvalue())[1]) if el.tag == 0x0040A121]
    assert len(dates) == 6


def made() -> Iterable[tuple[str, Dataset]]:
    yield "every type", document(every_type(Mint()))
    yield "dose", dose_report(Mint(), Mint().uid("event"))
    yield "presentation", presentation(Mint())
    yield "annotations", slide_annotations(Mint())
    for name in ("sr_basic", "sr_comprehensive", "sr_measurements", "kos", "gsps"):
        yield name, builders.PASS[name]()
    yield "referring ct", study()[1]


@pytest.mark.skipif(TOOL is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize(
    "options", [STRUCTURED, (*MODIFIED, "clean-graphics"), (*FULL, "clean-graphics"), ("clean-graphics",)], ids=len
)
@pytest.mark.parametrize(("name", "dataset"), list(made()), ids=[name for name, _ in made()])
def test_no_new_error(name: str, dataset: Dataset, options: tuple[str, ...], tmp_path: Path) -> None:
    before = errors(builders.to_bytes(dataset), tmp_path)
    _, out = deidentify(dataset, options, "keep")
    assert errors(out, tmp_path) - before == {}, name


@pytest.mark.parametrize(
    "name", ["Text^Code", "Image^Num", "Contains^From", "Smith^John^^Mr", "Separate^Date", "Point^Ct"]
)
def test_a_name_that_is_a_word_of_the_structure_leaves_the_structure_alone(name: str) -> None:
    for source in (document(every_type(Mint())), presentation(Mint()), builders.PASS["kos"]()):
        source.PatientName = name
        found, _ = deidentify(source, (*MODIFIED, "clean-graphics"))
        assert shape(found) == shape(source)
        assert found.Modality == source.Modality
        drawn = source.get("GraphicAnnotationSequence", [])
        assert len(found.get("GraphicAnnotationSequence", [])) == len(drawn)
        for number, before in enumerate(drawn):
            assert found.GraphicAnnotationSequence[number].get("GraphicObjectSequence") == before.get(
                "GraphicObjectSequence"
            )


def test_preparation_of_a_specimen_follows_the_same_rules() -> None:
    mint = Mint()
    d = builders.PASS["ct"](rows=8, columns=8)
    step = make(
        SpecimenPreparationStepContentItemSequence=[
            make(
                ValueType="TEXT",
                ConceptNameCodeSequence=[code("121041", "DCM", "Specimen Identifier")],
                TextValue=mint.token("identifier"),
            ),
            make(
                ValueType="CODE",
                ConceptNameCodeSequence=[code("111701", "DCM", "Processing type")],
                ConceptCodeSequence=[code("127790008", "SCT", "Staining")],
            ),
            make(
                ValueType="DATETIME",
                ConceptNameCodeSequence=[code("111702", "DCM", "DateTime of processing")],
                DateTime=mint.date("processing") + "101112",
            ),
        ]
    )
    d.SpecimenDescriptionSequence = [
        make(
            SpecimenIdentifier=mint.token("specimen"),
            SpecimenUID=mint.uid("specimen"),
            SpecimenPreparationSequence=[step],
        )
    ]
    found, out = deidentify(d, MODIFIED)
    assert not leaks(out, mint.made)
    content = found.SpecimenDescriptionSequence[0].SpecimenPreparationSequence[0]
    kept = content.SpecimenPreparationStepContentItemSequence
    assert [one.ValueType for one in kept] == ["TEXT", "CODE", "DATETIME"]
    assert kept[1].ConceptCodeSequence[0].CodeMeaning == "Staining"
    before = step.SpecimenPreparationStepContentItemSequence[2].DateTime
    assert kept[2].DateTime == moved(before)


def rows() -> list[dict[str, str]]:
    with (standard.FOLDER / "sr_content.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def item_of(row: dict[str, str], mint: Mint) -> Dataset:
    """A content item of a row of Table E.3.4-1, with a canary as its value."""
    kind, where = row["value_type"], f"{row['code']} {row['value_type']}"
    concept = code(row["code"], row["scheme"], "Concept")
    values: dict[str, Any] = {
        "TEXT": lambda: {"TextValue": mint.token(where)},
        "PNAME": lambda: {"PersonName": mint.name(where)},
        "DATE": lambda: {"Date": mint.date(where)},
        "TIME": lambda: {"Time": "101112"},
        "DATETIME": lambda: {"DateTime": mint.date(where) + "101112"},
        "UIDREF": lambda: {"UID": mint.uid(where)},
        "CODE": lambda: {"ConceptCodeSequence": [code(mint.token(where), "99LOCAL", mint.token(where))]},
        "NUM": lambda: {
            "MeasuredValueSequence": [
                make(NumericValue="7351.26", MeasurementUnitsCodeSequence=[code("1", "UCUM", "no units")])
            ]
        },
        "CONTAINER": lambda: {
            "ContinuityOfContent": "SEPARATE",
            "ContentSequence": [item("TEXT", "CONTAINS", local(), TextValue=mint.token(where))],
        },
        "IMAGE": lambda: {"ReferencedSOPSequence": [image(mint.uid(where))]},
        "COMPOSITE": lambda: {"ReferencedSOPSequence": [image(mint.uid(where))]},
        "WAVEFORM": lambda: {"ReferencedSOPSequence": [image(mint.uid(where))]},
    }[kind]()
    return item(kind, "CONTAINS", concept, **values)


@pytest.mark.parametrize("options", [STRUCTURED, MODIFIED], ids=len)
def test_every_row_of_the_table_in_one_document(options: tuple[str, ...]) -> None:
    mint = Mint()
    source = document([item_of(row, mint) for row in rows()])
    found, out = deidentify(source, options)
    assert shape(found) == shape(source)
    assert [str(leak) for leak in leaks(out, mint.made)] == []
    assert b"7351.26" not in out


@pytest.mark.parametrize(
    "option",
    [
        "retain-uids",
        "retain-device-identity",
        "retain-institution-identity",
        "retain-patient-characteristics",
        "retain-longitudinal-full-dates",
    ],
)
def test_what_a_column_keeps_stays_and_nothing_else(option: str) -> None:
    column = standard.options()[option].column
    mint = Mint()
    source = document([item_of(row, mint) for row in rows()])
    _, out = deidentify(source, (*STRUCTURED, option))
    kept = {leak.canary.place for leak in leaks(out, mint.made)}
    uids = {"UIDREF", "IMAGE", "COMPOSITE", "WAVEFORM"}
    expected = {
        f"{row['code']} {row['value_type']}"
        for row in rows()
        if row.get(column) == "K" and row["value_type"] not in ("CONTAINER", "TIME", "NUM")
    }
    if option == "retain-uids":  # then references stay too, of whatever concept
        expected |= {f"{row['code']} {row['value_type']}" for row in rows() if row["value_type"] in uids - {"UIDREF"}}
    assert kept == expected


def read_by_dcmtk(data: bytes, folder: Path) -> tuple[int, list[str]]:
    """Exit status and complaints of DCMTK's dsrdump, which follows content trees and their relationships."""
    file = folder / "file.dcm"
    file.write_bytes(data)
    assert DSRDUMP is not None
    done = subprocess.run([DSRDUMP, "-v", file], capture_output=True, timeout=60, check=False)
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    return done.returncode, [line for line in lines if line.startswith(("E:", "W:", "F:"))]


REPORTS = [name for name, dataset in made() if "ContentSequence" in dataset]


@pytest.mark.skipif(DSRDUMP is None, reason="dsrdump (Debian package dcmtk) is not installed")
@pytest.mark.parametrize("options", [MODIFIED, ("clean-descriptors",)], ids=len)
@pytest.mark.parametrize("name", REPORTS)
def test_dcmtk_reads_the_report_as_it_read_the_source(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    dataset = dict(made())[name]
    before = read_by_dcmtk(builders.to_bytes(dataset), tmp_path)
    after = read_by_dcmtk(deidentify(dataset, options)[1], tmp_path)
    assert after[0] <= before[0]
    assert set(after[1]) <= set(before[1])
