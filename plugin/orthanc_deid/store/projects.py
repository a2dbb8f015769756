"""Projects and the key that each began with."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.errors import KeyFileError
from orthanc_deid.identity.keys import MasterKey, ProjectKeys
from orthanc_deid.store.schema import projects
from orthanc_deid.store.sql import insert_ignore


def open_keys(conn: Connection, master: MasterKey, project: str, now: float) -> ProjectKeys:
    """Return the keys of a project: of the key that it began with, which is the current one at its first start.

    Raises KeyFileError when the file lacks that key, or holds another one under its number: every subject of the
    project would get a new pseudonym.
    """
    first = {"project": project, "key_id": master.current, "created": now}
    insert_ignore(conn, projects, [{**first, "key_fingerprint": master.fingerprint(master.current)}])
    row = conn.execute(sa.select(projects).where(projects.c.project == project)).one()
    if master.fingerprint(row.key_id) != row.key_fingerprint:
        raise KeyFileError(
            f"the master key file is not the one that project {project} was started with; put the backup in its place"
        )
    return master.project(project, row.key_id)
