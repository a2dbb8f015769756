"""Structured reports, and RT structure sets, plans and doses, that refer to a series of images."""

from __future__ import annotations

from random import Random
from typing import Any

from pydicom.dataset import Dataset

from benchmarks.score.attributes import Scene, code, fill, plant, text
from benchmarks.score.planting import Planted

_TITLES = (("18748-4", "LN", "Diagnostic Imaging Report"), ("126000", "DCM", "Imaging Measurement Report"))


def item(relation: str, kind: str, name: tuple[str, str, str] | None, **values: Any) -> Dataset:
    """A content item."""
    d = Dataset()
    d.RelationshipType = relation
    d.ValueType = kind
    if name is not None:
        d.ConceptNameCodeSequence = [code(*name)]
    for keyword, value in values.items():
        if isinstance(value, Planted):
            plant(d, keyword, value)
        else:
            setattr(d, keyword, value)
    return d


def _image(source: Dataset) -> Dataset:
    d = Dataset()
    d.ReferencedSOPClassUID = source.SOPClassUID
    d.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return d


def report(scene: Scene, sources: list[Dataset]) -> Dataset:
    """A Comprehensive SR on images of the study."""
    rng = scene.rng("I", "report")
    d = Dataset()
    d.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    fill(d, scene, "all", "sr")
    people = scene.patient.people
    d.ReferencedPerformedProcedureStepSequence = []
    d.PerformedProcedureCodeSequence = []
    observer = Dataset()
    observer.VerifyingOrganization = " ".join(scene.patient.institution)
    observer.VerificationDateTime = f"{scene.study.date}101500"
    observer.VerifyingObserverName = people["reading"].pn
    observer.VerifyingObserverIdentificationCodeSequence = []
    d.VerifyingObserverSequence = [observer]
    d.CurrentRequestedProcedureEvidenceSequence = [_evidence(scene, sources)]
    title = rng.choice(_TITLES)
    d.ValueType = "CONTAINER"
    d.ContinuityOfContent = "SEPARATE"
    d.ConceptNameCodeSequence = [code(*title)]
    d.ContentSequence = [*_context(scene, rng), *_findings(scene, rng, sources), _measurements(scene, rng, sources)]
    return d


def _evidence(scene: Scene, sources: list[Dataset]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = sources[0].SeriesInstanceUID
    series.ReferencedSOPSequence = [_image(source) for source in sources]
    d = Dataset()
    d.StudyInstanceUID = scene.study.uid
    d.ReferencedSeriesSequence = [series]
    return d


def _context(scene: Scene, rng: Random) -> list[Dataset]:
    found = [
        item(
            "HAS CONCEPT MOD",
            "CODE",
            ("121049", "DCM", "Language of Content Item and Descendants"),
            ConceptCodeSequence=[code("eng", "RFC5646", "English")],
        ),
        item(
            "HAS OBS CONTEXT",
            "PNAME",
            ("121008", "DCM", "Person Observer Name"),
            PersonName=scene.patient.people["reading"].pn,
        ),
    ]
    if rng.random() < 0.6:
        name = " ".join(scene.patient.institution)
        found.append(
            item("HAS OBS CONTEXT", "TEXT", ("121009", "DCM", "Person Observer's Organization Name"), TextValue=name)
        )
    if rng.random() < 0.5:
        found.append(
            item("HAS OBS CONTEXT", "TEXT", ("121022", "DCM", "Accession Number"), TextValue=scene.study.accession)
        )
    if rng.random() < 0.5:
        found.append(
            item("HAS OBS CONTEXT", "PNAME", ("121029", "DCM", "Subject Name"), PersonName=scene.patient.person.pn)
        )
    if rng.random() < 0.5:
        found.append(
            item("HAS OBS CONTEXT", "TEXT", ("121030", "DCM", "Subject ID"), TextValue=scene.patient.patient_id)
        )
    if rng.random() < 0.5:
        found.append(item("CONTAINS", "DATE", ("111060", "DCM", "Study Date"), Date=scene.study.date))
    return found


def _findings(scene: Scene, rng: Random, sources: list[Dataset]) -> list[Dataset]:
    def txt(name: tuple[str, str, str], topic: str) -> Dataset:
        return item("CONTAINS", "TEXT", name, TextValue=text(scene, rng, topic, "UT"))

    inner = [txt(("121071", "DCM", "Finding"), "finding") for _ in range(rng.randint(1, 3))]
    inner.append(
        item(
            "CONTAINS",
            "CODE",
            ("121071", "DCM", "Finding"),
            ConceptCodeSequence=[code("27925004", "SCT", "Nodule")],
        )
    )
    found = [
        item(
            "CONTAINS",
            "CONTAINER",
            ("121070", "DCM", "Findings"),
            ContinuityOfContent="SEPARATE",
            ContentSequence=inner,
        ),
        txt(("121077", "DCM", "Conclusion"), "impression"),
        txt(("121106", "DCM", "Comment"), "comment"),
        item("CONTAINS", "IMAGE", ("121080", "DCM", "Best illustration of finding"), ReferencedSOPSequence=[]),
    ]
    found[-1].ReferencedSOPSequence = [_image(rng.choice(sources))]
    if rng.random() < 0.5:
        found.append(txt(("11329-0", "LN", "History"), "history"))
    if rng.random() < 0.4:
        found.append(txt(("121060", "DCM", "History"), "history"))
    if rng.random() < 0.4:
        found.append(
            item(
                "CONTAINS",
                "DATETIME",
                ("130884", "DCM", "Acquisition DateTime"),
                DateTime=f"{scene.study.date}101530",
            )
        )
    return found


def _measurements(scene: Scene, rng: Random, sources: list[Dataset]) -> Dataset:
    value = Dataset()
    value.NumericValue = f"{rng.uniform(2, 90):.1f}"
    value.MeasurementUnitsCodeSequence = [code("mm", "UCUM", "millimeter")]
    group = [
        item(
            "HAS OBS CONTEXT",
            "UIDREF",
            ("112040", "DCM", "Tracking Unique Identifier"),
            UID=scene.uids(scene, f"tracking{rng.randint(1, 9)}"),
        ),
        item(
            "CONTAINS",
            "NUM",
            ("410668003", "SCT", "Length"),
            MeasuredValueSequence=[value],
        ),
        item("CONTAINS", "UIDREF", ("112002", "DCM", "Series Instance UID"), UID=str(sources[0].SeriesInstanceUID)),
    ]
    return item(
        "CONTAINS",
        "CONTAINER",
        ("125007", "DCM", "Measurement Group"),
        ContinuityOfContent="SEPARATE",
        ContentSequence=group,
    )


def structure_set(scene: Scene, sources: list[Dataset]) -> Dataset:
    """An RT Structure Set drawn on a CT series."""
    rng = scene.rng("I", "structures")
    d = Dataset()
    d.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    fill(d, scene, "all", "rt", "frame", "rtstruct")
    first = sources[0]
    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_image(source) for source in sources]
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = scene.study.uid
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    d.ReferencedFrameOfReferenceSequence = [frame]
    rois, contours, observations = [], [], []
    for number in range(1, rng.randint(3, 6)):
        roi = Dataset()
        roi.ROINumber = number
        roi.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
        plant(roi, "ROIName", text(scene, rng, "roi", "LO", 0.2))
        if rng.random() < 0.5:
            plant(roi, "ROIDescription", text(scene, rng, "roidesc", "ST", 0.25))
        roi.ROIGenerationAlgorithm = rng.choice(("MANUAL", "SEMIAUTOMATIC"))
        rois.append(roi)
        contour = Dataset()
        contour.ContourImageSequence = [_image(rng.choice(sources))]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = 3
        contour.ContourData = [f"{rng.uniform(-90, 90):.2f}" for _ in range(9)]
        drawn = Dataset()
        drawn.ROIDisplayColor = [rng.randint(0, 255) for _ in range(3)]
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = [contour]
        contours.append(drawn)
        seen = Dataset()
        seen.ObservationNumber = number
        seen.ReferencedROINumber = number
        if rng.random() < 0.5:
            plant(seen, "ROIObservationLabel", text(scene, rng, "roi", "SH", 0.2))
        seen.RTROIInterpretedType = rng.choice(("GTV", "ORGAN", "EXTERNAL", ""))
        seen.ROIInterpreter = rng.choice((scene.patient.people["reading"].pn, ""))
        observations.append(seen)
    d.StructureSetROISequence = rois
    d.ROIContourSequence = contours
    d.RTROIObservationsSequence = observations
    return d


def plan(scene: Scene, structures: Dataset) -> Dataset:
    """An RT Plan of two beams."""
    rng = scene.rng("I", "plan")
    d = Dataset()
    d.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.5"
    fill(d, scene, "all", "rt", "frame", "rtplan")
    beams = []
    for number in (1, 2):
        beam = Dataset()
        beam.TreatmentMachineName = f"{scene.patient.town[:8].upper()}{number}"
        beam.BeamNumber = number
        plant(beam, "BeamName", text(scene, rng, "beam", "LO", 0.2))
        if rng.random() < 0.5:
            plant(beam, "BeamDescription", text(scene, rng, "setup", "ST", 0.2))
        beam.BeamType, beam.RadiationType = "STATIC", "PHOTON"
        beam.TreatmentDeliveryType = "TREATMENT"
        beam.NumberOfWedges = beam.NumberOfCompensators = beam.NumberOfBoli = beam.NumberOfBlocks = 0
        jaw = Dataset()
        jaw.RTBeamLimitingDeviceType, jaw.NumberOfLeafJawPairs = "ASYMX", 1
        beam.BeamLimitingDeviceSequence = [jaw]
        beam.FinalCumulativeMetersetWeight = "1"
        beam.NumberOfControlPoints = 2
        first, last = Dataset(), Dataset()
        first.ControlPointIndex, last.ControlPointIndex = 0, 1
        first.NominalBeamEnergy = rng.choice(("6", "10", "15"))
        first.CumulativeMetersetWeight, last.CumulativeMetersetWeight = "0", "1"
        first.GantryAngle = str(rng.randint(0, 359))
        first.GantryRotationDirection = first.BeamLimitingDeviceRotationDirection = "NONE"
        first.PatientSupportRotationDirection = first.TableTopEccentricRotationDirection = "NONE"
        first.BeamLimitingDeviceAngle = first.PatientSupportAngle = first.TableTopEccentricAngle = "0"
        first.TableTopVerticalPosition = first.TableTopLongitudinalPosition = first.TableTopLateralPosition = ""
        first.IsocenterPosition = [f"{rng.uniform(-50, 50):.1f}" for _ in range(3)]
        position = Dataset()
        position.RTBeamLimitingDeviceType, position.LeafJawPositions = "ASYMX", ["-50", "50"]
        first.BeamLimitingDevicePositionSequence = [position]
        beam.ControlPointSequence = [first, last]
        beams.append(beam)
    d.BeamSequence = beams
    group = Dataset()
    group.FractionGroupNumber = 1
    group.NumberOfFractionsPlanned = rng.choice((5, 15, 25, 30))
    group.NumberOfBeams, group.NumberOfBrachyApplicationSetups = 2, 0
    group.ReferencedBeamSequence = []
    for number in (1, 2):
        beam = Dataset()
        beam.ReferencedBeamNumber, beam.BeamMeterset = number, f"{rng.uniform(50, 200):.1f}"
        group.ReferencedBeamSequence.append(beam)
    d.FractionGroupSequence = [group]
    prescription = Dataset()
    prescription.DoseReferenceNumber = 1
    prescription.DoseReferenceUID = scene.uids(scene, "dosereference")
    prescription.DoseReferenceStructureType = "SITE"
    plant(prescription, "DoseReferenceDescription", text(scene, rng, "roi", "LO", 0.2))
    prescription.DoseReferenceType = "TARGET"
    prescription.TargetPrescriptionDose = rng.choice(("50.4", "60", "70"))
    d.DoseReferenceSequence = [prescription]
    setup = Dataset()
    setup.PatientPosition, setup.PatientSetupNumber, setup.SetupTechnique = "HFS", 1, "ISOCENTRIC"
    plant(setup, "SetupTechniqueDescription", text(scene, rng, "setup", "ST", 0.2))
    d.PatientSetupSequence = [setup]
    d.ReferencedStructureSetSequence = [_image(structures)]
    return d


def dose(scene: Scene, planned: Dataset) -> Dataset:
    """An RT Dose of a plan."""
    rng = scene.rng("I", "dose")
    d = Dataset()
    d.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.2"
    fill(d, scene, "all", "rt", "frame", "rtdose")
    d.ReferencedRTPlanSequence = [_image(planned)]
    d.ImagePositionPatient = ["-30", "-30", "0"]
    d.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    d.PixelSpacing = ["3", "3"]
    d.FrameIncrementPointer = 0x3004000C
    d.NumberOfFrames = 2
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows = d.Columns = 12
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
    d.PixelRepresentation = 0
    d.add_new(0x7FE00010, "OW", rng.randbytes(12 * 12 * 2 * 2))
    return d
