"""Run by Alembic: migrate over the connection it was given."""

from __future__ import annotations

from alembic import context

from cdpbridge.server.store._models import Base

connection = context.config.attributes["connection"]
# SQLite can roll DDL back when the driver does not interfere: a migration that is cut short leaves nothing behind.
context.configure(
    connection=connection, target_metadata=Base.metadata, transactional_ddl=True, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
