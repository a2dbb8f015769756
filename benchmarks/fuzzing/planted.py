"""The canaries of the fuzzer: values of one patient that the engine is told of, and values that nobody knows."""

from __future__ import annotations

import struct
from random import Random

from orthanc_deid.core.values import Known

KNOWN = Known(
    frozenset(
        {
            ("name", "Qzvexton^Quilburzy"),
            ("id", "QZ-7719405"),
            ("id", "ACQ55190437"),
            ("phone", "+49 5550 1994417"),
            ("date", "19310724"),
            ("phrase", "17 Qzplimsole Lane"),
        }
    )
)
"""What the engine knows of the subject: none of it may come out, wherever text may stand."""

PATIENT = [b"QZVEXTON", b"Qzvexton^Quilburzy", b"quilburzy", b"QZ-7719405", b"QZ7719405", b"ACQ55190437"]
PATIENT += [b"5550 1994417", b"19310724", b"24.07.1931", b"1931-07-24", b"17 Qzplimsole Lane"]
SECRET = b"ZQXJKVWPZQ"
"""A token that the engine is not told of: it may stay only where the plan keeps values of that attribute."""
SECRET_UID = b"1.2.826.0.1.3680043.10.9999.66.7770017"
"""A UID of somebody's: it is mapped or goes, but for the four attributes of coding schemes."""

SOUGHT_KNOWN = (b"qzvexton", b"quilburzy", b"qz-7719405", b"qz7719405", b"acq55190437", b"5550 1994417")
SOUGHT_KNOWN += (b"24.07.1931", b"1931-07-24", b"19310724", b"qzplimsole lane")
SOUGHT_UNKNOWN = (SECRET.lower(), SECRET_UID)

_DRESS = (b"%s", b"%s", b"%s", b"for %s", b"%s, seen again", b"a\\%s\\b", b"x%sx", b"\t%s ", b"%s\0", b"m\xfcde %s")


def value(random: Random, vr: bytes) -> bytes:
    """Return a value for a VR with a canary in it, dressed in one of several ways; now and then in UTF-16."""
    kind = random.random()
    if vr == b"UI":
        return SECRET_UID
    token = SECRET if kind < 0.4 else random.choice(PATIENT)
    if vr in (b"DA", b"DT") and kind < 0.7:
        return b"19310724" + (b"101500" if vr == b"DT" else b"")
    if vr in (b"OB", b"OW", b"UN") and kind > 0.9:
        return token.decode().encode("utf-16-le")
    if vr in (b"OB", b"OW", b"UN"):
        return b"\1\2" + token + b"\0\0" * random.randint(0, 3)
    if vr in (b"FD", b"FL", b"OD", b"OF", b"SL", b"SS", b"UL", b"US", b"AT", b"OL", b"OV", b"SV", b"UV"):
        return struct.pack("<d", random.random())
    if kind > 0.97:
        return token.decode().encode(random.choice(("utf-16-le", "utf-16-be", "utf-32-le")))
    if not token[:1].isdigit() or token.isdigit():
        return random.choice(_DRESS) % token
    return random.choice(_DRESS[:6]) % token  # a date with separators counts as a word of its own
