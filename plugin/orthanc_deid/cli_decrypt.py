"""`orthanc-deid decrypt`: opens the Encrypted Attributes Sequence of an output, as one of its recipients."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from orthanc_deid.core import encrypted
from orthanc_deid.core.errors import DeidError
from orthanc_deid.core.source import Source
from orthanc_deid.identity import envelope


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--certificate", type=Path, required=True, metavar="CERT", help="the recipient's certificate")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the recipient's private key (PEM)")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="file with the password of the key")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the attributes as a DICOM file (mode 0600) instead of showing them: they identify the patient",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="an output of this software")


def run(args: argparse.Namespace) -> int:
    """Run the command: 0 when the attributes were opened, 1 when they cannot be."""
    try:
        password = args.password_file.read_bytes().rstrip(b"\r\n") if args.password_file else None
        recipient = envelope.certificate(args.certificate)
        key = envelope.private_key(args.key, password)
        opened, syntax = _open(args.file.read_bytes(), recipient, key)
    except (envelope.EnvelopeError, DeidError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if args.out is not None:
        _write(args.out, opened, syntax)
    else:
        _show(opened, syntax)
    return 0


def _open(data: bytes, recipient: object, key: object) -> tuple[bytes, str]:
    """Return the attributes, encoded, and their transfer syntax; the first item that opens decides."""
    contents = encrypted.contents(Source.from_bytes(data))
    if not contents:
        raise envelope.EnvelopeError("the file carries no encrypted attributes")
    failure: envelope.EnvelopeError | None = None
    for syntax, content in contents:
        try:
            plain = envelope.decrypt(content, recipient, key)  # type: ignore[arg-type]
        except envelope.EnvelopeError as error:
            failure = error
            continue
        return encrypted.attributes(plain, syntax), syntax
    raise failure or envelope.EnvelopeError("nothing could be opened")


def _file(attributes: bytes, syntax: str) -> bytes:
    """Return the attributes as a file that viewers open (PS3.10): no instance, as its pixels are not there."""
    uid = syntax.encode() + b"\0" * (len(syntax) & 1)
    meta = b"\x02\0\x10\0UI" + len(uid).to_bytes(2, "little") + uid
    return b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0" + len(meta).to_bytes(4, "little") + meta + attributes


def _write(path: Path, attributes: bytes, syntax: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)
        file.write(_file(attributes, syntax))


def _show(attributes: bytes, syntax: str) -> None:
    import io

    import pydicom

    print(pydicom.dcmread(io.BytesIO(_file(attributes, syntax)), force=True))
