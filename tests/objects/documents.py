"""Structured reports, key objects, presentation states, documents and waveforms."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from tests.objects.base import Origin, code, common, extend, make, origin, pixels, uid


def _content(kind: str, relation: str, name: Dataset | None, **values: Any) -> Dataset:
    d = make(RelationshipType=relation, ValueType=kind)
    if name is not None:
        d.ConceptNameCodeSequence = [name]
    return extend(d, **values)


def _report(o: Origin, sop_class: str, content: list[Dataset], root: Dataset) -> Dataset:
    d = common(o, sop_class, "SR")
    for keyword in ("SeriesDate", "SeriesTime"):
        del d[keyword]
    extend(
        d,
        ReferencedPerformedProcedureStepSequence=[],
        PerformedProcedureCodeSequence=[],
        CompletionFlag="COMPLETE",
        VerificationFlag="VERIFIED",
        VerifyingObserverSequence=[
            make(
                VerifyingOrganization=o.person.institution,
                VerificationDateTime=o.date + o.time,
                VerifyingObserverName=o.person.referring,
                VerifyingObserverIdentificationCodeSequence=[],
            )
        ],
        ReferencedRequestSequence=[
            make(
                StudyInstanceUID=o.study_uid,
                AccessionNumber=o.person.accession(o.study),
                ReferencedStudySequence=[],
                RequestedProcedureID="RP1",
                RequestedProcedureDescription="follow up",
                RequestedProcedureCodeSequence=[],
                PlacerOrderNumberImagingServiceRequest="PL77",
                FillerOrderNumberImagingServiceRequest="FI88",
            )
        ],
        CurrentRequestedProcedureEvidenceSequence=[
            make(
                StudyInstanceUID=o.study_uid,
                ReferencedSeriesSequence=[
                    make(
                        SeriesInstanceUID=Origin(o.person, o.study, 1).series_uid,
                        ReferencedSOPSequence=[
                            make(
                                ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2",
                                ReferencedSOPInstanceUID=Origin(o.person, o.study, 1).sop_uid,
                            )
                        ],
                    )
                ],
            )
        ],
        ValueType="CONTAINER",
        ContinuityOfContent="SEPARATE",
        ConceptNameCodeSequence=[root],
        ContentSequence=content,
    )
    return d


def _findings(o: Origin) -> list[Dataset]:
    p = o.person
    return [
        _content("PNAME", "HAS OBS CONTEXT", code("121008", "DCM", "Person Observer Name"), PersonName=p.referring),
        _content(
            "TEXT",
            "CONTAINS",
            code("121071", "DCM", "Finding"),
            TextValue=f"{p.name.split('^')[0]} has a nodule, seen {o.date}",
        ),
        _content(
            "CONTAINER",
            "CONTAINS",
            code("121070", "DCM", "Findings"),
            ContinuityOfContent="SEPARATE",
            ContentSequence=[
                _content(
                    "CODE",
                    "CONTAINS",
                    code("121071", "DCM", "Finding"),
                    ConceptCodeSequence=[code("27925004", "SCT", "Nodule")],
                ),
                _content("TEXT", "CONTAINS", code("121106", "DCM", "Comment"), TextValue=f"call {p.phone}"),
            ],
        ),
    ]


def sr_basic(o: Origin | None = None) -> Dataset:
    o = o or origin(series=7)
    return _report(o, "1.2.840.10008.5.1.4.1.1.88.11", _findings(o), code("18748-4", "LN", "Diagnostic Imaging Report"))


def sr_comprehensive(o: Origin | None = None) -> Dataset:
    o = o or origin(series=8)
    content = [
        *_findings(o),
        _content("DATE", "CONTAINS", code("121118", "DCM", "Date of Observation"), Date=o.date),
        _content("TIME", "CONTAINS", code("121119", "DCM", "Time of Observation"), Time=o.time),
        _content("DATETIME", "CONTAINS", code("121122", "DCM", "DateTime of Observation"), DateTime=o.date + o.time),
        _content("UIDREF", "CONTAINS", code("112002", "DCM", "Series Instance UID"), UID=o.series_uid),
        _content(
            "NUM",
            "CONTAINS",
            code("410668003", "SCT", "Length"),
            MeasuredValueSequence=[
                make(NumericValue="12.5", MeasurementUnitsCodeSequence=[code("mm", "UCUM", "millimeter")])
            ],
        ),
        _content(
            "IMAGE",
            "CONTAINS",
            code("121080", "DCM", "Best illustration of finding"),
            ReferencedSOPSequence=[
                make(
                    ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2",
                    ReferencedSOPInstanceUID=Origin(o.person, o.study, 1).sop_uid,
                )
            ],
        ),
    ]
    return _report(o, "1.2.840.10008.5.1.4.1.1.88.33", content, code("18748-4", "LN", "Diagnostic Imaging Report"))


def sr_measurements(o: Origin | None = None) -> Dataset:
    """Shaped like TID 1500: a measurement group with tracking, a finding, a volume."""
    o = o or origin(series=9)
    image = make(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=Origin(o.person, o.study, 1).sop_uid
    )
    group = _content(
        "CONTAINER",
        "CONTAINS",
        code("125007", "DCM", "Measurement Group"),
        ContinuityOfContent="SEPARATE",
        ContentSequence=[
            _content(
                "TEXT",
                "HAS OBS CONTEXT",
                code("112039", "DCM", "Tracking Identifier"),
                TextValue=f"lesion of {o.person.patient_id}",
            ),
            _content(
                "UIDREF",
                "HAS OBS CONTEXT",
                code("112040", "DCM", "Tracking Unique Identifier"),
                UID=uid("tracking", o.study_uid),
            ),
            _content(
                "CODE",
                "CONTAINS",
                code("121071", "DCM", "Finding"),
                ConceptCodeSequence=[code("4147007", "SCT", "Mass")],
            ),
            _content(
                "NUM",
                "CONTAINS",
                code("118565006", "SCT", "Volume"),
                MeasuredValueSequence=[
                    make(NumericValue="321.5", MeasurementUnitsCodeSequence=[code("mm3", "UCUM", "cubic millimeter")])
                ],
            ),
        ],
    )
    content = [
        _content(
            "CODE",
            "HAS CONCEPT MOD",
            code("121049", "DCM", "Language of Content Item and Descendants"),
            ConceptCodeSequence=[code("eng", "RFC5646", "English")],
        ),
        _content(
            "PNAME", "HAS OBS CONTEXT", code("121008", "DCM", "Person Observer Name"), PersonName=o.person.operator
        ),
        _content(
            "CODE",
            "HAS CONCEPT MOD",
            code("121058", "DCM", "Procedure reported"),
            ConceptCodeSequence=[code("77477000", "SCT", "CT")],
        ),
        _content(
            "CONTAINER",
            "CONTAINS",
            code("111028", "DCM", "Image Library"),
            ContinuityOfContent="SEPARATE",
            ContentSequence=[_content("IMAGE", "CONTAINS", None, ReferencedSOPSequence=[image])],
        ),
        _content(
            "CONTAINER",
            "CONTAINS",
            code("126010", "DCM", "Imaging Measurements"),
            ContinuityOfContent="SEPARATE",
            ContentSequence=[group],
        ),
    ]
    d = _report(o, "1.2.840.10008.5.1.4.1.1.88.34", content, code("126000", "DCM", "Imaging Measurement Report"))
    d.ContentTemplateSequence = [make(MappingResource="DCMR", TemplateIdentifier="1500")]
    return d


def kos(o: Origin | None = None) -> Dataset:
    o = o or origin(series=10)
    content = [
        _content(
            "TEXT", "CONTAINS", code("113012", "DCM", "Key Object Description"), TextValue=f"for {o.person.referring}"
        ),
        _content(
            "IMAGE",
            "CONTAINS",
            None,
            ReferencedSOPSequence=[
                make(
                    ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2",
                    ReferencedSOPInstanceUID=Origin(o.person, o.study, 1).sop_uid,
                )
            ],
        ),
    ]
    d = _report(o, "1.2.840.10008.5.1.4.1.1.88.59", content, code("113000", "DCM", "Of Interest"))
    d.Modality = "KO"
    for keyword in (
        "CompletionFlag",
        "VerificationFlag",
        "VerifyingObserverSequence",
        "PerformedProcedureCodeSequence",
    ):
        del d[keyword]
    return d


def gsps(o: Origin | None = None) -> Dataset:
    o = o or origin(series=11)
    d = common(o, "1.2.840.10008.5.1.4.1.1.11.1", "PR")
    image = make(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=Origin(o.person, o.study, 1).sop_uid
    )
    text = make(
        UnformattedTextValue=f"{o.person.name.split('^')[0]} here",
        AnchorPoint=[10.0, 10.0],
        AnchorPointVisibility="Y",
        AnchorPointAnnotationUnits="PIXEL",
    )
    extend(
        d,
        BodyPartExamined="ABDOMEN",
        ContentLabel="NOTES",
        ContentDescription="reading",
        PresentationCreationDate=o.date,
        PresentationCreationTime=o.time,
        ContentCreatorName=o.person.operator,
        PresentationLUTShape="IDENTITY",
        ReferencedSeriesSequence=[
            make(SeriesInstanceUID=Origin(o.person, o.study, 1).series_uid, ReferencedImageSequence=[image])
        ],
        GraphicAnnotationSequence=[
            make(ReferencedImageSequence=[image], GraphicLayer="LAYER1", TextObjectSequence=[text])
        ],
        GraphicLayerSequence=[
            make(GraphicLayer="LAYER1", GraphicLayerOrder=1, GraphicLayerDescription="marks of the night shift")
        ],
        DisplayedAreaSelectionSequence=[
            make(
                DisplayedAreaTopLeftHandCorner=[1, 1],
                DisplayedAreaBottomRightHandCorner=[512, 512],
                PresentationSizeMode="SCALE TO FIT",
                PresentationPixelSpacing=["1", "1"],
            )
        ],
    )
    return d


def pdf(o: Origin | None = None) -> Dataset:
    o = o or origin(series=12)
    d = common(o, "1.2.840.10008.5.1.4.1.1.104.1", "DOC")
    document = b"%PDF-1.4\n% " + o.person.name.encode() + b"\n%%EOF\n"
    extend(
        d,
        ConversionType="WSD",
        BurnedInAnnotation="YES",
        AcquisitionDateTime=o.date + o.time,
        DocumentTitle=f"letter of {o.person.name}",
        ConceptNameCodeSequence=[],
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocumentLength=len(document),
    )
    d.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return d


def ecg(o: Origin | None = None) -> Dataset:
    o = o or origin(series=13)
    d = common(o, "1.2.840.10008.5.1.4.1.1.9.1.1", "ECG")
    channel = make(
        ChannelSourceSequence=[code("2:1", "MDC", "Lead I")],
        ChannelSensitivity="1",
        WaveformBitsStored=16,
        ChannelLabel="I",
        ChannelSensitivityUnitsSequence=[code("uV", "UCUM", "microvolt")],
        ChannelSensitivityCorrectionFactor="1",
        ChannelBaseline="0",
    )
    channel.ChannelSampleSkew = "0"
    extend(
        d,
        AcquisitionDateTime=o.date + o.time,
        AcquisitionContextSequence=[],
        WaveformSequence=[
            make(
                WaveformOriginality="ORIGINAL",
                NumberOfWaveformChannels=1,
                NumberOfWaveformSamples=100,
                SamplingFrequency="500",
                ChannelDefinitionSequence=[channel],
                WaveformBitsAllocated=16,
                WaveformSampleInterpretation="SS",
            )
        ],
        WaveformAnnotationSequence=[
            make(
                UnformattedTextValue=f"{o.person.name.split('^')[0]} at rest",
                AnnotationGroupNumber=0,
                ReferencedWaveformChannels=[1, 0],
            )
        ],
    )
    d.WaveformSequence[0].add_new(0x54001010, "OW", b"\1\0" * 100)
    return d


def video(o: Origin | None = None) -> Dataset:
    o = o or origin(series=14)
    d = common(o, "1.2.840.10008.5.1.4.1.1.77.1.1.1", "ES")
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY"],
        AnatomicRegionSequence=[code("71854001", "SCT", "Colon")],
        AcquisitionContextSequence=[],
        LossyImageCompression="01",
        CineRate=25,
        FrameTime="40",
        FrameIncrementPointer=0x00181063,
        PatientOrientation="",
    )
    return pixels(d, 16, 16, bits=8, frames=2, samples=3, photometric="RGB", seed=15)
