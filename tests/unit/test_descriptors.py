"""Cleaning of descriptors and free text: what stays, what goes, in which languages and character sets."""

from __future__ import annotations

import csv
import time
import unicodedata

import pytest
from orthanc_deid.core import lexicon
from orthanc_deid.core.dates import Shift
from orthanc_deid.core.descriptors import NO_POLICY, TextPolicy, clean_value, masked_tokens
from orthanc_deid.core.text import decode, encode, encodings
from orthanc_deid.core.values import NOTHING_KNOWN, Known

TAG = 0x0008103E
NOBODY = NOTHING_KNOWN.needles
SOMEBODY = Known(
    frozenset(
        {
            ("name", "Zyllinger^Möritz"),
            ("name", "Head^Rose"),
            ("id", "PX-00471183"),
            ("date", "19610417"),
            ("phone", "+49 221 4778812"),
            ("phrase", "Klinikum Entenhausen"),
        }
    )
).needles
SHIFT = Shift(days=-700, seconds=0, times="keep", zone=None)


def clean(text: str, needles=NOBODY, *, vr=b"LO", policy=NO_POLICY, shift=None) -> str | None:
    made = clean_value(vr, TAG, text.encode(), ("utf-8",), needles, policy, shift)
    return None if made is None else made.decode()


STAYS = [
    "CT CHEST W CONTRAST 1.0 B30f",
    "Thorax nativ 3.0 B60f",
    "LUNG 1.0 Bl64 Q3",
    "AXIAL 5.0 H31s",
    "Abdomen 2.0 I26s 3 iMAR",
    "STD BRAIN 1MM, iDose (4)",
    "CHEST FC51 AIDR3D",
    "ASiR-V 50% 0.625mm",
    "t1_mprage_sag_p2_iso",
    "t2_tse_tra_384",
    "T2 FLAIR tra dark-fluid 4mm",
    "t1_vibe_dixon_cor_bh_W",
    "ep2d_diff_b1000_ADC",
    "AX T1 STIR HASTE TSE",
    "AAHead_Scout",
    "HeadNeck Routine",
    "WB 3D MAC",
    "TR 2500 TE 80 512x512 120kV 350 mAs",
    "12000 ms",
    "COR 3.0 mm x 2.5",
    "C7/T1 L4-L5",
    "Type II, stage IV",
    "XR CHEST AP PORTABLE",
    "MR Mark lesion liver",
    "45 y/o male with chest pain",
    "45F, age 89",
    "TC 99M MAA",
    "SCOORD CONTAINER PNAME",
    "X-RAY WRIST 2 VIEWS",
    "LungNodule0001 Vertebra0002 ROI3",
    "chest xray, pseudoprogression and nonobstructing stones",
    "EGFR mutation, PI-RADS 5, RECIST",
    "allergic to amoxicillin and peanuts",
    # German
    "Oberschenkel links a.p.",
    "Kniegelenk bds. Übersicht",
    "Schädel nativ, Knochenfenster 1,5 mm",
    "Lendenwirbelsäule sagittal in Rückenlage",
    "MRT des Oberbauches mit KM, arterielle Phase",
    # French
    "Scanner thoracique sans injection",
    "IRM du genou droit, coupes axiales",
    # Spanish
    "RM de rodilla izquierda sin contraste",
    "Radiografía de tórax posteroanterior",
    # Italian
    "TC addome completo con contrasto, fase venosa",
    "RX ginocchio destro in due proiezioni",
    # Dutch
    "MRI knie rechts, sagittale serie",
    "CT thorax met contrastmiddel",
    # Portuguese
    "Tomografia do crânio sem contraste",
    "Ressonância do joelho esquerdo",
    # other scripts
    "胸部CT 平扫",
    "頭部 単純",
    "흉부 조영증강",
    "КТ грудной клетки с контрастом",
    "αξονική τομογραφία θώρακος",
]


@pytest.mark.parametrize("text", STAYS)
@pytest.mark.parametrize("needles", [NOBODY, Known(frozenset({("id", "471183-7")})).needles])
def test_words_that_name_nobody_stay_bit_by_bit(text, needles):
    value = text.encode()
    assert clean_value(b"LO", TAG, value, ("utf-8",), needles, NO_POLICY, None) is value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # what is on no list
        ("MR BRAIN Zorblatt", "MR BRAIN ***"),
        ("CT Zorblatt-Quimby Head", "CT *** Head"),
        ("kkbogart", None),
        ("transferred from Feelmouth", "transferred from ***"),
        ("Chester Summers thorax", "*** thorax"),
        ("X-RAY Zorblatt", "X-RAY ***"),
        ("Ray Zorblatt thorax", "*** thorax"),
        # names that are words
        ("Mark Zorblatt liver", "*** liver"),
        ("J. Zorblatt CT", "*** CT"),
        ("Zorblatt, J. CT", "***. CT"),
        ("Patient: Rose May, chest pain", "Patient: ***, chest pain"),
        ("ref by Mark Young, head", "ref by ***, head"),
        # titles
        ("Dr. Young CT Chest", "Dr. *** CT Chest"),
        ("CT DR. HEAD FOOT", "CT DR. *** FOOT"),
        ("DR CHEST 2 VIEWS", "DR CHEST 2 VIEWS"),
        ("MR BRAIN", "MR BRAIN"),
        ("Mrs Head thorax", "Mrs *** thorax"),
        ("Frau Kopf, 45 J., Thorax", "Frau ***, 45 J., Thorax"),
        ("Prof. Dr. med. von Stein Abdomen", "Prof. *** Abdomen"),
        ("Mme de la Roche thorax", "*** thorax"),
        ("Sra. Costa tórax", "Sra. *** tórax"),
        ("Sig.ra Petto torace", "Sig.ra *** torace"),
        ("Mevr. Hals thorax", "*** thorax"),
        # numbers
        ("CT 12345678", "CT ***"),
        ("Head 12345", "Head ***"),
        ("CT12345 AX", "*** AX"),
        ("AB12CD34 AX", "*** AX"),
        ("A1B2C3 AX", "*** AX"),
        ("kidney12345 AX", "*** AX"),
        ("rose12 AX", "*** AX"),
        ("S-19-00234 AX", "*** AX"),
        ("AX 92-411-582", "AX ***"),
        ("MRN 77 AX", "*** AX"),
        ("ID: 4711 AX", "ID: *** AX"),
        ("AX 123-45-6789", "AX ***"),
        ("AX 1.2.840.113619.2.55", "AX ***"),
        ("AX 192.168.1.20", "AX ***"),
        ("thorax 0221 4778812", "thorax ***"),
        ("thorax Tel. 4778812", "thorax Tel. ***"),
        ("thorax +49 221 47788-12", "thorax ***"),
        ("thorax (555) 123-4567", "thorax ***"),
        ("thorax 555-123-4567", "thorax ***"),
        ("thorax 01 42 34 56 78", "thorax ***"),
        ("thorax rose@example.com", "thorax ***"),
        ("thorax https://example.org/head", "thorax ***"),
        ("thorax www.example.de", "thorax ***"),
        ("123 Head Street, thorax", "***, thorax"),
        ("Kopfstraße 12, Thorax", "***, Thorax"),
        ("12 rue de la Tête, thorax", "***, thorax"),
        ("91 year old male", "*** year old male"),
        ("93-jährige Patientin", "***-jährige Patientin"),
        ("age: 97", "age: ***"),
        ("Alter 96", "Alter ***"),
        ("CT 92F chest pain", "CT *** chest pain"),
        ("CT 92 M chest pain", "CT *** M chest pain"),
        ("CT 95岁", "CT ***"),
        # dates
        ("CHEST 2019-03-01", "CHEST ***"),
        ("CHEST 20190301", "CHEST ***"),
        # the rest of a run without blanks
        ("王小明胸部CT", "***胸部CT"),
        ("胸部 王小明", "胸部 ***"),
        ("김철수 흉부", "*** 흉부"),
        ("Иванович головы", "*** головы"),
        ("ראש thorax", "*** thorax"),
    ],
)
def test_what_may_name_somebody_goes(text, expected):
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MR BRAIN Zyllinger", "MR BRAIN ***"),
        ("MR BRAIN zyllinger_2", "MR BRAIN ***_2"),
        ("Möritz Schädel nativ", "*** Schädel nativ"),
        ("MOERITZ KNIE", "*** KNIE"),
        ("Moritz Knie", "*** Knie"),
        ("CT head", "CT ***"),
        ("CT PX 00471183", "CT ***"),
        ("Klinikum Entenhausen Thorax", "*** Thorax"),
        ("Thorax 17.4.1961", "Thorax ***"),
        ("Thorax 0221/4778812", "Thorax ***"),
    ],
)
def test_the_subjects_own_values_go_whatever_the_lists_say(text, expected):
    allowing = TextPolicy(
        frozenset({"zyllinger", "moritz", "möritz", "moeritz", "klinikum", "entenhausen"}), frozenset()
    )
    assert clean(text, SOMEBODY, policy=allowing) == expected


def test_decomposed_letters_are_found_too():
    text = unicodedata.normalize("NFD", "Schädel Möritz")
    assert clean(text, SOMEBODY) == "Schädel ***"
    kept = unicodedata.normalize("NFD", "Schädel nativ").encode()
    assert clean_value(b"LO", TAG, kept, ("utf-8",), SOMEBODY, NO_POLICY, None) is kept


def test_dates_move_where_the_profile_moves_them_and_are_masked_elsewhere():
    assert clean("CHEST 2019-03-01", shift=SHIFT) == "CHEST 2017-03-31"
    assert clean("CHEST 20190301 AX", shift=SHIFT) == "CHEST 20170331 AX"
    assert clean("Thorax vom 1.3.2019", shift=SHIFT) == "Thorax vom 31.3.2017"
    assert clean("CHEST 99999999", shift=SHIFT) == "CHEST ***"
    assert clean("ID: 4711", shift=SHIFT) == "ID: ***"


def test_a_date_of_the_subject_is_moved_before_it_is_looked_for():
    assert clean("CHEST 17.04.1961", SOMEBODY, shift=SHIFT) == "CHEST 18.05.1959"


def test_a_profile_adds_words_and_takes_them_away():
    policy = TextPolicy(frozenset({"zorblatt"}), frozenset({"chest"}))
    assert clean("CT CHEST Zorblatt", policy=policy) == "CT *** Zorblatt"


@pytest.mark.parametrize(
    ("vr", "limit"), [(b"SH", 16), (b"LO", 64), (b"ST", 1024), (b"LT", 10240)], ids=["SH", "LO", "ST", "LT"]
)
def test_masked_text_fits_the_vr(vr, limit):
    text = ("a Zq " * limit)[:limit]
    made = clean(text, vr=vr)
    assert made is not None
    assert len(made) <= limit
    assert "Zq" not in made
    assert clean(made, vr=vr) == made


def test_several_values_are_cleaned_one_by_one():
    assert clean("CHEST\\Zorblatt\\HEAD") == "CHEST\\***\\HEAD"
    assert clean("CHEST\\Zorblatt", vr=b"CS") == "CHEST\\"
    assert clean("Zorblatt", vr=b"CS") is None
    assert clean("C:\\Zorblatt\\head", vr=b"LT") == "C:\\***\\head"


def test_names_are_never_harmless():
    assert clean("Head^Rose", vr=b"PN") is None
    assert clean("", vr=b"PN") == ""


def test_line_ends_and_blanks_stay():
    assert clean("FINDINGS:\r\n  liver normal\r\n\tZorblatt\f", vr=b"LT") == "FINDINGS:\r\n  liver normal\r\n\t***"


@pytest.mark.parametrize(
    ("term", "text", "expected"),
    [
        (b"ISO_IR 100", "Schädel Zörblatt", "Schädel ***"),
        (b"ISO_IR 101", "vyšetření Čzörblat thorax", "vyšetření *** thorax"),
        (b"ISO_IR 126", "θώρακας Ζορμπλατ", "θώρακας ***"),
        (b"ISO_IR 144", "головы Зорблатт", "головы ***"),
        (b"ISO_IR 192", "胸部 佐藤太郎 Schädel", "胸部 *** Schädel"),
        (b"GB18030", "胸部 王小明 平扫", "胸部 *** 平扫"),
        (b"\\ISO 2022 IR 87", "胸部 佐藤太郎 CT", "胸部 *** CT"),
        (b"ISO 2022 IR 13\\ISO 2022 IR 87", "胸部 佐藤太郎 CT", "胸部 *** CT"),
        (b"\\ISO 2022 IR 149", "흉부 김철수 CT", "흉부 *** CT"),
        (b"\\ISO 2022 IR 58", "胸部 王小明 CT", "胸部 *** CT"),
        (b"ISO 2022 IR 6\\ISO 2022 IR 100", "Schädel Zörblatt", "Schädel ***"),
        (b"\\ISO 2022 IR 144", "головы Зорблатт", "головы ***"),
    ],
)
def test_text_stays_in_its_character_set(term, text, expected):
    charset = encodings(term)
    value = encode(text, charset)
    assert value is not None
    made = clean_value(b"LO", TAG, value, charset, NOBODY, NO_POLICY, None)
    assert made is not None
    assert decode(made, charset) == expected
    assert clean_value(b"LO", TAG, made, charset, NOBODY, NO_POLICY, None) is made


@pytest.mark.parametrize("charset", [("ascii",), ("latin_1",), ("iso8859_2",)])
def test_utf8_under_another_name_is_read_as_utf8(charset):
    value = "Schädel Möritz".encode()
    assert clean_value(b"LO", TAG, value, charset, SOMEBODY, NO_POLICY, None) == "Schädel ***".encode()


def test_bytes_that_no_character_set_knows_go():
    assert clean_value(b"LO", TAG, b"head \xff\xfe\x81", ("utf-8",), NOBODY, NO_POLICY, None) == b"head ***"
    assert clean_value(b"LO", TAG, b"head a\x01b", ("ascii",), NOBODY, NO_POLICY, None) == b"head ***"


def test_text_that_its_character_set_cannot_hold_is_not_encoded():
    assert encode("胸部", ("latin_1",)) is None
    assert encode("胸部", ("ascii", "euc_kr")) is not None
    assert encode("ж", ("ascii", "latin_1")) is None


LONG = ["a", "7", "a.", "-a", "1-", "1.", "1:", "zyllinger", "read by ", "name=", "1 Jan ", "acgt", "x_"]


@pytest.mark.parametrize("part", [*LONG, "tel" + " " * 999])
def test_a_long_text_is_cleaned_in_time(part):
    """Every way to look through a text from each of its letters would take minutes for this one."""
    text = (part * 60000)[:60000]
    begin = time.process_time()
    clean(text + "!", SOMEBODY, vr=b"UT", shift=SHIFT)
    assert time.process_time() - begin < 20


def test_curation_lists_words_and_nothing_that_may_identify():
    text = "SIREVIEW Zorblatt 12345678 2019-03-01 Zyllinger Dr. Quimby chest PX-00471183 ab12345"
    found = masked_tokens(b"LT", TAG, text.encode(), ("ascii",), SOMEBODY, NO_POLICY, None)
    assert found == ("sireview", "zorblatt")


def test_lists_are_in_order_casefolded_and_without_doubles():
    for path in sorted(lexicon.FOLDER.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        words = [row["word"] for row in rows]
        assert words == sorted(set(words)), path.name
        for row in rows:
            assert row["word"] == unicodedata.normalize("NFC", row["word"]).casefold(), path.name
            assert row["name"] in ("", "y"), path.name


@pytest.mark.parametrize(
    "name", ["smith", "grant", "rose", "meyer", "müller", "garcia", "jones", "michael", "anna", "ray"]
)
def test_names_of_many_people_are_on_no_list(name):
    assert lexicon.known(name) == lexicon.UNKNOWN


def test_the_digest_of_the_lists_is_stable():
    assert lexicon.digest() == lexicon.digest()
    assert len(lexicon.digest()) == 64
