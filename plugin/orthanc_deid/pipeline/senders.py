"""Makes the sender of a destination from its name in the ledger and what is configured for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from orthanc_deid import gateway, logs
from orthanc_deid.config import Destination
from orthanc_deid.core.values import Known
from orthanc_deid.orthanc.push import unannounced
from orthanc_deid.orthanc.settings import Receivers
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.send.base import Missing, Sender, ToSend
from orthanc_deid.send.orthancs import CopySender, PeerSender
from orthanc_deid.store import deliveries, knowledge, ledger
from orthanc_deid.store.rows import LOCAL

log = logs.get(__name__)

MakeSender = Callable[[str], Sender]


def maker(shared: Shared) -> MakeSender:
    """Return what makes the sender of a destination."""
    return partial(_make, shared)


def _make(shared: Shared, destination: str) -> Sender:
    if destination == LOCAL:
        mode = shared.config.gateway
        announced = unannounced if mode is None else partial(gateway.announced, mode.spool)
        return CopySender(shared.orthanc, shared.stored_here, announced)
    kind, _, name = destination.partition(":")
    if kind == "peer":
        return PeerSender(shared.peers, name)
    options = options_of(shared, destination)
    try:
        if options and kind == "folder":
            return _folder(next(iter(options.values())))
        if options and kind == "modality" and name in shared.receivers.modalities:
            return _modality(shared, name, options)
        if options and kind == "dicomweb" and name in shared.receivers.dicomweb:
            return _dicomweb(shared, name)
    except OSError:  # certificates that cannot be read
        log.error("a destination cannot be used as it is configured", destination=destination)
        return Missing()
    log.warning("outputs wait for a destination that is not configured any more", destination=destination)
    return Missing()


def probe(destination: Destination, receivers: Receivers) -> bool:
    """Ask a destination that is no peer whether it is there, without a service: C-ECHO, a search, a folder's rights."""
    try:
        if destination.path is not None:
            return _folder(destination).alive()
        if destination.kind == "modality":
            from orthanc_deid.send.dicom import Link, echo

            return echo(Link.of(receivers.modalities[destination.name], receivers.orthanc))
        from orthanc_deid.send.stow import StowSender

        return StowSender(receivers.dicomweb[destination.name], receivers.orthanc).alive()
    except (KeyError, OSError):
        return False


def options_of(shared: Shared, destination: str) -> dict[str, Destination]:
    """Return project → what it has configured for a destination."""
    return {
        name: one
        for name, project in shared.config.projects.items()
        for one in project.destinations
        if one.key == destination
    }


def _folder(destination: Destination) -> Sender:
    from orthanc_deid.send.folder import FolderSender

    assert destination.path is not None
    return FolderSender(destination.path, destination.layout)


def _dicomweb(shared: Shared, name: str) -> Sender:
    from orthanc_deid.send.stow import StowSender  # here: most configurations have none, and it takes time

    return StowSender(shared.receivers.dicomweb[name], shared.receivers.orthanc)


def _modality(shared: Shared, name: str, options: dict[str, Destination]) -> Sender:
    from orthanc_deid.send.dicom import Link
    from orthanc_deid.send.modality import Around, ModalitySender, Variant

    def note(one: ToSend, variant: Variant) -> None:
        with shared.store.begin() as conn:
            deliveries.note_variant(conn, one, variant.digest, variant.made, shared.clock())

    def commitment(project: str) -> bool:
        return project in options and options[project].commitment

    def xnat(project: str) -> str | None:
        return options[project].xnat_project if project in options else None

    around = Around(shared.outbox.folder / "variants", note, partial(known, shared), commitment, xnat)
    return ModalitySender(Link.of(shared.receivers.modalities[name], shared.receivers.orthanc), around)


def known(shared: Shared, one: ToSend) -> Known:
    """Return what is known of the subject of an output by now."""
    with shared.store.read() as conn:
        row = ledger.get(conn, one.ledger_id)
        sealed = knowledge.since(conn, one.project, row.subject_index or "", -1)[1] if row else []
    vault = shared.vaults[one.project]
    return Known(frozenset().union(*(Known.load(vault.open_bytes("known", value)).values for value in sealed)))
