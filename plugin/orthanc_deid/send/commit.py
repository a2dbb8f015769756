"""Storage commitment as its SCU (PS3.4 annex J): the request, and the answer on the same or on another association."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from orthanc_deid.send.dicom import Link, associate

HOLD_SECONDS = 60.0
"""How long the association is kept for the answer where it can come by no other."""
SHORT_HOLD_SECONDS = 5.0
"""How long where it can: many answer at once, and then on the same one."""
REQUEST = 1
"""The Action Type ID of a request."""
SUCCESS, PROCESSING_FAILURE, INVALID_ARGUMENT = 0x0000, 0x0110, 0x0115

Report = Callable[[str, Sequence[str], Mapping[str, int]], bool]
"""Takes a transaction, the instances that are kept, and those that are not with their reasons; True once it is written
down."""


def ask(
    link: Link, transaction: str, references: Mapping[str, str], report: Report, hold: float, stop: threading.Event
) -> bool:
    """Ask for commitment to instances (UID → SOP class); whether the request was taken.

    With `hold` the association is kept for so long, or until the answer has come.
    """
    taken, answered = threading.Event(), threading.Event()

    def on_report(event: evt.Event) -> tuple[int, None]:
        status = _reported(event, report)
        if status == SUCCESS:
            taken.set()
        return status, None

    def on_sent(event: evt.Event) -> None:
        # A release may overtake a status that is not sent yet: the receiver would take its answer for lost.
        if taken.is_set() and isinstance(event.pdu, P_DATA_TF):
            answered.set()

    request = Dataset()
    request.TransactionUID = transaction
    request.ReferencedSOPSequence = Items([_reference(uid, sop_class) for uid, sop_class in references.items()])
    association = associate(
        link,
        [build_context(StorageCommitmentPushModel)],
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report), (evt.EVT_PDU_SENT, on_sent)],
    )
    if not association.is_established:
        return False
    try:
        status, _ = association.send_n_action(
            request, REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        if status.get("Status") != SUCCESS:
            return False
        waited = 0.0
        while waited < hold and association.is_established and not (answered.wait(0.2) or stop.is_set()):
            waited += 0.2
        return True
    except (OSError, RuntimeError, ValueError):
        return False
    finally:
        if association.is_established:
            association.release()


def _reference(uid: str, sop_class: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = uid
    return item


def _reported(event: evt.Event, report: Report) -> int:
    """Hand an answer on; the status that the receiver gets says whether it has arrived for good."""
    try:
        answer = event.event_information
        transaction = str(answer.TransactionUID)
        kept = [str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence") or ()]
        failed = {
            str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or PROCESSING_FAILURE)
            for item in answer.get("FailedSOPSequence") or ()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return INVALID_ARGUMENT
    return SUCCESS if report(transaction, kept, failed) else PROCESSING_FAILURE


class Listener:
    """Takes answers that receivers bring on associations of their own."""

    def __init__(self, address: tuple[str, int], report: Report) -> None:
        """Begin to listen. Raises OSError when the address is taken."""
        entity = AE()
        entity.add_supported_context(Verification)
        # A receiver that says nothing of roles proposes itself as the user; one that does, as the provider.
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)

        def on_report(event: evt.Event) -> tuple[int, None]:
            return _reported(event, report), None

        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, on_report)]
        self._server = entity.start_server(address, block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
