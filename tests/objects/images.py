"""Single-frame images, and the older multi-frame ones."""

from __future__ import annotations

from pydicom.dataset import Dataset

from tests.objects.base import Origin, code, common, extend, frame_of_reference, make, origin, pixels, uid


def ct(o: Origin | None = None, *, rows: int = 512, columns: int = 512, private: bool = True) -> Dataset:
    """CT Image, 512 × 512 × 16, 160 elements in a header like a vendor's: about 531 kB."""
    o = o or origin()
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.2", "CT"), o)
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        AcquisitionDate=o.date,
        AcquisitionTime=o.time,
        AcquisitionDateTime=o.date + o.time,
        StationAETitle="CTAE",
        NameOfPhysiciansReadingStudy=o.person.referring,
        AdmittingDiagnosesDescription="abdominal pain",
        ProcedureCodeSequence=[code("CTABD", "99ZZ", "CT of the abdomen")],
        AnatomicRegionSequence=[code("818981001", "SCT", "Abdomen")],
        OtherPatientIDs=o.person.other_id,
        BodyPartExamined="ABDOMEN",
        ContrastBolusAgent="Fluidol",
        ScanOptions="HELIX",
        SliceThickness="1.5",
        KVP="120",
        DataCollectionDiameter="500",
        ProtocolName="Abdomen 1.5",
        ReconstructionDiameter="380",
        DistanceSourceToDetector="1085.6",
        DistanceSourceToPatient="595",
        GantryDetectorTilt="0",
        TableHeight="152.5",
        RotationDirection="CW",
        ExposureTime="500",
        XRayTubeCurrent="188",
        Exposure="94",
        FilterType="FLAT",
        GeneratorPower="22",
        FocalSpots="1.2",
        DateOfLastCalibration="20090812",
        TimeOfLastCalibration="071500",
        ConvolutionKernel="B30f",
        PatientPosition="HFS",
        SingleCollimationWidth=0.6,
        TotalCollimationWidth=38.4,
        TableSpeed=57.6,
        TableFeedPerRotation=28.8,
        SpiralPitchFactor=0.75,
        ExposureModulationType="XYZ_EC",
        EstimatedDoseSaving=23.1,
        CTDIvol=6.35,
        IrradiationEventUID=uid("irradiation", o.series_uid),
        AcquisitionNumber=2,
        ImagePositionPatient=["-189.5", "-189.5", f"{-700.0 + 1.5 * o.instance:.1f}"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        SliceLocation=f"{-700.0 + 1.5 * o.instance:.1f}",
        ImageComments=f"reported by {o.person.operator.split('^')[0]}",
        PixelSpacing=["0.7421875", "0.7421875"],
        BurnedInAnnotation="NO",
        SmallestImagePixelValue=0,
        LargestImagePixelValue=4095,
        WindowCenter=["40", "400"],
        WindowWidth=["350", "1500"],
        RescaleIntercept="-1024",
        RescaleSlope="1",
        RescaleType="HU",
        WindowCenterWidthExplanation=["SOFT", "BONE"],
        RequestingPhysician=o.person.referring,
        RequestingService="Ward 9",
        RequestedProcedureDescription="CT abdomen",
        PerformedStationAETitle="CTAE",
        PerformedProcedureStepStartDate=o.date,
        PerformedProcedureStepStartTime=o.time,
        PerformedProcedureStepID=f"PP{o.study}",
        PerformedProcedureStepDescription="Abdomen routine",
        CommentsOnThePerformedProcedureStep="calm",
        RequestedProcedureID=f"RP{o.study}",
    )
    d.RequestAttributesSequence = [
        make(
            ScheduledProcedureStepDescription="Abdomen",
            ScheduledProcedureStepID=f"SP{o.study}",
            RequestedProcedureID=f"RP{o.study}",
            ScheduledProtocolCodeSequence=[code("ABD15", "99ZZ", "Abdomen 1.5")],
        )
    ]
    d.ReferencedImageSequence = [
        make(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=uid("scout", o.series_uid))
    ]
    d.ReferencedPerformedProcedureStepSequence = [
        make(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.3", ReferencedSOPInstanceUID=uid("pps", o.study_uid))
    ]
    if private:
        block = d.private_block(0x0009, "ZZYZX HEADER 01", create=True)
        block.add_new(0x01, "LO", f"suite {o.person.number}")
        block.add_new(0x02, "SH", "on")
        block.add_new(0x10, "UN", b"opaque" * 6)
        block = d.private_block(0x0029, "ZZYZX CSA HEADER", create=True)
        block.add_new(0x08, "CS", "IMAGE NUM 4")
        block.add_new(0x09, "LO", o.date)
        block.add_new(0x10, "OB", (b"SV10" + bytes(range(60))) * 24)
        block.add_new(0x20, "OB", bytes(512))
        item = make(StudyInstanceUID=o.study_uid)
        inner = item.private_block(0x0029, "ZZYZX CSA HEADER", create=True)
        inner.add_new(0x11, "LO", o.person.name)
        block.add_new(0x40, "SQ", [item])
        block = d.private_block(0x0043, "ZZYZX PARM 01", create=True)
        for number in range(1, 5):
            block.add_new(number, "DS", f"{number * 1.25}")
    return pixels(d, rows, columns, stored=12, seed=o.instance)


def mr(o: Origin | None = None, *, rows: int = 64, columns: int = 64) -> Dataset:
    o = o or origin()
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.4", "MR"), o)
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY", "M"],
        AcquisitionDate=o.date,
        AcquisitionTime=o.time,
        BodyPartExamined="HEAD",
        ScanningSequence="SE",
        SequenceVariant="SK",
        ScanOptions="",
        MRAcquisitionType="2D",
        SequenceName="se2d1",
        AngioFlag="N",
        SliceThickness="5",
        RepetitionTime="500",
        EchoTime="12",
        NumberOfAverages="1",
        ImagingFrequency="63.6",
        ImagedNucleus="1H",
        EchoNumbers=1,
        MagneticFieldStrength="1.5",
        SpacingBetweenSlices="6",
        EchoTrainLength=1,
        PixelBandwidth="130",
        ProtocolName="T1 axial",
        ReceiveCoilName="Head",
        FlipAngle="90",
        SAR="0.2",
        PatientPosition="HFS",
        AcquisitionNumber=1,
        ImagePositionPatient=["-110", "-110", f"{o.instance * 6.0:.1f}"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        PixelSpacing=["3.4", "3.4"],
        WindowCenter="600",
        WindowWidth="1200",
    )
    return pixels(d, rows, columns, stored=12, seed=o.instance + 100)


def _nuclear(o: Origin, sop_class: str, modality: str) -> Dataset:
    d = frame_of_reference(common(o, sop_class, modality), o)
    return extend(
        d, ImageType=["ORIGINAL", "PRIMARY"], AcquisitionDate=o.date, AcquisitionTime=o.time, BodyPartExamined="CHEST"
    )


def _radiopharmaceutical(o: Origin) -> Dataset:
    return make(
        RadiopharmaceuticalStartTime=o.time,
        RadionuclideTotalDose="370000000",
        RadionuclideHalfLife="6586.2",
        RadionuclidePositronFraction="0.97",
        RadiopharmaceuticalStartDateTime=o.date + o.time,
        Radiopharmaceutical="FDG",
        RadionuclideCodeSequence=[code("77004003", "SCT", "^18^Fluorine")],
    )


def pt(o: Origin | None = None) -> Dataset:
    o = o or origin()
    d = _nuclear(o, "1.2.840.10008.5.1.4.1.1.128", "PT")
    extend(
        d,
        Units="BQML",
        CountsSource="EMISSION",
        SeriesType=["WHOLE BODY", "IMAGE"],
        NumberOfSlices=12,
        DecayCorrection="START",
        CorrectedImage=["DECY", "ATTN"],
        CollimatorType="NONE",
        RadiopharmaceuticalInformationSequence=[_radiopharmaceutical(o)],
        PatientOrientationCodeSequence=[],
        PatientGantryRelationshipCodeSequence=[],
        SliceThickness="3",
        ImageIndex=o.instance,
        ImagePositionPatient=["0", "0", f"{o.instance * 3}"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        PixelSpacing=["4", "4"],
        RescaleIntercept="0",
        RescaleSlope="1.5",
        FrameReferenceTime="0",
        ActualFrameDuration="120000",
        DecayFactor="1.02",
    )
    return pixels(d, 32, 32, seed=2)


def nm(o: Origin | None = None) -> Dataset:
    o = o or origin()
    d = _nuclear(o, "1.2.840.10008.5.1.4.1.1.20", "NM")
    d.ImageType = ["ORIGINAL", "PRIMARY", "STATIC", "EMISSION"]
    extend(
        d,
        PatientOrientationCodeSequence=[],
        PatientGantryRelationshipCodeSequence=[],
        CountsAccumulated=1000,
        EnergyWindowVector=[1, 1],
        DetectorVector=[1, 1],
        NumberOfEnergyWindows=1,
        NumberOfDetectors=1,
        ActualFrameDuration="20000",
        EnergyWindowInformationSequence=[make(EnergyWindowName="Tc99m")],
        DetectorInformationSequence=[
            make(
                CollimatorType="PARA",
                ImagePositionPatient=["0", "0", "0"],
                ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
            )
        ],
        RadiopharmaceuticalInformationSequence=[make(RadionuclideCodeSequence=[], Radiopharmaceutical="MDP")],
        PixelSpacing=["4", "4"],
        FrameIncrementPointer=[0x00540010, 0x00540020],
    )
    return pixels(d, 16, 16, frames=2, seed=3)


def cr(o: Origin | None = None) -> Dataset:
    o = o or origin()
    d = common(o, "1.2.840.10008.5.1.4.1.1.1", "CR")
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY"],
        BodyPartExamined="CHEST",
        ViewPosition="PA",
        PatientOrientation=["L", "F"],
        CassetteOrientation="PORTRAIT",
        PlateID="P77",
        KVP="110",
        AcquisitionDeviceProcessingDescription="chest",
    )
    return pixels(d, 48, 40, stored=10, seed=4)


def _digital_xray(o: Origin, sop_class: str, modality: str) -> Dataset:
    d = common(o, sop_class, modality)
    return extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY", ""],
        AcquisitionDate=o.date,
        AcquisitionTime=o.time,
        PresentationIntentType="FOR PRESENTATION",
        AnatomicRegionSequence=[code("51185008", "SCT", "Chest")],
        ImageLaterality="U",
        PatientOrientation=["L", "F"],
        PixelIntensityRelationship="LOG",
        PixelIntensityRelationshipSign=-1,
        RescaleIntercept="0",
        RescaleSlope="1",
        RescaleType="US",
        PresentationLUTShape="IDENTITY",
        LossyImageCompression="00",
        BurnedInAnnotation="NO",
        WindowCenter="512",
        WindowWidth="1024",
        DetectorType="DIRECT",
        DetectorID="DET-9",
        ImagerPixelSpacing=["0.2", "0.2"],
        AcquisitionContextSequence=[],
        PositionerType="NONE",
        ViewCodeSequence=[code("272479007", "SCT", "postero-anterior")],
    )


def dx(o: Origin | None = None) -> Dataset:
    return pixels(_digital_xray(o or origin(), "1.2.840.10008.5.1.4.1.1.1.1", "DX"), 48, 40, stored=12, seed=5)


def mg(o: Origin | None = None) -> Dataset:
    d = _digital_xray(o or origin(), "1.2.840.10008.5.1.4.1.1.1.2", "MG")
    extend(
        d,
        ImageLaterality="L",
        OrganExposed="BREAST",
        PositionerType="MAMMOGRAPHIC",
        BreastImplantPresent="NO",
        AnatomicRegionSequence=[code("76752008", "SCT", "Breast")],
    )
    d.ViewCodeSequence = [code("399162004", "SCT", "cranio-caudal")]
    d.ViewCodeSequence[0].ViewModifierCodeSequence = []
    return pixels(d, 48, 40, stored=12, seed=6)


def us(o: Origin | None = None) -> Dataset:
    d = common(o or origin(), "1.2.840.10008.5.1.4.1.1.6.1", "US")
    extend(d, ImageType=["ORIGINAL", "PRIMARY", "ABDOMINAL"], PatientOrientation="", LossyImageCompression="00")
    d.BodyPartExamined = "ABDOMEN"
    return pixels(d, 32, 32, bits=8, samples=3, photometric="RGB", seed=7)


def us_multiframe(o: Origin | None = None) -> Dataset:
    d = common(o or origin(), "1.2.840.10008.5.1.4.1.1.3.1", "US")
    extend(
        d, ImageType=["ORIGINAL", "PRIMARY"], PatientOrientation="", FrameTime="40", FrameIncrementPointer=0x00181063
    )
    d.BodyPartExamined = "ABDOMEN"
    return pixels(d, 16, 16, bits=8, frames=3, seed=8)


def sc(o: Origin | None = None) -> Dataset:
    d = common(o or origin(), "1.2.840.10008.5.1.4.1.1.7", "OT")
    extend(
        d,
        ImageType=["DERIVED", "SECONDARY"],
        ConversionType="WSD",
        BodyPartExamined="ABDOMEN",
        PatientOrientation="",
        DateOfSecondaryCapture="20110506",
    )
    return pixels(d, 32, 32, bits=8, samples=3, photometric="RGB", seed=9)


def xa(o: Origin | None = None) -> Dataset:
    o = o or origin()
    d = common(o, "1.2.840.10008.5.1.4.1.1.12.1", "XA")
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY", "SINGLE PLANE"],
        BodyPartExamined="HEART",
        AcquisitionDate=o.date,
        AcquisitionTime=o.time,
        KVP="80",
        RadiationSetting="GR",
        XRayTubeCurrent="500",
        ExposureTime="6",
        PixelIntensityRelationship="LIN",
        PatientOrientation="",
        PositionerMotion="STATIC",
        PositionerPrimaryAngle="0",
        PositionerSecondaryAngle="0",
        FrameTime="66",
        FrameIncrementPointer=0x00181063,
    )
    return pixels(d, 32, 32, bits=8, frames=2, seed=10)
