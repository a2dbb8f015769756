"""Functional group macros (PS3.3 C.7.6.16 and the enhanced IODs), with what each of them demands."""

from __future__ import annotations

from typing import Any

from tests.objects.base import Origin, code, extend, make, uid

ABDOMEN = ("818981001", "SCT", "Abdomen")


def measures(spacing: str = "1") -> dict[str, Any]:
    """Pixel Measures."""
    return {"PixelMeasuresSequence": [make(SliceThickness="1", PixelSpacing=[spacing, spacing])]}


def orientation() -> dict[str, Any]:
    """Plane Orientation (Patient)."""
    return {"PlaneOrientationSequence": [make(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"])]}


def position(z: float) -> dict[str, Any]:
    """Plane Position (Patient)."""
    return {"PlanePositionSequence": [make(ImagePositionPatient=["0", "0", f"{z}"])]}


def anatomy() -> dict[str, Any]:
    """Frame Anatomy."""
    return {"FrameAnatomySequence": [make(FrameLaterality="U", AnatomicRegionSequence=[code(*ABDOMEN)])]}


def values(kind: str = "US") -> dict[str, Any]:
    """Pixel Value Transformation."""
    return {
        "PixelValueTransformationSequence": [make(RescaleIntercept="0", RescaleSlope="1", RescaleType=kind)],
    }


def frame_type(keyword: str, frame: list[str], **more: Any) -> dict[str, Any]:
    """The frame type macro of a modality."""
    item = make(
        FrameType=frame,
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        **more,
    )
    return {keyword: [item]}


def content(o: Origin, number: int, **more: Any) -> dict[str, Any]:
    """Frame Content, with dates, a stack and a comment that names the patient."""
    item = make(
        FrameReferenceDateTime=o.date + o.time,
        FrameAcquisitionDateTime=o.date + o.time,
        FrameAcquisitionDuration=0.5,
        StackID="1",
        InStackPositionNumber=number + 1,
        DimensionIndexValues=[number + 1],
        FrameComments=f"frame {number} of {o.person.name}",
    )
    return {"FrameContentSequence": [extend(item, **more)]}


def scout(o: Origin) -> dict[str, Any]:
    """Referenced Image."""
    item = make(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2",
        ReferencedSOPInstanceUID=uid("scout", o.study_uid),
        PurposeOfReferenceCodeSequence=[code("121311", "DCM", "Localizer")],
    )
    return {"ReferencedImageSequence": [item]}


def evidence(o: Origin) -> dict[str, Any]:
    """Referenced Image Evidence, which lists what the frames refer to."""
    image = make(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=uid("scout", o.study_uid))
    series = make(SeriesInstanceUID=uid("scout series", o.study_uid), ReferencedSOPSequence=[image])
    return {"ReferencedImageEvidenceSequence": [make(StudyInstanceUID=o.study_uid, ReferencedSeriesSequence=[series])]}


def window() -> dict[str, Any]:
    """Frame VOI LUT."""
    return {"FrameVOILUTSequence": [make(WindowCenter="100", WindowWidth="200")]}


def dimensions(o: Origin, pointer: int = 0x00200032, group: int = 0x00209113) -> dict[str, Any]:
    """The Multi-frame Dimension module."""
    own = uid("dimension", o.sop_uid)
    index = make(DimensionOrganizationUID=own, DimensionIndexPointer=pointer, FunctionalGroupPointer=group)
    return {
        "DimensionOrganizationSequence": [make(DimensionOrganizationUID=own)],
        "DimensionIndexSequence": [index],
    }


def ct_macros(o: Origin) -> dict[str, Any]:
    """What Enhanced CT asks of an original image."""
    return {
        "IrradiationEventIdentificationSequence": [make(IrradiationEventUID=uid("irradiation", o.series_uid))],
        "CTAcquisitionTypeSequence": [make(AcquisitionType="SEQUENCED", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")],
        "CTAcquisitionDetailsSequence": [
            make(
                RotationDirection="CW",
                RevolutionTime=0.5,
                SingleCollimationWidth=0.6,
                TotalCollimationWidth=38.4,
                TableHeight="152.5",
                GantryDetectorTilt="0",
                DataCollectionDiameter="500",
            )
        ],
        "CTTableDynamicsSequence": [make(TableSpeed=57.6, TableFeedPerRotation=28.8, SpiralPitchFactor=0.75)],
        "CTPositionSequence": [
            make(
                TablePosition=-700.0,
                DataCollectionCenterPatient=[0.0, 0.0, 0.0],
                ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
            )
        ],
        "CTGeometrySequence": [make(DistanceSourceToDetector="1085.6", DistanceSourceToDataCollectionCenter=595.0)],
        "CTReconstructionSequence": [
            make(
                ReconstructionAlgorithm="FILTER_BACK_PROJ",
                ConvolutionKernel="B30f",
                ConvolutionKernelGroup="SOFT_TISSUE",
                ReconstructionDiameter="380",
                ReconstructionPixelSpacing=[1.0, 1.0],
                ReconstructionAngle=180.0,
                ImageFilter="none",
            )
        ],
        "CTExposureSequence": [
            make(
                ExposureTimeInms=500.0,
                XRayTubeCurrentInmA=188.0,
                ExposureInmAs=94.0,
                ExposureModulationType="NONE",
                CTDIvol=6.35,
                CTDIPhantomTypeCodeSequence=[code("113691", "DCM", "IEC Body Dosimetry Phantom")],
            )
        ],
        "CTXRayDetailsSequence": [
            make(
                KVP="120",
                FocalSpots=1.2,
                FilterType="FLAT",
                FilterMaterial="ALUMINUM",
                CalciumScoringMassFactorPatient=1.0,
            )
        ],
    }


def mr_macros() -> dict[str, Any]:
    """What Enhanced MR asks of an original image."""
    return {
        "MRTimingAndRelatedParametersSequence": [
            make(
                RepetitionTime="500",
                FlipAngle="90",
                EchoTrainLength=1,
                RFEchoTrainLength=1,
                GradientEchoTrainLength=0,
                SpecificAbsorptionRateSequence=[
                    make(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=0.2)
                ],
                GradientOutputType="DB_DT",
                GradientOutput=10.0,
                OperatingModeSequence=[make(OperatingModeType="STATIC FIELD", OperatingMode="IEC_NORMAL")],
            )
        ],
        "MREchoSequence": [make(EffectiveEchoTime=12.0)],
        "MRFOVGeometrySequence": [
            make(
                InPlanePhaseEncodingDirection="ROW",
                MRAcquisitionFrequencyEncodingSteps=32,
                MRAcquisitionPhaseEncodingStepsInPlane=32,
                PercentSampling="100",
                PercentPhaseFieldOfView="100",
            )
        ],
        "MRModifierSequence": [
            make(
                InversionRecovery="NO",
                FlowCompensation="NONE",
                Spoiling="NONE",
                T2Preparation="NO",
                SpectrallySelectedExcitation="NONE",
                SpatialPresaturation="NONE",
                PartialFourier="NO",
                ParallelAcquisition="NO",
            )
        ],
        "MRImagingModifierSequence": [
            make(
                MagnetizationTransfer="NONE",
                BloodSignalNulling="NO",
                Tagging="NONE",
                TransmitterFrequency=63.6,
                PixelBandwidth="130",
            )
        ],
        "MRReceiveCoilSequence": [
            make(
                ReceiveCoilName="Head",
                ReceiveCoilManufacturerName="Nowhere Imaging Works",
                ReceiveCoilType="VOLUME",
                QuadratureReceiveCoil="YES",
            )
        ],
        "MRTransmitCoilSequence": [
            make(
                TransmitCoilName="Body",
                TransmitCoilManufacturerName="Nowhere Imaging Works",
                TransmitCoilType="BODY",
            )
        ],
        "MRAveragesSequence": [make(NumberOfAverages="1")],
    }
