"""Contradictions of identity are held, on hashes alone; the first object settles what is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from orthanc_deid.errors import KeyFileError
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.identity.subjects import Identity, link
from orthanc_deid.store import Store, knowledge, ledger, meta, projects, subjects
from orthanc_deid.store.rows import Finished, Outcome

from tests.ledgers import KEYS, PROJECT, VAULT, claim, finish, output, ready, source, subject


def arrive(conn: Any, name: str, who: Identity, *, study: str = "1.2.3") -> Finished:
    (row,) = ledger.add_many(conn, PROJECT, [source(name, study=study)], 100.0)
    claim(conn)
    return finish(conn, ready(row.id, name, who=who, study=study))[0]


def kinds(conn: Any) -> list[str]:
    return [found.kind for found in subjects.contradictions(conn, PROJECT)]


def test_objects_that_agree_come_through(conn: Any) -> None:
    assert arrive(conn, "a", subject(birth_date="19700101", sex="F")).state == "ready"
    assert arrive(conn, "b", subject(birth_date="1970.01.01", sex="f ")).state == "ready"
    assert arrive(conn, "c", subject()).state == "ready"
    assert kinds(conn) == []


@pytest.mark.parametrize(
    ("other", "kind"), [({"birth_date": "19700102"}, "birth"), ({"sex": "M"}, "sex"), ({"sex": "O"}, "sex")]
)
def test_one_id_with_another_birth_date_or_sex_is_held(conn: Any, other: dict[str, str], kind: str) -> None:
    right = {"birth_date": "19700101", "sex": "F"}
    arrive(conn, "a", subject(**right), study="1.1")
    held = arrive(conn, "b", subject(**(right | other)), study="1.2")
    assert (held.state, held.reason) == ("quarantined", "identity-contradiction")
    assert kinds(conn) == [kind]
    assert [found.ledger_id for found in subjects.contradictions(conn)] == [held.id]
    assert arrive(conn, "c", subject(**right), study="1.3").state == "ready"


def test_what_the_first_object_did_not_say_the_next_one_settles(conn: Any) -> None:
    arrive(conn, "a", subject())
    arrive(conn, "b", subject(birth_date="19700101"))
    assert arrive(conn, "c", subject(birth_date="19700102")).state == "quarantined"


def test_a_contradiction_within_one_batch_is_seen(conn: Any) -> None:
    rows = ledger.add_many(conn, PROJECT, [source("a"), source("b")], 100.0)
    claim(conn)
    done = finish(conn, ready(rows[0].id, "a", who=subject(sex="F")), ready(rows[1].id, "b", who=subject(sex="M")))
    assert [row.state for row in done] == ["ready", "quarantined"]


def test_one_study_under_two_ids_is_held(conn: Any) -> None:
    arrive(conn, "a", subject("1CT1"), study="1.1")
    held = arrive(conn, "b", subject("4MR1"), study="1.1")
    assert (held.state, held.reason) == ("quarantined", "identity-contradiction")
    assert kinds(conn) == ["study"]
    assert arrive(conn, "c", subject("4MR1"), study="1.2").state == "ready"


def test_lists_are_pseudonymous_and_paged(conn: Any) -> None:
    for number in range(4):
        arrive(conn, f"i{number}", subject(f"P{number}"), study=f"1.{number}")
    arrive(conn, "more", subject("P0"), study="1.9")
    page = subjects.page(conn, PROJECT, limit=3)
    rest = subjects.page(conn, PROJECT, after=page[-1].pseudonym)
    rows = {row.pseudonym: row for row in page + rest}
    assert len(rows) == 4
    first = rows[subject("P0").subject.pseudonym]
    assert (first.studies, first.instances, first.first_seen) == (2, 2, 102.0)


def test_known_values_are_kept_once_per_subject(conn: Any) -> None:
    rows = ledger.add_many(conn, PROJECT, [source(name) for name in "abc"], 100.0)
    claim(conn)
    values = [VAULT.ref_bytes("known", b"value 1"), VAULT.ref_bytes("known", b"value 2")]
    who = subject()
    outcomes = [
        Outcome(row.id, "ready", output=output(name), subject=who.seen, known=values[:count])
        for row, name, count in zip(rows, "abc", (1, 2, 2), strict=True)
    ]
    finish(conn, *outcomes)
    revision, sealed = knowledge.since(conn, PROJECT, who.seen.index, -1)
    assert sorted(VAULT.open_bytes("known", value) for value in sealed) == [b"value 1", b"value 2"]
    assert knowledge.since(conn, PROJECT, who.seen.index, revision) == (revision, [])
    assert knowledge.since(conn, "brain", who.seen.index, -1) == (0, [])


def test_the_way_back_is_sealed(conn: Any) -> None:
    who = subject("1CT1")
    arrive(conn, "a", who)
    assert link(KEYS, who.seen.sealed) == ("default", "1CT1")
    assert b"1CT1" not in who.seen.sealed


def test_nothing_that_identifies_stands_in_the_file(tmp_path: Path) -> None:
    planted = ["PLANTED-ID-77", "1.2.826.0.1.99887766", "0badcafe-11112222-33334444-55556666-77778888", "19610713"]
    store = Store.open(tmp_path / "deid.sqlite3")
    with store.begin() as conn:
        who = subject(planted[0], birth_date=planted[3], sex="F")
        rows = ledger.add_many(conn, PROJECT, [source(planted[2], study=planted[1], series=planted[2])], 100.0)
        claim(conn, planted[2])
        known = [VAULT.ref_bytes("known", planted[0].encode())]
        finish(conn, Outcome(rows[0].id, "ready", output=output("a", who=who), subject=who.seen, known=known))
    store.close()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert subject(planted[0]).subject.pseudonym.encode() in written
    for value in planted:
        assert value.encode() not in written


def test_subjects_bind_the_key_file(conn: Any) -> None:
    assert not subjects.exist(conn)
    arrive(conn, "a", subject())
    assert subjects.exist(conn)


def test_a_project_stays_with_the_key_that_it_began_with(conn: Any) -> None:
    first = MasterKey({1: b"\1" * 32})
    keys = projects.open_keys(conn, first, PROJECT, 100.0)
    rotated = MasterKey({1: b"\1" * 32, 2: b"\2" * 32})
    assert projects.open_keys(conn, rotated, PROJECT, 200.0) == keys
    assert projects.open_keys(conn, rotated, "later", 200.0).key_id == 2
    with pytest.raises(KeyFileError, match="not the one"):
        projects.open_keys(conn, MasterKey({1: b"\3" * 32}), PROJECT, 300.0)
    with pytest.raises(KeyFileError, match="no key 2"):
        projects.open_keys(conn, first, "later", 300.0)


def test_the_cursor_is_kept(conn: Any) -> None:
    assert meta.cursor(conn) == 0
    meta.set_cursor(conn, 17)
    meta.set_cursor(conn, 12345678901)
    assert meta.cursor(conn) == 12345678901
    assert meta.get(conn, "none") is None
