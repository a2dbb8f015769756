"""Tomosynthesis of the breast, and MR spectroscopy."""

from __future__ import annotations

import struct

from pydicom.dataset import Dataset

from tests.objects import functional as fg
from tests.objects.base import Origin, code, common, extend, frame_of_reference, make, origin, pixels, uid
from tests.objects.enhanced import start


def tomosynthesis(o: Origin | None = None) -> Dataset:
    """Two slices of a breast."""
    o = o or origin(series=44)
    d = start(o, "1.2.840.10008.5.1.4.1.1.13.1.3", "MG")
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
