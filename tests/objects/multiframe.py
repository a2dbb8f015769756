"""Images with functional groups."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from tests.objects import functional as fg
from tests.objects.base import Origin, code, common, extend, frame_of_reference, make, origin, pixels, uid
from tests.objects.images import ct


def _enhanced(d: Dataset, o: Origin, frames: int, shared: dict[str, Any]) -> Dataset:
    """The modules of an enhanced image, with the shared groups given and the usual ones of each frame."""
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
        SharedFunctionalGroupsSequence=[make(**shared)],
        PerFrameFunctionalGroupsSequence=[
            make(**fg.content(o, n), **fg.position(n), **fg.window(), **fg.scout(o)) for n in range(frames)
        ],
        **fg.dimensions(o),
        **fg.evidence(o),
    )
    return d


def enhanced_ct(o: Origin | None = None, *, frames: int = 3, rows: int = 32) -> Dataset:
    o = o or origin()
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.2.1", "CT"), o)
    d.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    d.MultienergyCTAcquisition = "NO"
    kind = fg.frame_type("CTImageFrameTypeSequence", list(d.ImageType))
    shared = {**fg.measures(), **fg.orientation(), **fg.anatomy(), **fg.values("HU"), **kind, **fg.ct_macros(o)}
    return pixels(_enhanced(d, o, frames, shared), rows, rows, stored=12, frames=frames, seed=12)


def enhanced_mr(o: Origin | None = None, *, frames: int = 3) -> Dataset:
    o = o or origin()
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.4.1", "MR"), o)
    image = {"ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "T1"}
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY", "T1", "NONE"],
        MagneticFieldStrength=1.5,
        ResonantNucleus="1H",
        KSpaceFiltering="NONE",
        ApplicableSafetyStandardAgency="IEC",
        PulseSequenceName="se2d1",
        MRAcquisitionType="2D",
        EchoPulseSequence="SPIN",
        MultipleSpinEcho="NO",
        MultiPlanarExcitation="NO",
        OversamplingPhase="NONE",
        PhaseContrast="NO",
        TimeOfFlightContrast="NO",
        SteadyStatePulseSequence="NONE",
        EchoPlanarPulseSequence="NO",
        SaturationRecovery="NO",
        SpectrallySelectedSuppression="NONE",
        GeometryOfKSpaceTraversal="RECTILINEAR",
        RectilinearPhaseEncodeReordering="LINEAR",
        SegmentedKSpaceTraversal="SINGLE",
        NumberOfKSpaceTrajectories=1,
        **image,
    )
    kind = fg.frame_type("MRImageFrameTypeSequence", list(d.ImageType), **image)
    shared = {**fg.measures(), **fg.orientation(), **fg.anatomy(), **fg.values(), **kind, **fg.mr_macros()}
    return pixels(_enhanced(d, o, frames, shared), 32, 32, stored=12, frames=frames, seed=13)


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
