"""Ophthalmic photographs and tomography, whole slides and their annotations."""

from __future__ import annotations

import struct
from typing import Any

from pydicom.dataset import Dataset

from tests.objects import functional as fg
from tests.objects.base import Origin, code, common, extend, frame_of_reference, make, origin, pixels, uid

_EYE = ("81745001", "SCT", "Eye")


def _eye() -> dict[str, Any]:
    """Ocular region and what both photographs and tomographs say of the patient."""
    return {
        "AnatomicRegionSequence": [code(*_EYE)],
        "PatientEyeMovementCommanded": "",
        "RefractiveStateSequence": [],
        "EmmetropicMagnification": None,
        "IntraOcularPressure": None,
        "HorizontalFieldOfView": None,
        "PupilDilated": "NO",
    }


def photograph(o: Origin | None = None) -> Dataset:
    """Ophthalmic Photography 8 Bit: visible light."""
    o = o or origin()
    d = common(o, "1.2.840.10008.5.1.4.1.1.77.1.5.1", "OP")
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY"],
        AcquisitionDateTime=o.date + o.time,
        ImageLaterality="R",
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        PatientOrientation="",
        PresentationLUTShape="IDENTITY",
        DetectorType="CCD",
        SynchronizationFrameOfReferenceUID=uid("synchronisation", o.study_uid),
        SynchronizationTrigger="NO TRIGGER",
        AcquisitionTimeSynchronized="N",
        FrameTime="40",
        FrameIncrementPointer=0x00181063,
        AcquisitionDeviceTypeCodeSequence=[code("409898007", "SCT", "Fundus Camera")],
        IlluminationTypeCodeSequence=[],
        LightPathFilterTypeStackCodeSequence=[],
        ImagePathFilterTypeStackCodeSequence=[],
        LensesCodeSequence=[],
        **_eye(),
    )
    return pixels(d, 32, 32, bits=8, frames=2, seed=11)


def tomograph(o: Origin | None = None) -> Dataset:
    """Ophthalmic Tomography (OCT): two slices of a retina."""
    o = o or origin(series=31)
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.77.1.5.4", "OPT"), o)
    shared = {
        **fg.measures(),
        **fg.orientation(),
        "FrameAnatomySequence": [make(FrameLaterality="R", AnatomicRegionSequence=[code("5665001", "SCT", "Retina")])],
    }
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY"],
        AcquisitionDateTime=o.date + o.time,
        AcquisitionDuration=1.5,
        AcquisitionNumber=1,
        AcquisitionContextSequence=[],
        ImageLaterality="R",
        ConcatenationFrameOffsetNumber=0,
        InConcatenationNumber=1,
        InConcatenationTotalNumber=2,
        ConcatenationUID=uid("concatenation", o.sop_uid),
        SOPInstanceUIDOfConcatenationSource=uid("concatenation source", o.sop_uid),
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        PresentationLUTShape="IDENTITY",
        SynchronizationFrameOfReferenceUID=uid("synchronisation", o.study_uid),
        SynchronizationTrigger="NO TRIGGER",
        AcquisitionTimeSynchronized="N",
        AcquisitionDeviceTypeCodeSequence=[code("392012008", "SCT", "Optical Coherence Tomography Scanner")],
        LightPathFilterTypeStackCodeSequence=[],
        DetectorType="CCD",
        IlluminationWaveLength=830.0,
        IlluminationPower=700.0,
        IlluminationBandwidth=40.0,
        DepthSpatialResolution=6.0,
        MaximumDepthDistortion=1.0,
        AlongScanSpatialResolution=14.0,
        MaximumAlongScanDistortion=1.0,
        AcrossScanSpatialResolution=14.0,
        MaximumAcrossScanDistortion=1.0,
        OphthalmicImageOrientation="LINEAR",
        AxialLengthOfTheEye=24.0,
        SharedFunctionalGroupsSequence=[make(**shared)],
        PerFrameFunctionalGroupsSequence=[make(**fg.content(o, number), **fg.position(number)) for number in range(2)],
        **_eye(),
        **fg.dimensions(o),
    )
    return pixels(d, 16, 16, bits=8, frames=2, seed=31)


def slide(o: Origin | None = None) -> Dataset:
    """A whole slide: one small level of two tiles, with label, barcode and specimen of the patient."""
    o = o or origin(series=32)
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.77.1.6", "SM"), o)
    name = o.person.name.split("^")[0]
    shared = {
        "PixelMeasuresSequence": [make(SliceThickness="0.001", PixelSpacing=["0.0005", "0.0005"])],
        "WholeSlideMicroscopyImageFrameTypeSequence": [make(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
        "OpticalPathIdentificationSequence": [make(OpticalPathIdentifier="1")],
    }

    def tile(number: int) -> Dataset:
        place = make(
            XOffsetInSlideCoordinateSystem="0",
            YOffsetInSlideCoordinateSystem="0",
            ZOffsetInSlideCoordinateSystem="0",
            ColumnPositionInTotalImagePixelMatrix=1 + 16 * number,
            RowPositionInTotalImagePixelMatrix=1,
        )
        index = make(DimensionIndexValues=[1 + 16 * number])
        return make(FrameContentSequence=[index], PlanePositionSlideSequence=[place])

    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        AcquisitionDateTime=o.date + o.time,
        AcquisitionContextSequence=[],
        AcquisitionDuration=2.0,
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        VolumetricProperties="VOLUME",
        SpecimenLabelInImage="NO",
        FocusMethod="AUTO",
        ExtendedDepthOfField="NO",
        ImagedVolumeWidth=0.016,
        ImagedVolumeHeight=0.008,
        ImagedVolumeDepth=1.0,
        TotalPixelMatrixColumns=32,
        TotalPixelMatrixRows=16,
        TotalPixelMatrixFocalPlanes=1,
        NumberOfOpticalPaths=1,
        ImageOrientationSlide=["0", "-1", "0", "-1", "0", "0"],
        TotalPixelMatrixOriginSequence=[make(XOffsetInSlideCoordinateSystem="10", YOffsetInSlideCoordinateSystem="20")],
        ContainerIdentifier=f"S11-{o.person.patient_id}",
        IssuerOfTheContainerIdentifierSequence=[],
        ContainerTypeCodeSequence=[code("433466003", "SCT", "Microscope slide")],
        SpecimenDescriptionSequence=[
            make(
                SpecimenIdentifier=f"S11-{o.person.patient_id}-A",
                SpecimenUID=uid("specimen", o.study_uid),
                IssuerOfTheSpecimenIdentifierSequence=[],
                SpecimenShortDescription=f"block A of {name}",
                SpecimenDetailedDescription=f"removed on {o.date} from {o.person.name}",
                SpecimenPreparationSequence=[],
            )
        ],
        OpticalPathSequence=[
            make(
                OpticalPathIdentifier="1",
                OpticalPathDescription="brightfield",
                IlluminationTypeCodeSequence=[code("111744", "DCM", "Brightfield illumination")],
                IlluminationColorCodeSequence=[code("11744", "DCM", "Full Spectrum")],
                ICCProfile=b"\0" * 8 + b"none" + b"\0" * 4,
            )
        ],
        DimensionOrganizationType="TILED_SPARSE",
        SharedFunctionalGroupsSequence=[make(**shared)],
        PerFrameFunctionalGroupsSequence=[tile(0), tile(1)],
        LabelText=f"{name} {o.person.patient_id}",
        BarcodeValue=o.person.patient_id,
        **fg.dimensions(o, 0x0048021E, 0x0048021A),
    )
    return pixels(d, 16, 16, bits=8, frames=2, samples=3, photometric="RGB", seed=32)


def slide_annotations(o: Origin | None = None) -> Dataset:
    """Bulk annotations of a slide: points, and a label that names somebody."""
    o = o or origin(series=33)
    source = slide(Origin(o.person, o.study, 32, 1))
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.91.1", "ANN"), o)
    d.FrameOfReferenceUID = source.FrameOfReferenceUID
    image = make(ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=source.SOPInstanceUID)
    group = make(
        AnnotationGroupNumber=1,
        AnnotationGroupUID=uid("annotations", o.sop_uid),
        AnnotationGroupLabel=f"nuclei of {o.person.name.split('^')[0]}",
        AnnotationGroupGenerationType="MANUAL",
        AnnotationPropertyCategoryCodeSequence=[code("91723000", "SCT", "Anatomical Structure")],
        AnnotationPropertyTypeCodeSequence=[code("84640000", "SCT", "Nucleus")],
        NumberOfAnnotations=2,
        AnnotationAppliesToAllOpticalPaths="YES",
        GraphicType="POINT",
    )
    group.add_new(0x00660016, "OF", struct.pack("<4f", 1.0, 2.0, 3.0, 4.0))
    return extend(
        d,
        BodyPartExamined="ABDOMEN",
        InstanceNumber=1,
        ContentLabel="NUCLEI",
        ContentDescription=f"counted by {o.person.operator}",
        ContentCreatorName=o.person.operator,
        AnnotationCoordinateType="2D",
        PixelOriginInterpretation="VOLUME",
        ReferencedImageSequence=[image],
        ReferencedSeriesSequence=[make(SeriesInstanceUID=source.SeriesInstanceUID, ReferencedInstanceSequence=[image])],
        AnnotationGroupSequence=[group],
    )
