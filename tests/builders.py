"""Fresh synthetic DICOM objects of many SOP classes: every call makes a new one, the same for the same arguments.

`ct(Origin(person(1), study=2, instance=3))` is a pydicom Dataset; `to_bytes(dataset, syntax)` the file. Identities are
invented from syllables no name has. `ALL` maps a short name to every builder; `PASS` and `HELD` say which of them the
Basic Profile lets through; REJECTED are no instances at all.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable

import pydicom
from pydicom import config as pydicom_config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from tests import codestreams, raw
from tests.objects.base import (
    ROOT,
    Origin,
    Person,
    code,
    common,
    extend,
    frame_of_reference,
    make,
    origin,
    person,
    pixels,
    uid,
)
from tests.objects.derived import deformable_registration, fiducials, parametric_map, raw_data, registration
from tests.objects.documents import ecg, gsps, kos, pdf, sr_basic, sr_comprehensive, sr_measurements, video
from tests.objects.encapsulated import cda, dicomdir, hemodynamic, stl, voice
from tests.objects.enhanced import enhanced_pet, enhanced_xa, us_volume
from tests.objects.eyes import photograph, slide, slide_annotations, tomograph
from tests.objects.images import cr, ct, dx, mg, mr, nm, pt, sc, us, us_multiframe, xa
from tests.objects.multiframe import enhanced_ct, enhanced_mr, seg
from tests.objects.radiotherapy import rtdose, rtplan, rtstruct
from tests.objects.treatment import beams_record, brachy_record, rtimage, summary_record
from tests.objects.volumes import spectroscopy, tomosynthesis

__all__ = [
    "ROOT",
    "Origin",
    "Person",
    "code",
    "common",
    "extend",
    "frame_of_reference",
    "make",
    "origin",
    "person",
    "pixels",
    "uid",
]
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
COMPRESSED = codestreams.COMPRESSED

Builder = Callable[..., Dataset]
PASS: dict[str, Builder] = {
    "ct": ct,
    "mr": mr,
    "pt": pt,
    "nm": nm,
    "cr": cr,
    "dx": dx,
    "mg": mg,
    "xa": xa,
    "enhanced_ct": enhanced_ct,
    "enhanced_mr": enhanced_mr,
    "enhanced_pet": enhanced_pet,
    "enhanced_xa": enhanced_xa,
    "tomosynthesis": tomosynthesis,
    "spectroscopy": spectroscopy,
    "seg": seg,
    "parametric_map": parametric_map,
    "registration": registration,
    "deformable_registration": deformable_registration,
    "fiducials": fiducials,
    "slide_annotations": slide_annotations,
    "rtstruct": rtstruct,
    "rtplan": rtplan,
    "rtdose": rtdose,
    "rtimage": rtimage,
    "beams_record": beams_record,
    "brachy_record": brachy_record,
    "summary_record": summary_record,
    "sr_basic": sr_basic,
    "sr_comprehensive": sr_comprehensive,
    "sr_measurements": sr_measurements,
    "kos": kos,
    "gsps": gsps,
}
HELD: dict[str, Builder] = {
    "us": us,
    "us_multiframe": us_multiframe,
    "sc": sc,
    "us_volume": us_volume,
    "opt": photograph,
    "tomograph": tomograph,
    "slide": slide,
    "pdf": pdf,
    "cda": cda,
    "stl": stl,
    "ecg": ecg,
    "hemodynamic": hemodynamic,
    "voice": voice,
    "video": video,
}
REJECTED: dict[str, Builder] = {"dicomdir": dicomdir, "raw_data": raw_data}
ALL: dict[str, Builder] = PASS | HELD


def study(number: int, which: int = 1, *, slices: int = 3, rows: int = 32) -> list[Dataset]:
    """One study of a patient: a CT and an MR series, and a SEG, RTSTRUCT and SR that refer to the first CT."""
    p = person(number)
    series = [ct(Origin(p, which, 1, n), rows=rows, columns=rows) for n in range(1, slices + 1)]
    series += [mr(Origin(p, which, 2, n)) for n in range(1, slices + 1)]
    first = series[0]
    return [
        *series,
        seg(Origin(p, which, 3), source=first),
        rtstruct(Origin(p, which, 4), source=first),
        sr_comprehensive(Origin(p, which, 8)),
    ]


def compress(dataset: Dataset, syntax: str, *, extra: Iterable[bytes] = ()) -> Dataset:
    """Give an image one compressed frame in place of its own; returns it, ready for `to_bytes(…, syntax)`."""
    stream, rows, columns, bits, stored, signed = codestreams.frame(syntax, extra=extra)
    extend(
        dataset,
        Rows=rows,
        Columns=columns,
        BitsAllocated=bits,
        BitsStored=stored,
        HighBit=stored - 1,
        PixelRepresentation=signed,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
    )
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    dataset.PixelData = encapsulate([stream] * frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    if syntax == JPEGBaseline8Bit:
        dataset.LossyImageCompression = "01"
    return dataset


def to_bytes(
    dataset: Dataset,
    syntax: str = ExplicitVRLittleEndian,
    *,
    preamble: bytes = b"\0" * 128,
    undefined: bool = False,
    undefined_items: bool = False,
    un: Iterable[int] = (),
    after: bytes = b"",
    meta: Iterable[raw.El] = (),
    plant: Iterable[raw.El] = (),
) -> bytes:
    """The file: written by raw.py, so also what pydicom would not write.

    `undefined`/`undefined_items`: sequences and items of undefined length; `un`: tags written as UN (a sequence becomes
    implicit VR inside); `after`: bytes behind the last element; `meta`, `plant`: elements put into the file meta or
    the data set.
    """
    elements = tree(dataset)
    for el in plant:
        raw.put(elements, el)
    wrapped = set(un)
    for el in elements:
        el.as_un = el.tag in wrapped
    form = raw.form_of(syntax)
    form.undefined, form.undefined_items = undefined, undefined_items
    return raw.part10(elements, syntax, meta=meta, preamble=preamble, form=form, after=after)


def tree(dataset: Dataset) -> list[raw.El]:
    """The data set as raw elements."""
    return raw.from_dataset(dataset)


def pydicom_bytes(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The file as pydicom itself writes it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    file = FileDataset("", dataset, file_meta=meta, preamble=b"\0" * 128)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


def read(data: bytes) -> FileDataset:
    """pydicom's reading of a file, every element decoded."""
    before = pydicom_config.settings.reading_validation_mode
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=False)
        for _ in dataset.iterall():
            pass
    finally:
        pydicom_config.settings.reading_validation_mode = before
    return dataset


def group_length(group: int, elements: list[raw.El]) -> raw.El:
    """The (gggg,0000) element of the elements of that group."""
    return raw.El(
        group << 16, "UL", struct.pack("<L", len(raw.encode([el for el in elements if el.tag >> 16 == group])))
    )
