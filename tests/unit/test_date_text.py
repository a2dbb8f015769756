"""Dates within text move in their own spelling; what is uncertain is masked; what is no date is left alone."""

from __future__ import annotations

import pytest
from orthanc_deid.core.dates import Shift, shift_text

KEEP = Shift(-1000, -18000, "keep")
WEEKS = Shift(-1001, -18000, "keep")
SHIFT = Shift(-1001, -18000, "shift", 60)
ROUND = Shift(-1000, -18000, "round")

MOVED = {
    "2020-03-12": "2017-06-16",
    "2020/03/12": "2017/06/16",
    "2020.03.12": "2017.06.16",
    "2020:03:12": "2017:06:16",
    "2020 03 12": "2017 06 16",
    "IMG_2020_03_12_a": "IMG_2017_06_16_a",
    "20200312": "20170616",
    "T20200312.dcm": "T20170616.dcm",
    "15032020": "19062017",
    "03152020": "06192017",
    "12.03.2020": "16.06.2017",
    "12. 03. 2020": "16. 06. 2017",
    "3.10.2012": "7.1.2010",
    "03.15.2020": "06.19.2017",
    "15/03/2020": "19/06/2017",
    "03/15/2020": "06/19/2017",
    "15-03-2020": "19-06-2017",
    "12.03.20": "16.06.17",
    "vom 3.5.19.": "vom 6.8.16.",
    "12.03.2020-15.03.2020": "16.06.2017-19.06.2017",
    "12.03.20-15.03.20": "16.06.17-19.06.17",
    "12.03.20 - 15.03.20": "16.06.17 - 19.06.17",
    "levels 3,2020-03-12": "levels 3,2017-06-16",
    "Mar 12 14:30:05 2020": "Jun 16 14:30:05 2017",
    "May 12 14:30:05 2020": "Aug 16 14:30:05 2017",
    "2.12.03.2020": "2.16.06.2017",
    "12–MAR–2020": "16–JUN–2017",
    "12-MAR-2020": "16-JUN-2017",
    "12Mar2020": "16Jun2017",
    "2020-MAR-12": "2017-JUN-16",
    "12 March 2020": "16 June 2017",
    "March 12, 2020": "June 16, 2017",
    "Mar 12 2020": "Jun 16 2017",
    "March 12th, 2020": "June 16th, 2017",
    "the 12th of March, 2020": "the 16th of June, 2017",
    "27th March 2020": "1st July 2017",
    "12. März 2020": "16. Juni 2017",
    "12. Maerz 2020": "16. Juni 2017",
    "9. Dezember 2019": "14. Maerz 2017",
    "9. Dez 2019": "14. Mrz 2017",
    "12 mars 2020, suivi le 4 juillet 2020": "16 juin 2017, suivi le 8 octobre 2017",
    "1er août 2020": "5 novembre 2017",
    "12 de marzo de 2020": "16 de junio de 2017",
    "12 marzo 2020 e 3 maggio 2020": "16 giugno 2017 e 7 agosto 2017",
    "12 maart 2020": "16 juni 2017",
    "12 de março de 2020": "16 de junho de 2017",
    "12 mars 2020 och 3 maj 2020": "16 juni 2017 och 7 augusti 2017",
    "12. marts 2020": "16. juni 2017",
    "12 марта 2020": "16 июня 2017",
    "12 marca 2020": "16 czerwca 2017",
    "12. března 2020": "16. června 2017",
    "12 maaliskuuta 2020": "16 kesakuuta 2017",
    "2020年3月12日": "2017年6月16日",
    "2020년 3월 12일": "2017년 6월 16일",
    "2020-03-12T14:30:05": "2017-06-16T14:30:05",
    "20200312143005": "20170616143005",
    "12.03.2020, 14:30 Uhr": "16.06.2017, 14:30 Uhr",
}


@pytest.mark.parametrize("text", MOVED)
def test_dates_move_in_their_own_spelling(text: str) -> None:
    assert shift_text(text, KEEP) == MOVED[text]
    around = f"Exam ({text}) done"
    assert shift_text(around, KEEP) == f"Exam ({MOVED[text]}) done"


UNCERTAIN = {
    "12/03/2020": "***",
    "05/05/2020": "***",
    "12-03-2020": "***",
    "03042020": "***",
    "15/03/20": "***",
    "1/2/20": "***",
    "15/03/20-16/03/20": "***-***",
    "58-06-14": "***",
    "58.06.14": "***",
    "2020-03.12": "***",
    "31.02.2020": "***",
    "12.-15.03.2020": "***",
    "12.03.-15.03.2020": "***",
    "12./13.03.2020": "***",
    "12-15 March 2020": "***",
    "March 12-15, 2020": "***",
    "March 2020": "***",
    "Mar-20": "***",
    "03/2020": "***",
    "03.2020": "***",
    "12-III-2020": "***",
    "12.XII.2020": "***",
    "12 viii 2020": "***",
    "2020. IV. 12.": "***.",
    "2020-IX-2": "***",
    "2020-03": "***",
    "seen on 12 March": "seen on ***",
    "12 May seen": "*** seen",
    "am 12. Dezember": "am ***",
    "KW 12/2020": "***",
    "Q1 2020": "***",
    "200312": "***",
    "令和2年3月12日": "***",
    "R2.3.12": "***",
    "２０２０年３月１２日": "***",
    "١٢.٠٣.٢٠٢٠": "***",
}


@pytest.mark.parametrize("text", UNCERTAIN)
def test_what_is_uncertain_is_masked(text: str) -> None:
    for shift in (KEEP, SHIFT, ROUND, None):
        assert shift_text(text, shift) == UNCERTAIN[text]


@pytest.mark.parametrize("text", [*MOVED, *UNCERTAIN])
def test_without_the_option_every_date_is_masked_once_and_for_all(text: str) -> None:
    masked = shift_text(f"Exam {text} done", None)
    assert "***" in masked
    assert shift_text(masked, None) == masked
    assert not {"2020", "2012", "2019"} & set(masked.split())


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("12 NİSAN 2020", "17 TEMMUZ 2017"),
        ("12 APRİL 2020", "17 JULY 2017"),
        ("12 KASIM 2020", "16 SUBAT 2018"),
        ("12 mayıs 2020", "16 ağustos 2017"),
        ("12 ιανουαριοσ 2020", "17 απρ 2017"),
        ("12 auguſt 2020", "16 november 2017"),
    ],
)
def test_a_month_is_known_in_every_case_that_letters_have(text: str, moved: str) -> None:
    assert shift_text(text, KEEP) == moved
    assert shift_text(text, None) == "***"


LEFT = [
    "CT CHEST W CONTRAST 1.0 B30f",
    "T2 TSE TRA 3mm",
    "DWI b0 b500 b1000",
    "DWI b 1000 2000",
    "TR 2000 TE 30",
    "TR 1950 ms",
    "512x512",
    "matrix 1920x1080",
    "0.5 mm 3 x 3",
    "MAG 3",
    "Tc-99m MAG3",
    "OCT 12",
    "segment 4 may represent a cyst",
    "lesion 12 may 20 mm",
    "V5.10.12",
    "syngo 5.1.10",
    "VB10B 2.1.12",
    "1.2.840.113619.2.55.3",
    "C5/6 and L4/5",
    "T1 2.5",
    "ratio 1:64",
    "4.5.6.7",
    "10.0.0.1",
    "1/2 dose",
    "2 x 1950 cGy",
    "stage II 3 IV 2",
    "10-12-14-16",
    "3-12-20",
    "grade 3/4",
    "kVp 120, 250 mAs",
    "12 mm 3 mm 20 mm",
    "LEVEL 4 MAY BE",
    "MAR 2",
    "SE 3 IM 45",
]


@pytest.mark.parametrize("text", LEFT)
@pytest.mark.parametrize("shift", [KEEP, SHIFT, None], ids=["keep", "shift", "none"])
def test_what_is_no_date_is_left_alone(text: str, shift: Shift | None) -> None:
    assert shift_text(text, shift) == text


@pytest.mark.parametrize(
    ("text", "shifted", "rounded"),
    [
        ("2020-03-12T14:30:05", "2017-06-15T09:30:05", "2017-06-16T14:00:00"),
        ("2020-03-12T14:30:05.123Z", "2017-06-15T10:30:05.123", "2017-06-16T14:00:00.123"),
        ("20200312143005+0200", "20170615083005", "20170616140000"),
        ("Mar 12 14:30:05 EDT 2020", "Jun 15 09:30:05 2017", "Jun 16 14:00:00 2017"),
        ("20200312_143005", "20170615_093005", "20170616_140000"),
        ("12.03.2020 03:00", "14.06.2017 22:00", "16.06.2017 03:00"),
        ("12.03.2020 um 14.30 Uhr", "15.06.2017 um 09.30 Uhr", "16.06.2017 um 14.00 Uhr"),
        ("March 12, 2020 at 2:30 PM", "June 15, 2017 at 9:30 AM", "June 16, 2017 at 2:00 PM"),
        ("injected 14:30", "injected 09:30", "injected 14:00"),
        ("injected 14:30:59", "injected 09:30:59", "injected 14:00:00"),
        ("14h30", "09h30", "14h00"),
        ("12:15 a.m.", "7:15 p.m.", "12:00 a.m."),
        ("14 Uhr", "09 Uhr", "14 Uhr"),
        ("kl. 14.30", "kl. 09.30", "kl. 14.00"),
    ],
)
def test_times_follow(text: str, shifted: str, rounded: str) -> None:
    assert shift_text(text, SHIFT) == shifted
    assert shift_text(text, ROUND).replace(".123", "") == rounded.replace(".123", "")


@pytest.mark.parametrize("text", ["injected 14:30", "14h30", "2 pm", "um 14.30 Uhr", "9:05:10"])
def test_times_alone_stay_or_go(text: str) -> None:
    assert shift_text(text, KEEP) == text
    assert "***" in shift_text(text, None)


def test_a_day_of_the_week_stays_only_where_it_is_still_right() -> None:
    assert shift_text("Thursday, 12 March 2020", KEEP) == "***, 16 June 2017"
    assert shift_text("Thursday, 12 March 2020", WEEKS) == "Thursday, 15 June 2017"
    assert shift_text("Do 12.03.2020", KEEP) == "*** 16.06.2017"
    assert shift_text("12.03.2020 (Do)", KEEP) == "16.06.2017 (***)"
    assert shift_text("do, 12.03.2020", KEEP) == "***, 16.06.2017"
    assert shift_text("CT 20200312", KEEP) == "CT 20170616"
    assert shift_text("SO 12.03.2020", None) == "SO ***"


@pytest.mark.parametrize(
    "text",
    [
        "Version 12.03.2020",
        "Vorlage vom 12.03.2020",
        "calibrated: 2020-03-12",
        "Protocol v3 (12 March 2020)",
        "© 20200312",
    ],
)
def test_constants_of_the_site_are_masked(text: str) -> None:
    changed = shift_text(text, KEEP)
    assert "***" in changed
    assert "2017" not in changed and "2020" not in changed


@pytest.mark.parametrize("text", ["CABG 2015", "in 2015", "(2015)", "seit 1998."])
def test_a_bare_year_does_not_show_the_offset(text: str) -> None:
    assert shift_text(text, KEEP) == text.replace("2015", "***").replace("1998", "***")
    assert shift_text(text, None) == text


def test_text_without_accents_gets_none() -> None:
    """What was plain ASCII may have to stay so: its character set may have no other letters."""
    assert shift_text("9. Dezember 2019", KEEP) == "14. Maerz 2017"
    assert shift_text("9. Dezember 2019 (Größe)", KEEP) == "14. März 2017 (Größe)"
    assert shift_text("4 janvier 2021", Shift(-400, 0, "keep")) == "1 decembre 2019"


def test_several_dates_of_one_text_keep_their_distance() -> None:
    text = "12.03.2020 Kontrolle, zuvor 01.03.2020; OP 12 March 2019."
    assert shift_text(text, KEEP) == "16.06.2017 Kontrolle, zuvor 05.06.2017; OP 15 June 2016."
