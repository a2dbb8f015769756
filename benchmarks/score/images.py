"""Images of CT, MR, PT, CR, DX, MG and US with identifiers planted."""

from __future__ import annotations

from random import Random

import numpy as np
from pydicom.dataset import Dataset

from benchmarks.score import burned, private
from benchmarks.score.attributes import Scene, code, fill, institution, plant, text
from benchmarks.score.planting import PLAIN, Piece, Planted, research

SOP_CLASS = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
}
_OBJECTS = {
    "CT": ("all", "image", "frame", "ct"),
    "MR": ("all", "image", "frame", "mr"),
    "PT": ("all", "image", "frame", "pt"),
    "CR": ("all", "image", "cr"),
    "DX": ("all", "image", "xray", "dx"),
    "MG": ("all", "image", "xray", "mg"),
    "US": ("all", "image", "us"),
}
_PAIRED = {"KNEE", "HAND"}
_REGIONS = {
    "CHEST": ("51185008", "Chest"),
    "ABDOMEN": ("818983003", "Abdomen"),
    "HEAD": ("69536005", "Head"),
    "BRAIN": ("12738006", "Brain"),
    "KNEE": ("72696002", "Knee"),
    "HAND": ("85562004", "Hand"),
    "PROSTATE": ("41216001", "Prostate"),
    "LIVER": ("10200004", "Liver"),
    "WHOLEBODY": ("38266002", "Entire body"),
}


def image(scene: Scene, explicit: bool = True) -> Dataset:
    """An image of the scene's modality."""
    modality = scene.modality
    d = Dataset()
    d.SOPClassUID = SOP_CLASS[modality]
    fill(d, scene, *_OBJECTS[modality])
    if d.get("BodyPartExamined") in _PAIRED and "ImageLaterality" not in d:
        fill(d, scene, "paired")
    _sequences(d, scene)
    if modality in ("CT", "MR", "PT"):
        z = f"{-300 + 3 * scene.instance + 0.5:.1f}"
        d.ImagePositionPatient = ["-180.5", "-180.5", z]
        d.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        d.PixelSpacing = ["0.703125", "0.703125"]
        if modality != "PT":
            d.SliceLocation = z
    if modality == "PT":
        _tracer(d, scene)
    if modality in ("DX", "MG"):
        _view(d, modality)
    if modality == "US":
        _ultrasound(d, scene)
    else:
        _noise(d, scene)
        private.add(d, scene, explicit)
    return d


def _sequences(d: Dataset, scene: Scene) -> None:
    rng = scene.rng("R", "sequences")
    modality = scene.modality
    region = _REGIONS.get(d.get("BodyPartExamined", ""))
    if region:
        d.AnatomicRegionSequence = [code(region[0], "SCT", region[1])]
    if rng.random() < 0.5:
        d.ProcedureCodeSequence = [code(f"P{rng.randint(100, 999)}", "99LOCAL", _meaning(scene, rng, "procedure"))]
    if rng.random() < 0.45:
        d.RequestAttributesSequence = [_request(scene, rng)]
    if rng.random() < 0.3:
        d.ReferencedStudySequence = [_reference("1.2.840.10008.3.1.2.3.1", scene.study.uid)]
    if rng.random() < 0.3:
        d.ReferencedPerformedProcedureStepSequence = [
            _reference("1.2.840.10008.3.1.2.3.3", scene.uids(scene, "step")),
        ]
    if rng.random() < 0.25:
        other = Dataset()
        other.PatientID = scene.patient.other_id
        other.TypeOfPatientID = "TEXT"
        d.OtherPatientIDsSequence = [other]
    if rng.random() < 0.2:
        d.ReferringPhysicianIdentificationSequence = [_physician(scene)]
    if rng.random() < 0.3:
        d.ContributingEquipmentSequence = [_equipment(scene)]
    if modality in ("CT", "MR") and scene.instance > 1:
        first = scene.uids(scene, "instance", instance=1)
        if rng.random() < 0.6:
            d.ReferencedImageSequence = [_reference(d.SOPClassUID, first)]
        if rng.random() < 0.3:
            d.SourceImageSequence = [_reference(d.SOPClassUID, first)]


def _meaning(scene: Scene, rng: Random, topic: str) -> Planted:
    """A Code Meaning: research content, or seldom with a name in it, of which then only the name is judged."""
    made = text(scene, rng, topic, "LO", 0.15)
    if not made.identifiers:
        return made
    return Planted(tuple(Piece(p.text, PLAIN if p.kind == "keep" else p.kind) for p in made.pieces))


def _request(scene: Scene, rng: Random) -> Dataset:
    item = Dataset()
    plant(item, "RequestedProcedureDescription", text(scene, rng, "procedure", "LO"))
    plant(item, "ScheduledProcedureStepDescription", text(scene, rng, "procedure", "LO"))
    item.ScheduledProcedureStepID = scene.study.study_id
    item.RequestedProcedureID = scene.study.accession[:16]
    if rng.random() < 0.5:
        plant(item, "ReasonForTheRequestedProcedure", text(scene, rng, "reason", "LO"))
    return item


def _physician(scene: Scene) -> Dataset:
    person = scene.patient.people["referring"]
    item = Dataset()
    item.PersonIdentificationCodeSequence = [
        code("4711", "99LOCAL", research(person.written[0]), "name"),
    ]
    item.InstitutionName = " ".join(scene.patient.institution)
    return item


def _equipment(scene: Scene) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code("109101", "DCM", "Acquisition Equipment")]
    item.Manufacturer = scene.study.vendor
    plant(item, "InstitutionName", institution(scene))
    item.StationName = scene.patient.town[:12].upper() + "1"
    return item


def _reference(sop_class: str, instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = instance
    return item


def _tracer(d: Dataset, scene: Scene) -> None:
    rng = scene.rng("S", "tracer")
    item = Dataset()
    item.Radiopharmaceutical = rng.choice(("FDG", "Fluorodeoxyglucose", "F-18 FDG", "PSMA", "DOTATATE"))
    item.RadiopharmaceuticalStartTime = f"0{rng.randint(7, 9)}3000.00"
    item.RadiopharmaceuticalStartDateTime = f"{scene.study.date}0{rng.randint(7, 9)}3000.00"
    item.RadionuclideTotalDose = str(rng.randint(180_000_000, 500_000_000))
    item.RadionuclideHalfLife = "6586.2"
    item.RadionuclidePositronFraction = "0.97"
    item.RadiopharmaceuticalRoute = "IV"
    item.RadionuclideCodeSequence = [code("77004003", "SCT", "^18^Fluorine")]
    item.RadiopharmaceuticalCodeSequence = [code("35321007", "SCT", "Fluorodeoxyglucose F^18^")]
    d.RadiopharmaceuticalInformationSequence = [item]
    d.PatientOrientationCodeSequence = [code("102538003", "SCT", "recumbent")]
    d.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = [code("40199007", "SCT", "supine")]
    d.PatientGantryRelationshipCodeSequence = [code("102540008", "SCT", "headfirst")]
    d.EnergyWindowRangeSequence = [Dataset()]
    d.EnergyWindowRangeSequence[0].EnergyWindowLowerLimit = "425"
    d.EnergyWindowRangeSequence[0].EnergyWindowUpperLimit = "650"


def _view(d: Dataset, modality: str) -> None:
    d.AcquisitionContextSequence = []
    if modality == "MG":
        d.AnatomicRegionSequence = [code("76752008", "SCT", "Breast")]
        d.ViewCodeSequence = [code("399162004", "SCT", "cranio-caudal")]
        d.ViewCodeSequence[0].ViewModifierCodeSequence = []
    else:
        d.ViewCodeSequence = [code("272479007", "SCT", "postero-anterior")]


def _noise(d: Dataset, scene: Scene) -> None:
    rng = scene.rng("I", "pixels")
    rows, columns = rng.choice(((24, 32), (32, 32), (33, 31)))
    values = np.random.default_rng(rng.randrange(1 << 32)).integers(0, 1 << 12, rows * columns, dtype=np.uint16)
    d.SamplesPerPixel = 1
    d.PhotometricInterpretation = "MONOCHROME2"
    d.Rows, d.Columns = rows, columns
    stored = 16 if scene.modality == "PT" else 12
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, stored, stored - 1
    d.PixelRepresentation = 0
    d.add_new(0x7FE00010, "OW", values.astype("<u2").tobytes())


def _ultrasound(d: Dataset, scene: Scene) -> None:
    """A picture with the patient's name and id burned in."""
    rows, columns = 96, 256
    noise = np.random.default_rng(scene.rng("I", "pixels").randrange(1 << 32))
    pixels = noise.integers(0, 90, (rows, columns, 3), dtype=np.uint8)
    person = scene.patient.person
    shown = f"{person.family} {scene.patient.patient_id}" if person.family.isascii() else scene.patient.patient_id
    box = burned.draw(pixels, shown, 4, 4)
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 24
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = columns - 1, rows - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.05
    d.SequenceOfUltrasoundRegions = [region]
    d.SamplesPerPixel = 3
    d.PhotometricInterpretation = "RGB"
    d.PlanarConfiguration = 0
    d.Rows, d.Columns = rows, columns
    d.BitsAllocated, d.BitsStored, d.HighBit = 8, 8, 7
    d.PixelRepresentation = 0
    d.add_new(0x7FE00010, "OB", pixels.tobytes())
    d._burned = (shown, box)
