"""RT images and treatment records, which refer to plan and beams of `radiotherapy`."""

from __future__ import annotations

from pydicom.dataset import Dataset

from tests.objects.base import Origin, common, extend, make, origin, pixels

_PLAN = "1.2.840.10008.5.1.4.1.1.481.5"


def _plan_of(o: Origin) -> Dataset:
    return make(ReferencedSOPClassUID=_PLAN, ReferencedSOPInstanceUID=Origin(o.person, o.study, 5).sop_uid)


def rtimage(o: Origin | None = None) -> Dataset:
    """A portal image: digitised or drawn over now and then, so that its labels count."""
    o = o or origin(series=15)
    d = common(o, "1.2.840.10008.5.1.4.1.1.481.1", "RTIMAGE")
    extend(
        d,
        ImageType=["ORIGINAL", "PRIMARY", "PORTAL"],
        ConversionType="DI",
        PatientOrientation="",
        AcquisitionDate=o.date,
        AcquisitionTime=o.time,
        RTImageLabel="portal 1",
        RTImageName=f"portal of {o.person.name.split('^')[0]}",
        RTImageDescription=f"field check, {o.person.operator}",
        RTImagePlane="NORMAL",
        XRayImageReceptorTranslation=["0", "0", "0"],
        XRayImageReceptorAngle="0",
        ImagePlanePixelSpacing=["1", "1"],
        RTImagePosition=["-16", "16"],
        RadiationMachineName="LINAC 4",
        RadiationMachineSAD="1000",
        RTImageSID="1500",
        PrimaryDosimeterUnit="MU",
        GantryAngle="0",
        BeamLimitingDeviceAngle="0",
        PatientSupportAngle="0",
        PixelIntensityRelationship="LIN",
        PixelIntensityRelationshipSign=1,
        ReportedValuesOrigin="ACTUAL",
        ReferencedRTPlanSequence=[_plan_of(o)],
        ReferencedBeamNumber=1,
        ExposureSequence=[make()],
        ReferencedFractionGroupNumber=1,
        FractionNumber=3,
        ApprovalStatus="APPROVED",
        ReviewDate=o.date,
        ReviewTime=o.time,
        ReviewerName=o.person.referring,
    )
    d.ExposureSequence[0].BeamLimitingDeviceSequence = [
        make(RTBeamLimitingDeviceType="ASYMX", NumberOfLeafJawPairs=1, LeafJawPositions=["-50", "50"])
    ]
    d.ExposureSequence[0].NumberOfBlocks = 0
    return pixels(d, 32, 32, stored=12, seed=20)


def _record(o: Origin, sop_class: str) -> Dataset:
    return extend(
        common(o, sop_class, "RTRECORD"),
        InstanceNumber=1,
        TreatmentDate=o.date,
        TreatmentTime=o.time,
        ReferencedRTPlanSequence=[_plan_of(o)],
    )


def _machine() -> Dataset:
    return make(
        TreatmentMachineName="LINAC 4",
        Manufacturer="Nowhere Imaging Works",
        InstitutionName="Wuxmere Memorial",
        ManufacturerModelName="Beamer 3",
        DeviceSerialNumber="SN44",
    )


def beams_record(o: Origin | None = None) -> Dataset:
    """One treatment session: what was delivered, when, by whom."""
    o = o or origin(series=16)
    d = _record(o, "1.2.840.10008.5.1.4.1.1.481.4")
    point = make(
        TreatmentControlPointDate=o.date,
        TreatmentControlPointTime=o.time,
        SpecifiedMeterset="100",
        DeliveredMeterset="100",
        DoseRateSet="300",
        DoseRateDelivered="300",
        NominalBeamEnergy="6",
        NominalBeamEnergyUnit="MV",
        GantryAngle="0",
        GantryRotationDirection="NONE",
        BeamLimitingDevicePositionSequence=[make(RTBeamLimitingDeviceType="ASYMX", LeafJawPositions=["-50", "50"])],
        BeamLimitingDeviceAngle="0",
        BeamLimitingDeviceRotationDirection="NONE",
        PatientSupportAngle="0",
        PatientSupportRotationDirection="NONE",
        TableTopEccentricAngle="0",
        TableTopEccentricRotationDirection="NONE",
        TableTopVerticalPosition="",
        TableTopLongitudinalPosition="",
        TableTopLateralPosition="",
        OverrideSequence=[
            make(
                OperatorsName=o.person.operator,
                OverrideParameterPointer=0x300A00B2,
                OverrideReason=f"asked by {o.person.referring}",
            )
        ],
        ReferencedControlPointIndex=0,
    )
    last = make(
        TreatmentControlPointDate=o.date,
        TreatmentControlPointTime=o.time,
        SpecifiedMeterset="100",
        DeliveredMeterset="100",
        DoseRateSet="300",
        DoseRateDelivered="300",
        ReferencedControlPointIndex=1,
    )
    beam = make(
        BeamName=f"AP {o.person.name.split('^')[0]}",
        BeamType="STATIC",
        RadiationType="PHOTON",
        TreatmentDeliveryType="TREATMENT",
        NumberOfWedges=0,
        NumberOfCompensators=0,
        NumberOfBoli=0,
        NumberOfBlocks=0,
        CurrentFractionNumber=3,
        TreatmentTerminationStatus="NORMAL",
        TreatmentVerificationStatus="VERIFIED_OVR",
        SpecifiedPrimaryMeterset="100",
        DeliveredPrimaryMeterset="100",
        BeamLimitingDeviceLeafPairsSequence=[make(RTBeamLimitingDeviceType="ASYMX", NumberOfLeafJawPairs=1)],
        ReferencedBeamNumber=1,
        NumberOfControlPoints=2,
        ControlPointDeliverySequence=[point, last],
    )
    return extend(
        d,
        OperatorsName=o.person.operator,
        TreatmentMachineSequence=[_machine()],
        TreatmentSessionBeamSequence=[beam],
        PrimaryDosimeterUnit="MU",
        ReferencedFractionGroupNumber=1,
        NumberOfFractionsPlanned=20,
    )


def brachy_record(o: Origin | None = None) -> Dataset:
    """One session of brachytherapy."""
    o = o or origin(series=17)
    d = _record(o, "1.2.840.10008.5.1.4.1.1.481.6")
    source = make(
        SourceNumber=1,
        SourceType="POINT",
        SourceIsotopeName="Ir-192",
        SourceIsotopeHalfLife="73.8",
        ReferenceAirKermaRate="40000",
        SourceStrengthReferenceDate=o.date,
        SourceStrengthReferenceTime=o.time,
        SourceManufacturer="Nowhere Imaging Works",
        SourceSerialNumber="IR77",
    )
    points = [
        make(
            TreatmentControlPointDate=o.date,
            TreatmentControlPointTime=o.time,
            ControlPointRelativePosition="0",
            ReferencedControlPointIndex=number,
        )
        for number in range(2)
    ]
    channel = make(
        ChannelNumber=1,
        ChannelLength="1000",
        TransferTubeNumber=1,
        TransferTubeLength="1200",
        SpecifiedChannelTotalTime="60",
        DeliveredChannelTotalTime="60",
        SourceMovementType="STEPWISE",
        NumberOfControlPoints=2,
        BrachyControlPointDeliveredSequence=points,
        ReferencedSourceNumber=1,
    )
    setup = make(
        ApplicationSetupType="INTRACAVITARY",
        ReferencedBrachyApplicationSetupNumber=1,
        ApplicationSetupName=f"for {o.person.name.split('^')[0]}",
        CurrentFractionNumber=1,
        TotalReferenceAirKerma="100",
        TreatmentTerminationStatus="NORMAL",
        TreatmentVerificationStatus="VERIFIED_OVR",
        TreatmentDeliveryType="TREATMENT",
        RecordedChannelSequence=[channel],
    )
    return extend(
        d,
        TreatmentMachineSequence=[_machine()],
        BrachyTreatmentTechnique="INTRACAVITARY",
        BrachyTreatmentType="HDR",
        RecordedSourceSequence=[source],
        TreatmentSessionApplicationSetupSequence=[setup],
        ReferencedFractionGroupNumber=1,
        NumberOfFractionsPlanned=3,
        OperatorsName=o.person.operator,
    )


def summary_record(o: Origin | None = None) -> Dataset:
    """The summary of a course of treatment."""
    o = o or origin(series=18)
    d = _record(o, "1.2.840.10008.5.1.4.1.1.481.7")
    return extend(
        d,
        CurrentTreatmentStatus="ON_TREATMENT",
        TreatmentStatusComment=f"{o.person.name.split('^')[0]} tolerates it well",
        FirstTreatmentDate=o.date,
        MostRecentTreatmentDate=o.date,
        FractionGroupSummarySequence=[
            make(
                ReferencedFractionGroupNumber=1,
                FractionGroupType="EXTERNAL_BEAM",
                NumberOfFractionsPlanned=20,
                NumberOfFractionsDelivered=3,
                FractionStatusSummarySequence=[
                    make(
                        ReferencedFractionNumber=1,
                        TreatmentDate=o.date,
                        TreatmentTime=o.time,
                        TreatmentTerminationStatus="NORMAL",
                    )
                ],
            )
        ],
        OperatorsName=o.person.operator,
    )
