"""Documents of other formats, directories, and waveforms beside the ECG."""

from __future__ import annotations

import struct

from pydicom.dataset import Dataset

from tests.objects.base import Origin, code, common, extend, frame_of_reference, make, origin


def _document(o: Origin, sop_class: str, modality: str, kind: str, document: bytes) -> Dataset:
    d = common(o, sop_class, modality)
    extend(
        d,
        BurnedInAnnotation="YES",
        AcquisitionDateTime=o.date + o.time,
        DocumentTitle=f"of {o.person.name}",
        ConceptNameCodeSequence=[],
        MIMETypeOfEncapsulatedDocument=kind,
        EncapsulatedDocumentLength=len(document),
    )
    d.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return d


def cda(o: Origin | None = None) -> Dataset:
    """A clinical document, with the patient in its header."""
    o = o or origin(series=51)
    text = f"<ClinicalDocument><recordTarget>{o.person.name}</recordTarget></ClinicalDocument>"
    d = _document(o, "1.2.840.10008.5.1.4.1.1.104.2", "DOC", "text/XML", text.encode())
    d.ConversionType = "WSD"
    d.HL7InstanceIdentifier = "1.2.826.0.1.3680043.10.9999.4711"
    return d


def stl(o: Origin | None = None) -> Dataset:
    """A surface for a printer, with a name in the header of its format."""
    o = o or origin(series=52)
    name = o.person.name.split("^")[0].encode()
    body = b"skull of " + name
    body = body.ljust(80, b"\0") + struct.pack("<L", 1) + struct.pack("<12fH", *[float(n) for n in range(12)], 0)
    d = _document(o, "1.2.840.10008.5.1.4.1.1.104.3", "M3D", "model/stl", body)
    frame_of_reference(d, o)
    d.MeasurementUnitsCodeSequence = [code("mm", "UCUM", "mm")]
    d.ModelModification = "NO"
    d.ModelMirroring = "NO"
    first = Origin(o.person, o.study, 1)
    source = make(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=first.sop_uid)
    d.SourceInstanceSequence = [source]
    d.ReferencedSeriesSequence = [
        make(SeriesInstanceUID=first.series_uid, ReferencedInstanceSequence=[source]),
    ]
    return d


def _waveform(d: Dataset, o: Origin, source: Dataset, bits: str, samples: bytes) -> Dataset:
    size = {"SS": 2, "UB": 1, "SB": 1}[bits]
    channel = make(
        ChannelSourceSequence=[source],
        ChannelSensitivity="1",
        ChannelSensitivityUnitsSequence=[code("mm[Hg]", "UCUM", "mmHg")],
        ChannelSensitivityCorrectionFactor="1",
        ChannelBaseline="0",
        ChannelSampleSkew="0",
        WaveformBitsStored=size * 8,
        ChannelLabel=f"of {o.person.name.split('^')[0]}",
    )
    group = make(
        WaveformOriginality="ORIGINAL",
        NumberOfWaveformChannels=1,
        NumberOfWaveformSamples=len(samples) // size,
        SamplingFrequency="400",
        ChannelDefinitionSequence=[channel],
        WaveformBitsAllocated=size * 8,
        WaveformSampleInterpretation=bits,
    )
    group.add_new(0x54001010, "OW" if size == 2 else "OB", samples)
    return extend(
        d,
        BodyPartExamined="HEART",
        InstanceNumber=1,
        AcquisitionDateTime=o.date + o.time,
        AcquisitionContextSequence=[],
        WaveformSequence=[group],
    )


def hemodynamic(o: Origin | None = None) -> Dataset:
    """A pressure curve."""
    o = o or origin(series=53)
    d = common(o, "1.2.840.10008.5.1.4.1.1.9.2.1", "HD")
    return _waveform(d, o, code("109016", "DCM", "Systemic Arterial Pressure"), "SS", struct.pack("<64h", *range(64)))


def voice(o: Origin | None = None) -> Dataset:
    """Dictation: sound, in which anything may be said."""
    o = o or origin(series=54)
    d = common(o, "1.2.840.10008.5.1.4.1.1.9.4.1", "AU")
    made = _waveform(d, o, code("113000", "DCM", "Of Interest"), "UB", bytes(range(64)))
    made.WaveformSequence[0].SamplingFrequency = "8000"
    return made


def dicomdir(o: Origin | None = None) -> Dataset:
    """A directory: its records name patients."""
    o = o or origin()
    record = make(
        OffsetOfTheNextDirectoryRecord=0,
        RecordInUseFlag=0xFFFF,
        OffsetOfReferencedLowerLevelDirectoryEntity=0,
        DirectoryRecordType="PATIENT",
        PatientName=o.person.name,
        PatientID=o.person.patient_id,
    )
    return make(
        SOPClassUID="1.2.840.10008.1.3.10",
        SOPInstanceUID=o.sop_uid,
        FileSetID="DISC",
        OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity=0,
        OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity=0,
        FileSetConsistencyFlag=0,
        DirectoryRecordSequence=[record],
    )
