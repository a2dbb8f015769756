"""Enhanced PET, XA, ultrasound volumes, tomosynthesis and spectroscopy."""

from __future__ import annotations

import struct
from typing import Any

from pydicom.dataset import Dataset

from tests.objects import functional as fg
from tests.objects.base import Origin, code, common, extend, frame_of_reference, make, origin, pixels, uid

_ORIGINAL = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]


def _start(o: Origin, sop_class: str, modality: str, **more: Any) -> Dataset:
    d = frame_of_reference(common(o, sop_class, modality), o)
    return extend(
        d,
        ImageType=_ORIGINAL,
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
    d = _start(o, "1.2.840.10008.5.1.4.1.1.130", "PT", PatientPosition="HFS")
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
        **fg.frame_type("PETFrameTypeSequence", _ORIGINAL),
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
    d = _start(o, "1.2.840.10008.5.1.4.1.1.12.1.1", "XA")
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
    d = _start(o, "1.2.840.10008.5.1.4.1.1.6.2", "US")
    view = code("81654009", "SCT", "Coronal")
    view.ViewModifierCodeSequence = []
    shared = {
        **fg.measures(),
        **fg.anatomy(),
        **fg.window(),
        "PlaneOrientationVolumeSequence": [make(ImageOrientationVolume=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])],
        "USImageDescriptionSequence": [
            make(FrameType=_ORIGINAL, VolumetricProperties="VOLUME", VolumeBasedCalculationTechnique="NONE")
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


def tomosynthesis(o: Origin | None = None) -> Dataset:
    """Two slices of a breast."""
    o = o or origin(series=44)
    d = _start(o, "1.2.840.10008.5.1.4.1.1.13.1.3", "MG")
    shared = {
        **fg.measures("0.1"),
        **fg.orientation(),
        **fg.values(),
        "FrameAnatomySequence": [make(FrameLaterality="L", AnatomicRegionSequence=[code("76752008", "SCT", "Breast")])],
    }
    kind = make(
        FrameType=["ORIGINAL", "PRIMARY", "TOMOSYNTHESIS", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="TOMOSYNTHESIS",
        ReconstructionIndex=1,
    )
    view = code("399162004", "SCT", "cranio-caudal")
    view.ViewModifierCodeSequence = []
    image = make(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.13.1.5",
        ReferencedSOPInstanceUID=uid("projections", o.sop_uid),
        InstanceNumber=1,
    )
    projections = make(
        StudyInstanceUID=o.study_uid,
        ReferencedSeriesSequence=[
            make(SeriesInstanceUID=uid("projections", o.series_uid), SeriesNumber=1, ReferencedInstanceSequence=[image])
        ],
    )
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY", "TOMOSYNTHESIS", "NONE"],
        PresentationIntentType="FOR PRESENTATION",
        BreastImplantPresent="NO",
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="TOMOSYNTHESIS",
        ViewCodeSequence=[view],
        OrganExposed="BREAST",
        PatientOrientation="",
        PositionerType="MAMMOGRAPHIC",
        ContributingSourcesSequence=[
            make(
                Manufacturer="Nowhere Imaging Works",
                Rows=16,
                Columns=16,
                BitsStored=12,
                LossyImageCompression="00",
                DetectorType="DIRECT",
                DetectorID="DET-9",
                DateOfLastDetectorCalibration="20090812",
                TimeOfLastDetectorCalibration="071500",
                DetectorElementSpacing=["0.1", "0.1"],
                ContributingSOPInstancesReferenceSequence=[projections],
                AcquisitionDateTime=o.date + o.time,
                AcquisitionProtocolName=f"tomo {o.person.name.split('^')[0]}",
                AcquisitionProtocolDescription="left breast",
            )
        ],
        XRay3DAcquisitionSequence=[
            make(
                FieldOfViewShape="RECTANGLE",
                FieldOfViewOrigin=["1", "1"],
                FieldOfViewRotation="0",
                FieldOfViewHorizontalFlip="NO",
                XRayReceptorType="DIGITAL_DETECTOR",
                DistanceSourceToDetector="650",
                DistanceSourceToPatient="600",
                EstimatedRadiographicMagnificationFactor="1.08",
                ExposureControlMode="AUTOMATIC",
                ExposureControlModeDescription="AEC",
                HalfValueLayer="0.5",
                FocalSpots="0.3",
                DetectorTemperature="25",
                FilterType="FLAT",
                FilterMaterial="ALUMINUM",
                PaddleDescription="24x29",
                PerProjectionAcquisitionSequence=[
                    make(
                        ExposureTimeInms=100.0,
                        XRayTubeCurrentInmA=60.0,
                        ExposureInmAs=6.0,
                        PositionerPrimaryAngle="-7.5",
                        RelativeXRayExposure=10,
                        EntranceDoseInmGy="0.1",
                        OrganDose="0.1",
                    )
                ],
                KVP="29",
                XRayTubeCurrentInmA=60.0,
                ExposureTimeInms=500.0,
                ExposureInmAs=30.0,
                AnodeTargetMaterial="TUNGSTEN",
                BodyPartThickness="52",
                CompressionForce="98",
                PrimaryPositionerScanArc=15.0,
                PrimaryPositionerScanStartAngle=-7.5,
                PrimaryPositionerIncrement=1.0,
            )
        ],
        XRay3DReconstructionSequence=[
            make(
                ReconstructionDescription="FBP",
                ApplicationName="recon",
                ApplicationVersion="1",
                ApplicationManufacturer="Nowhere Imaging Works",
                AlgorithmType="FILTER_BACK_PROJ",
                AlgorithmDescription=f"tuned by {o.person.operator}",
                AcquisitionIndex=[1],
            )
        ],
        SharedFunctionalGroupsSequence=[make(**shared)],
        PerFrameFunctionalGroupsSequence=[
            make(**fg.content(o, n), **fg.position(n), **fg.window(), XRay3DFrameTypeSequence=[kind]) for n in range(2)
        ],
        **fg.dimensions(o),
    )
    return pixels(d, 16, 16, stored=12, frames=2, seed=44)


def spectroscopy(o: Origin | None = None) -> Dataset:
    """One spectrum, with the times of its acquisition."""
    o = o or origin(series=45)
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.4.2", "MR"), o)
    macros = fg.mr_macros()
    del macros["MRImagingModifierSequence"]
    frame = ["ORIGINAL", "PRIMARY", "SPECTROSCOPY", "NONE"]
    kind = make(
        FrameType=frame,
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="COMPLEX",
        AcquisitionContrast="PROTON_DENSITY",
    )
    shared = {
        **fg.measures("20"),
        **fg.orientation(),
        **fg.anatomy(),
        **macros,
        "MRSpectroscopyFrameTypeSequence": [kind],
        "MRSpectroscopyFOVGeometrySequence": [
            make(
                SpectroscopyAcquisitionDataColumns=64,
                SpectroscopyAcquisitionPhaseRows=1,
                SpectroscopyAcquisitionPhaseColumns=1,
                SpectroscopyAcquisitionOutOfPlanePhaseSteps=1,
                PercentSampling="100",
                PercentPhaseFieldOfView="100",
            )
        ],
    }
    extend(
        d,
        ImageType=frame,
        AcquisitionDateTime=o.date + o.time,
        AcquisitionDuration=90.0,
        AcquisitionNumber=1,
        AcquisitionContextSequence=[],
        ContentQualification="PRODUCT",
        PatientPosition="HFS",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="COMPLEX",
        AcquisitionContrast="PROTON_DENSITY",
        MagneticFieldStrength=1.5,
        ResonantNucleus="1H",
        KSpaceFiltering="NONE",
        ApplicableSafetyStandardAgency="IEC",
        PulseSequenceName="press",
        MRSpectroscopyAcquisitionType="SINGLE_VOXEL",
        EchoPulseSequence="SPIN",
        MultipleSpinEcho="NO",
        MultiPlanarExcitation="NO",
        EchoPlanarPulseSequence="NO",
        GeometryOfKSpaceTraversal="RECTILINEAR",
        RectilinearPhaseEncodeReordering="LINEAR",
        SegmentedKSpaceTraversal="SINGLE",
        TransmitterFrequency=63.6,
        SteadyStatePulseSequence="NONE",
        SpectralWidth=1000.0,
        ChemicalShiftReference=4.7,
        VolumeLocalizationTechnique="PRESS",
        VolumeLocalizationSequence=[
            make(
                SlabThickness=20.0,
                SlabOrientation=[1.0, 0.0, 0.0],
                MidSlabPosition=[0.0, 0.0, 0.0],
            )
        ],
        Decoupling="NO",
        TimeDomainFiltering=["NONE", "NONE"],
        NumberOfZeroFills=0,
        BaselineCorrection="NONE",
        FrequencyCorrection="NO",
        FirstOrderPhaseCorrection="NO",
        WaterReferencedPhaseCorrection="NO",
        NumberOfKSpaceTrajectories=1,
        SpectrallySelectedSuppression="WATER",
        NumberOfFrames=1,
        Rows=1,
        Columns=1,
        DataPointRows=1,
        DataPointColumns=64,
        DataRepresentation="COMPLEX",
        SignalDomainColumns="TIME",
        SharedFunctionalGroupsSequence=[make(**shared)],
        PerFrameFunctionalGroupsSequence=[make(**fg.content(o, 0), **fg.position(0), **fg.scout(o))],
        **fg.dimensions(o),
        **fg.evidence(o),
    )
    d.add_new(0x56000020, "OF", struct.pack("<128f", *[number / 7 for number in range(128)]))
    return d
