"""Alembic's entry point: runs the migrations on the connection that `store.database` opened."""

from alembic import context
from orthanc_deid.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
