"""Images with functional groups."""

from __future__ import annotations

from pydicom.dataset import Dataset

from tests.objects.base import Origin, code, common, extend, frame_of_reference, make, origin, pixels, uid
from tests.objects.images import ct


def _functional(d: Dataset, o: Origin, frames: int, kind: str, spacing: str = "1") -> Dataset:
    extend(
        d,
        AcquisitionDateTime=o.date + o.time,
        AcquisitionDuration=3.5,
        ContentQualification="PRODUCT",
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        PresentationLUTShape="IDENTITY",
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        AcquisitionContextSequence=[],
        AcquisitionNumber=1,
        PatientPosition="HFS",
        DimensionOrganizationSequence=[make(DimensionOrganizationUID=uid("dimension", o.sop_uid))],
        DimensionIndexSequence=[
            make(
                DimensionOrganizationUID=uid("dimension", o.sop_uid),
                DimensionIndexPointer=0x00200032,
                FunctionalGroupPointer=0x00209113,
            )
        ],
    )
    frame_type = f"{kind}ImageFrameTypeSequence"
    shared = make(
        PixelMeasuresSequence=[make(SliceThickness="1", PixelSpacing=[spacing, spacing])],
        PlaneOrientationSequence=[make(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"])],
        FrameAnatomySequence=[make(FrameLaterality="U", AnatomicRegionSequence=[code("818981001", "SCT", "Abdomen")])],
        PixelValueTransformationSequence=[make(RescaleIntercept="0", RescaleSlope="1", RescaleType="US")],
    )
    setattr(
        shared,
        frame_type,
        [
            make(
                FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
                PixelPresentation="MONOCHROME",
                VolumetricProperties="VOLUME",
                VolumeBasedCalculationTechnique="NONE",
            )
        ],
    )
    d.SharedFunctionalGroupsSequence = [shared]
    d.PerFrameFunctionalGroupsSequence = [
        make(
            FrameContentSequence=[
                make(
                    FrameReferenceDateTime=o.date + o.time,
                    FrameAcquisitionDateTime=o.date + o.time,
                    FrameAcquisitionDuration=0.5,
                    StackID="1",
                    InStackPositionNumber=n + 1,
                    DimensionIndexValues=[n + 1],
                    FrameComments=f"frame {n} of {o.person.name}",
                )
            ],
            PlanePositionSequence=[make(ImagePositionPatient=["0", "0", f"{n}"])],
            FrameVOILUTSequence=[make(WindowCenter="100", WindowWidth="200")],
            ReferencedImageSequence=[
                make(
                    ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2",
                    ReferencedSOPInstanceUID=uid("scout", o.study_uid),
                    PurposeOfReferenceCodeSequence=[code("121311", "DCM", "Localizer")],
                )
            ],
        )
        for n in range(frames)
    ]
    return d


def enhanced_ct(o: Origin | None = None, *, frames: int = 3, rows: int = 32) -> Dataset:
    o = o or origin()
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.2.1", "CT"), o)
    d.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    return pixels(_functional(d, o, frames, "CT"), rows, rows, stored=12, frames=frames, seed=12)


def enhanced_mr(o: Origin | None = None, *, frames: int = 3) -> Dataset:
    o = o or origin()
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.4.1", "MR"), o)
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY", "T1", "NONE"],
        MagneticFieldStrength=1.5,
        ResonantNucleus="1H",
        KSpaceFiltering="NONE",
        ApplicableSafetyStandardAgency="IEC",
        ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast="T1",
    )
    return pixels(_functional(d, o, frames, "MR"), 32, 32, stored=12, frames=frames, seed=13)


def seg(o: Origin | None = None, *, source: Dataset | None = None) -> Dataset:
    """A binary segmentation of a CT series."""
    o = o or origin(series=3)
    source = source or ct(Origin(o.person, o.study, 1, 1), rows=16, columns=16)
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.66.4", "SEG"), o)
    del d.PositionReferenceIndicator
    d.FrameOfReferenceUID = source.FrameOfReferenceUID
    d.PositionReferenceIndicator = ""
    extend(
        d,
        ImageType=["DERIVED", "PRIMARY"],
        ContentLabel="LIVER",
        ContentDescription=f"liver of {o.person.name.split('^')[0]}",
        ContentCreatorName=o.person.operator,
        SegmentationType="BINARY",
        LossyImageCompression="00",
        SegmentsOverlap="NO",
        SegmentSequence=[
            make(
                SegmentNumber=1,
                SegmentLabel="Liver",
                SegmentAlgorithmType="MANUAL",
                SegmentDescription="by hand",
                SegmentedPropertyCategoryCodeSequence=[code("91723000", "SCT", "Anatomical Structure")],
                SegmentedPropertyTypeCodeSequence=[code("10200004", "SCT", "Liver")],
                TrackingID="lesion of ward 9",
                TrackingUID=uid("tracking", o.study_uid),
            )
        ],
        DimensionOrganizationSequence=[make(DimensionOrganizationUID=uid("dimension", o.sop_uid))],
        DimensionIndexSequence=[
            make(
                DimensionOrganizationUID=uid("dimension", o.sop_uid),
                DimensionIndexPointer=0x0062000B,
                FunctionalGroupPointer=0x0062000A,
            )
        ],
        SharedFunctionalGroupsSequence=[
            make(
                PixelMeasuresSequence=[make(SliceThickness="1.5", PixelSpacing=["1", "1"])],
                PlaneOrientationSequence=[make(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"])],
                SegmentIdentificationSequence=[make(ReferencedSegmentNumber=1)],
            )
        ],
        PerFrameFunctionalGroupsSequence=[
            make(
                FrameContentSequence=[make(DimensionIndexValues=[1])],
                PlanePositionSequence=[make(ImagePositionPatient=["0", "0", "0"])],
                DerivationImageSequence=[
                    make(
                        DerivationCodeSequence=[code("113076", "DCM", "Segmentation")],
                        SourceImageSequence=[
                            make(
                                ReferencedSOPClassUID=source.SOPClassUID,
                                ReferencedSOPInstanceUID=source.SOPInstanceUID,
                                PurposeOfReferenceCodeSequence=[
                                    code("121322", "DCM", "Source image for image processing operation")
                                ],
                            )
                        ],
                    )
                ],
            )
        ],
        ReferencedSeriesSequence=[
            make(
                SeriesInstanceUID=source.SeriesInstanceUID,
                ReferencedInstanceSequence=[
                    make(ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=source.SOPInstanceUID)
                ],
            )
        ],
    )
    pixels(d, 16, 16, bits=8, frames=1)
    extend(d, BitsAllocated=1, BitsStored=1, HighBit=0)
    d.PixelData = b"\x0f" * 32
    return d
