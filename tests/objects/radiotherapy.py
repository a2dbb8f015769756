"""RT structure sets, plans and doses."""

from __future__ import annotations

from pydicom.dataset import Dataset

from tests.objects.base import Origin, common, extend, frame_of_reference, make, origin, pixels
from tests.objects.images import ct


def rtstruct(o: Origin | None = None, *, source: Dataset | None = None) -> Dataset:
    o = o or origin(series=4)
    source = source or ct(Origin(o.person, o.study, 1, 1), rows=16, columns=16)
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"), o)
    image = make(ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=source.SOPInstanceUID)
    extend(
        d,
        StructureSetLabel=f"SET {o.person.name.split('^')[0][:8]}",
        StructureSetName=o.person.name,
        StructureSetDate=o.date,
        StructureSetTime=o.time,
        ReferencedFrameOfReferenceSequence=[
            make(
                FrameOfReferenceUID=source.FrameOfReferenceUID,
                RTReferencedStudySequence=[
                    make(
                        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
                        ReferencedSOPInstanceUID=source.StudyInstanceUID,
                        RTReferencedSeriesSequence=[
                            make(SeriesInstanceUID=source.SeriesInstanceUID, ContourImageSequence=[image])
                        ],
                    )
                ],
            )
        ],
        StructureSetROISequence=[
            make(
                ROINumber=1,
                ReferencedFrameOfReferenceUID=source.FrameOfReferenceUID,
                ROIName="GTV",
                ROIDescription="tumour",
                ROIGenerationAlgorithm="MANUAL",
            )
        ],
        ROIContourSequence=[
            make(
                ROIDisplayColor=[255, 0, 0],
                ReferencedROINumber=1,
                ContourSequence=[
                    make(
                        ContourImageSequence=[image],
                        ContourGeometricType="CLOSED_PLANAR",
                        NumberOfContourPoints=3,
                        ContourData=["0", "0", "0", "1", "0", "0", "0", "1", "0"],
                    )
                ],
            )
        ],
        RTROIObservationsSequence=[
            make(
                ObservationNumber=1,
                ReferencedROINumber=1,
                ROIObservationLabel="gross",
                RTROIInterpretedType="GTV",
                ROIInterpreter=o.person.operator,
            )
        ],
        ApprovalStatus="APPROVED",
        ReviewDate=o.date,
        ReviewTime=o.time,
        ReviewerName=o.person.referring,
    )
    return d


def rtplan(o: Origin | None = None) -> Dataset:
    o = o or origin(series=5)
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.481.5", "RTPLAN"), o)
    beam = make(
        TreatmentMachineName="LINAC 4",
        BeamNumber=1,
        BeamName="AP",
        BeamDescription="front",
        BeamType="STATIC",
        RadiationType="PHOTON",
        TreatmentDeliveryType="TREATMENT",
        NumberOfWedges=0,
        NumberOfCompensators=0,
        NumberOfBoli=0,
        NumberOfBlocks=0,
        BeamLimitingDeviceSequence=[make(RTBeamLimitingDeviceType="ASYMX", NumberOfLeafJawPairs=1)],
        FinalCumulativeMetersetWeight="1",
        NumberOfControlPoints=2,
        ControlPointSequence=[
            make(
                ControlPointIndex=0,
                NominalBeamEnergy="6",
                CumulativeMetersetWeight="0",
                GantryAngle="0",
                GantryRotationDirection="NONE",
                BeamLimitingDeviceAngle="0",
                BeamLimitingDeviceRotationDirection="NONE",
                PatientSupportAngle="0",
                PatientSupportRotationDirection="NONE",
                TableTopEccentricAngle="0",
                TableTopEccentricRotationDirection="NONE",
                TableTopVerticalPosition="",
                TableTopLongitudinalPosition="",
                TableTopLateralPosition="",
                IsocenterPosition=["0", "0", "0"],
                BeamLimitingDevicePositionSequence=[
                    make(RTBeamLimitingDeviceType="ASYMX", LeafJawPositions=["-50", "50"])
                ],
            ),
            make(ControlPointIndex=1, CumulativeMetersetWeight="1"),
        ],
    )
    extend(
        d,
        RTPlanLabel="PLAN A",
        RTPlanName=f"plan {o.person.name.split('^')[0]}",
        RTPlanDate=o.date,
        RTPlanTime=o.time,
        RTPlanGeometry="TREATMENT_DEVICE",
        PlanIntent="CURATIVE",
        ApprovalStatus="UNAPPROVED",
        FractionGroupSequence=[
            make(
                FractionGroupNumber=1,
                NumberOfFractionsPlanned=20,
                NumberOfBeams=1,
                NumberOfBrachyApplicationSetups=0,
                ReferencedBeamSequence=[make(ReferencedBeamNumber=1, BeamMeterset="100")],
            )
        ],
        BeamSequence=[beam],
        PatientSetupSequence=[make(PatientPosition="HFS", PatientSetupNumber=1, SetupTechnique="ISOCENTRIC")],
    )
    return d


def rtdose(o: Origin | None = None) -> Dataset:
    o = o or origin(series=6)
    d = frame_of_reference(common(o, "1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"), o)
    extend(
        d,
        DoseUnits="GY",
        DoseType="PHYSICAL",
        DoseComment="second try",
        DoseSummationType="PLAN",
        GridFrameOffsetVector=["0", "3"],
        DoseGridScaling="0.001",
        SliceThickness="3",
        ImagePositionPatient=["0", "0", "0"],
        PixelSpacing=["3", "3"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        FrameIncrementPointer=0x3004000C,
        ReferencedRTPlanSequence=[
            make(
                ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.481.5",
                ReferencedSOPInstanceUID=Origin(o.person, o.study, 5).sop_uid,
            )
        ],
    )
    return pixels(d, 12, 12, frames=2, seed=14)
