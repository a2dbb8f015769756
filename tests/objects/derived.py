"""What is made from images: parametric maps, registrations, fiducials; and raw data."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from pydicom.dataset import Dataset

from tests.objects import functional as fg
from tests.objects.base import Origin, code, common, extend, frame_of_reference, make, origin, uid
from tests.objects.images import ct, mr


def _image(source: Dataset) -> Dataset:
    return make(ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=source.SOPInstanceUID)


def _series(sources: Iterable[Dataset]) -> list[Dataset]:
    found: dict[str, list[Dataset]] = {}
    for source in sources:
        found.setdefault(source.SeriesInstanceUID, []).append(_image(source))
    return [make(SeriesInstanceUID=series, ReferencedInstanceSequence=images) for series, images in found.items()]


def _sources(o: Origin) -> tuple[Dataset, Dataset]:
    return (
        ct(Origin(o.person, o.study, 1, 1), rows=16, columns=16),
        mr(Origin(o.person, o.study, 2, 1), rows=16, columns=16),
    )


def _labelled(d: Dataset, o: Origin) -> Dataset:
    """Content Identification, with people in it."""
    return extend(
        d,
        InstanceNumber=1,
        ContentLabel="RESULT",
        ContentDescription=f"of {o.person.name.split('^')[0]}",
        ContentCreatorName=o.person.operator,
    )


def parametric_map(o: Origin | None = None, *, source: Dataset | None = None) -> Dataset:
    """An ADC map in floating point, with a frame for one image."""
    o = o or origin(series=21)
    source = source or _sources(o)[1]
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.30", "MR"), o)
    frame = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
    derivation = make(
        DerivationCodeSequence=[code("113041", "DCM", "Apparent Diffusion Coefficient")],
        SourceImageSequence=[
            extend(
                _image(source),
                PurposeOfReferenceCodeSequence=[code("121322", "DCM", "Source image for image processing operation")],
            )
        ],
    )
    units = code("um2/s", "UCUM", "um2/s")
    mapping = make(
        LUTExplanation="ADC",
        LUTLabel="ADC",
        DoubleFloatRealWorldValueFirstValueMapped=0.0,
        DoubleFloatRealWorldValueLastValueMapped=4000.0,
        RealWorldValueIntercept=0.0,
        RealWorldValueSlope=1.0,
        MeasurementUnitsCodeSequence=[units],
        QuantityDefinitionSequence=[
            make(
                ValueType="CODE",
                ConceptNameCodeSequence=[code("246205007", "SCT", "Quantity")],
                ConceptCodeSequence=[code("113041", "DCM", "Apparent Diffusion Coefficient")],
            )
        ],
    )
    shared = {
        **fg.measures(),
        **fg.orientation(),
        **fg.anatomy(),
        "ParametricMapFrameTypeSequence": [make(FrameType=frame)],
        "RealWorldValueMappingSequence": [mapping],
        **fg.values(),
    }
    _labelled(d, o)
    extend(
        d,
        ImageType=frame,
        AcquisitionContextSequence=[],
        ContentQualification="RESEARCH",
        BurnedInAnnotation="NO",
        RecognizableVisualFeatures="NO",
        LossyImageCompression="00",
        PresentationLUTShape="IDENTITY",
        SharedFunctionalGroupsSequence=[make(**shared)],
        PerFrameFunctionalGroupsSequence=[
            make(**fg.content(o, 0), **fg.position(0), **fg.window(), DerivationImageSequence=[derivation])
        ],
        ReferencedSeriesSequence=_series([source]),
        NumberOfFrames=1,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=16,
        Columns=16,
        BitsAllocated=32,
        **fg.dimensions(o),
    )
    d.add_new(0x7FE00008, "OF", np.random.default_rng(21).random(256, dtype=np.float32).tobytes())
    return d


def _matrix() -> Dataset:
    return make(
        FrameOfReferenceTransformationMatrix=[*"100", "2.5", *"010", "0", *"001", "0", *"0001"],
        FrameOfReferenceTransformationMatrixType="RIGID",
    )


def _registering(o: Origin, sop_class: str) -> tuple[Dataset, list[Dataset]]:
    first, second = _sources(o)
    second.FrameOfReferenceUID = uid("frame", o.study_uid, "other")
    d = _labelled(frame_of_reference(common(o, sop_class, "REG"), o), o)
    extend(d, BodyPartExamined="ABDOMEN", ReferencedSeriesSequence=_series([first, second]))
    return d, [first, second]


def registration(o: Origin | None = None) -> Dataset:
    """A rigid registration of an MR to a CT series."""
    o = o or origin(series=22)
    d, sources = _registering(o, "1.2.840.10008.5.1.4.1.1.66.1")
    d.RegistrationSequence = [
        make(
            FrameOfReferenceUID=source.FrameOfReferenceUID,
            ReferencedImageSequence=[_image(source)],
            MatrixRegistrationSequence=[
                make(
                    FrameOfReferenceTransformationComment=f"checked for {o.person.name.split('^')[0]}",
                    RegistrationTypeCodeSequence=[code("125024", "DCM", "Image Content-based Alignment")],
                    MatrixSequence=[_matrix()],
                )
            ],
        )
        for source in sources
    ]
    return d


def deformable_registration(o: Origin | None = None) -> Dataset:
    """A deformable registration with a grid of vectors."""
    o = o or origin(series=23)
    d, sources = _registering(o, "1.2.840.10008.5.1.4.1.1.66.3")
    grid = make(
        ImagePositionPatient=["0", "0", "0"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        GridDimensions=[2, 2, 2],
        GridResolution=[1.0, 1.0, 1.0],
    )
    grid.add_new(0x00640009, "OF", struct.pack("<24f", *[number / 8 for number in range(24)]))
    d.DeformableRegistrationSequence = [
        make(
            SourceFrameOfReferenceUID=source.FrameOfReferenceUID,
            ReferencedImageSequence=[_image(source)],
            RegistrationTypeCodeSequence=[code("125024", "DCM", "Image Content-based Alignment")],
            PreDeformationMatrixRegistrationSequence=[_matrix()],
            PostDeformationMatrixRegistrationSequence=[_matrix()],
            DeformableRegistrationGridSequence=[grid.copy()],
        )
        for source in sources
    ]
    return d


def fiducials(o: Origin | None = None) -> Dataset:
    """Marks in an image, each with a description."""
    o = o or origin(series=24)
    source = _sources(o)[0]
    d = _labelled(common(o, "1.2.840.10008.5.1.4.1.1.66.2", "FID"), o)
    mark = make(
        FiducialIdentifier="F1",
        FiducialDescription=f"left ear of {o.person.name.split('^')[0]}",
        ShapeType="POINT",
        NumberOfContourPoints=1,
        ContourData=["4", "5", "0"],
        GraphicCoordinatesDataSequence=[make(GraphicData=[4.0, 5.0], ReferencedImageSequence=[_image(source)])],
        FiducialUID=uid("fiducial", o.sop_uid),
    )
    return extend(
        d,
        BodyPartExamined="HEAD",
        FiducialSetSequence=[
            make(
                ReferencedImageSequence=[_image(source)],
                FrameOfReferenceUID=source.FrameOfReferenceUID,
                FiducialSequence=[mark],
            )
        ],
        ReferencedSeriesSequence=_series([source]),
    )


def raw_data(o: Origin | None = None) -> Dataset:
    """Raw data of a scanner: nobody but its maker can say what is in them."""
    o = o or origin(series=25)
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.66", "MR"), o)
    extend(
        d,
        BodyPartExamined="HEAD",
        InstanceNumber=1,
        AcquisitionDateTime=o.date + o.time,
        AcquisitionContextSequence=[],
        CreatorVersionUID=uid("creator"),
        ReferencedInstanceSequence=[
            extend(_image(_sources(o)[1]), PurposeOfReferenceCodeSequence=[code("113076", "DCM", "Segmentation")])
        ],
    )
    block = d.private_block(0x0029, "ZZYZX RAW 01", create=True)
    block.add_new(0x10, "OB", b"raw of " + o.person.name.encode() + bytes(64))
    return d
