"""Enhanced PET, XA and ultrasound volumes."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from tests.objects import functional as fg
from tests.objects.base import Origin, code, common, extend, frame_of_reference, make, origin, pixels, uid

ORIGINAL = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]


def start(o: Origin, sop_class: str, modality: str, **more: Any) -> Dataset:
    """What the enhanced images here have in common."""
    d = frame_of_reference(common(o, sop_class, modality), o)
    return extend(
        d,
        ImageType=ORIGINAL,
        AcquisitionDateTime=o.date + o.time,
        AcquisitionDuration=3.5,
        AcquisitionNumber=1,
        AcquisitionContextSequence=[],
        ContentQualification="PRODUCT",
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        PresentationLUTShape="IDENTITY",
        **more,
    )


def enhanced_pet(o: Origin | None = None) -> Dataset:
    """Two frames, with the doses and times that uptake values are made of."""
    o = o or origin(series=41)
    d = start(o, "1.2.840.10008.5.1.4.1.1.130", "PT", PatientPosition="HFS")
    dose = make(
        RadionuclideCodeSequence=[code("77004003", "SCT", "^18^Fluorine")],
        RadiopharmaceuticalCodeSequence=[code("35321007", "SCT", "Fluorodeoxyglucose F^18^")],
        AdministrationRouteCodeSequence=[code("47625008", "SCT", "Intravenous route")],
        RadiopharmaceuticalAgentNumber=1,
        RadiopharmaceuticalStartDateTime=o.date + o.time,
        RadionuclideTotalDose="370000000",
        RadionuclideHalfLife="6586.2",
        RadionuclidePositronFraction="0.97",
    )
    view = code("81654009", "SCT", "Coronal")
    view.ViewModifierCodeSequence = []
    view.SliceProgressionDirection = "HEAD_TO_FEET"
    shared = {
        **fg.measures("4"),
        **fg.orientation(),
        **fg.anatomy(),
        **fg.values(),
        **fg.frame_type("PETFrameTypeSequence", ORIGINAL),
        "RadiopharmaceuticalUsageSequence": [make(RadiopharmaceuticalAgentNumber=1)],
        "PETFrameCorrectionFactorsSequence": [
            make(
                PrimaryPromptsCountsAccumulated=1000,
                SliceSensitivityFactor="1",
                DecayFactor="1.02",
                ScatterFractionFactor="0.3",
                DeadTimeFactor="1.1",
            )
        ],
        "PETFrameAcquisitionSequence": [
            make(TableHeight="152.5", GantryDetectorTilt="0", GantryDetectorSlew="0", DataCollectionDiameter="500")
        ],
        "PETPositionSequence": [
            make(
                TablePosition=-700.0,
                DataCollectionCenterPatient=[0.0, 0.0, 0.0],
                ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
            )
        ],
        "PETReconstructionSequence": [
            make(
                ReconstructionType="3D",
                ReconstructionAlgorithm="OSEM",
                IterativeReconstructionMethod="YES",
                NumberOfIterations=2,
                NumberOfSubsets=21,
                ReconstructionDiameter="600",
            )
        ],
    }
    extend(
        d,
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        RadiopharmaceuticalInformationSequence=[dose],
        TypeOfDetectorMotion="STATIONARY",
        AcquisitionStartCondition="MANU",
        AcquisitionTerminationCondition="MANU",
        DetectorGeometry="CYLINDRICAL_RING",
        TransverseDetectorSeparation=800.0,
        AxialDetectorDimension=200.0,
        CoincidenceWindowWidth="4.5",
        EnergyWindowRangeSequence=[make(EnergyWindowLowerLimit="425", EnergyWindowUpperLimit="650")],
        TableMotion="STATIC",
        TimeOfFlightInformationUsed="FALSE",
        ViewCodeSequence=[view],
        AttenuationCorrectionSource="CT",
        AttenuationCorrectionTemporalRelationship="CONCURRENT",
        ScatterCorrectionMethod="model",
        CollimatorType="NONE",
        DecayCorrected="YES",
        DecayCorrectionDateTime=o.date + o.time,
        AttenuationCorrected="YES",
        ScatterCorrected="YES",
        DeadTimeCorrected="YES",
        GantryMotionCorrected="NO",
        PatientMotionCorrected="NO",
        CountLossNormalizationCorrected="YES",
        RandomsCorrected="YES",
        NonUniformRadialSamplingCorrected="YES",
        SensitivityCalibrated="YES",
        DetectorNormalizationCorrection="YES",
        CountsSource="EMISSION",
        RandomsCorrectionMethod="DLYD",
        SharedFunctionalGroupsSequence=[make(**shared)],
        PerFrameFunctionalGroupsSequence=[
            make(**fg.content(o, n, TemporalPositionIndex=1), **fg.position(n), **fg.window(), **fg.scout(o))
            for n in range(2)
        ],
        **fg.dimensions(o),
        **fg.evidence(o),
    )
    return pixels(d, 16, 16, frames=2, seed=41)


def enhanced_xa(o: Origin | None = None) -> Dataset:
    """Two projections."""
    o = o or origin(series=42)
    d = start(o, "1.2.840.10008.5.1.4.1.1.12.1.1", "XA")
    frame = ["ORIGINAL", "PRIMARY", "", "NONE"]
    d.ImageType = frame
    shared = {
        "FrameAnatomySequence": [make(FrameLaterality="U", AnatomicRegionSequence=[code("80891009", "SCT", "Heart")])],
        "FramePixelDataPropertiesSequence": [
            make(
                FrameType=frame,
                ImagerPixelSpacing=["0.2", "0.2"],
                GeometricalProperties="UNIFORM",
                PixelIntensityRelationship="LIN",
                PixelIntensityRelationshipSign=1,
                ImageProcessingApplied="NONE",
            )
        ],
        "PatientOrientationInFrameSequence": [make(PatientOrientation=["L", "F"])],
        "IrradiationEventIdentificationSequence": [make(IrradiationEventUID=uid("irradiation", o.series_uid))],
        "ProjectionPixelCalibrationSequence": [
            make(
                TableHeight="100",
                DistanceObjectToTableTop=100.0,
                BeamAngle=0.0,
                ObjectPixelSpacingInCenterOfBeam=[0.15, 0.15],
            )
        ],
        "PositionerPositionSequence": [
            make(
                PositionerPrimaryAngle="0",
                PositionerSecondaryAngle="0",
            )
        ],
        "TablePositionSequence": [
            make(
                TableTopVerticalPosition="0",
                TableTopLongitudinalPosition="0",
                TableTopLateralPosition="0",
                TableHorizontalRotationAngle=0.0,
                TableHeadTiltAngle=0.0,
                TableCradleTiltAngle=0.0,
            )
        ],
        "CollimatorShapeSequence": [
            make(
                CollimatorShape=["RECTANGULAR"],
                CollimatorLeftVerticalEdge=1,
                CollimatorRightVerticalEdge=16,
                CollimatorUpperHorizontalEdge=1,
                CollimatorLowerHorizontalEdge=16,
            )
        ],
        "XRayGeometrySequence": [
            make(
                DistanceSourceToIsocenter=750.0,
                DistanceSourceToDetector="1085.6",
            )
        ],
    }
    recumbent = code("102538003", "SCT", "recumbent")
    recumbent.PatientOrientationModifierCodeSequence = [code("40199007", "SCT", "supine")]
    extend(
        d,
        PlaneIdentification="MONOPLANE",
        AcquiredImageAreaDoseProduct=1.2,
        AcquisitionProtocolName=f"coro {o.person.name.split('^')[0]}",
        AcquisitionProtocolDescription="left coronary",
        PositionerType="CARM",
        CArmPositionerTabletopRelationship="YES",
        RadiationSetting="GR",
        KVP="80",
        XRayTubeCurrentInmA=500.0,
        ExposureTimeInms=6.0,
        PlanesInAcquisition="SINGLE PLANE",
        PatientOrientationCodeSequence=[recumbent],
        PatientGantryRelationshipCodeSequence=[code("102540001", "SCT", "headfirst")],
        AveragePulseWidth="6",
        RadiationMode="PULSED",
        DistanceReceptorPlaneToDetectorHousing=10.0,
        SynchronizationFrameOfReferenceUID=uid("synchronisation", o.study_uid),
        SynchronizationTrigger="NO TRIGGER",
        AcquisitionTimeSynchronized="N",
        SharedFunctionalGroupsSequence=[make(**shared)],
        PerFrameFunctionalGroupsSequence=[make(**fg.content(o, n), **fg.window()) for n in range(2)],
        **fg.dimensions(o, 0x00209057, 0x00209111),
    )
    return pixels(d, 16, 16, bits=8, frames=2, seed=42)


def us_volume(o: Origin | None = None) -> Dataset:
    """An ultrasound volume."""
    o = o or origin(series=43)
    d = start(o, "1.2.840.10008.5.1.4.1.1.6.2", "US")
    view = code("81654009", "SCT", "Coronal")
    view.ViewModifierCodeSequence = []
    shared = {
        **fg.measures(),
        **fg.anatomy(),
        **fg.window(),
        "PlaneOrientationVolumeSequence": [make(ImageOrientationVolume=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])],
        "USImageDescriptionSequence": [
            make(FrameType=ORIGINAL, VolumetricProperties="VOLUME", VolumeBasedCalculationTechnique="NONE")
        ],
        "ImageDataTypeSequence": [make(DataType="TISSUE_INTENSITY", AliasedDataType="NO")],
    }
    extend(
        d,
        DimensionOrganizationType="3D",
        UltrasoundAcquisitionGeometry="APEX",
        ApexPosition=[0.0, 0.0, 0.0],
        VolumeToTransducerMappingMatrix=[
            1.0,
            0.0,
            0.0,
            0.0,
            0.0,
            1.0,
            0.0,
            0.0,
            0.0,
            0.0,
            1.0,
            0.0,
            0.0,
            0.0,
            0.0,
            1.0,
        ],
        VolumeFrameOfReferenceUID=uid("volume", o.study_uid),
        PatientOrientation="",
        RescaleIntercept="0",
        RescaleSlope="1",
        ViewCodeSequence=[view],
        AnatomicRegionSequence=[code("10200004", "SCT", "Liver")],
        TransducerScanPatternCodeSequence=[code("125241", "DCM", "Plane scan pattern")],
        TransducerGeometryCodeSequence=[code("125252", "DCM", "Linear ultrasound transducer geometry")],
        TransducerBeamSteeringCodeSequence=[code("125258", "DCM", "Phased beam steering")],
        TransducerApplicationCodeSequence=[code("125261", "DCM", "External Transducer")],
        BoneThermalIndex=0.1,
        CranialThermalIndex=0.1,
        SoftTissueThermalIndex=0.1,
        MechanicalIndex=0.5,
        DepthsOfFocus=[50.0],
        DepthOfScanField=120,
        SynchronizationFrameOfReferenceUID=uid("synchronisation", o.study_uid),
        SynchronizationTrigger="NO TRIGGER",
        AcquisitionTimeSynchronized="N",
        PositionMeasuringDeviceUsed="RIGID",
        ProcessingFunction="none",
        SharedFunctionalGroupsSequence=[make(**shared)],
        PerFrameFunctionalGroupsSequence=[
            make(
                **fg.content(o, n),
                PlanePositionVolumeSequence=[make(ImagePositionVolume=[0.0, 0.0, float(n)])],
            )
            for n in range(2)
        ],
        **fg.dimensions(o, 0x00209301, 0x0020930E),
    )
    return pixels(d, 16, 16, bits=8, frames=2, seed=43)
