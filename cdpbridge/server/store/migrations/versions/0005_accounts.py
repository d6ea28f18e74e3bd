"""Keys with names, roles and an end; plans and limits of projects; what a request asked for in vain; simulated countries."""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("id", sa.Uuid(), nullable=True))
    op.add_column("api_keys", sa.Column("name", sa.String(length=100), nullable=True))
    op.add_column("api_keys", sa.Column("hint", sa.String(length=20), nullable=True))
    op.add_column("api_keys", sa.Column("admin", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True))
    keys = sa.table("api_keys", sa.column("key_hash", sa.String()), sa.column("id", sa.Uuid()))
    connection = op.get_bind()
    for key_hash in connection.execute(sa.select(keys.c.key_hash)).scalars().all():
        connection.execute(keys.update().where(keys.c.key_hash == key_hash).values(id=uuid4()))
    with op.batch_alter_table("api_keys") as batch:
        batch.alter_column("id", existing_type=sa.Uuid(), nullable=False)
        batch.create_unique_constraint(op.f("uq_api_keys_id"), ["id"])
    op.add_column("projects", sa.Column("plan", sa.String(length=20), nullable=True))
    op.add_column("projects", sa.Column("max_browsers", sa.Integer(), nullable=True))
    op.add_column("browsers", sa.Column("key_id", sa.Uuid(), nullable=True))
    op.add_column("browsers", sa.Column("proxy_simulated", sa.Boolean(), nullable=True))
    op.add_column("browsers", sa.Column("ignored_fields", sa.JSON(), nullable=True))
    op.create_index(op.f("ix_browsers_key_id"), "browsers", ["key_id"])
    op.add_column("tasks", sa.Column("ignored_fields", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("tasks", "ignored_fields")
    op.drop_index(op.f("ix_browsers_key_id"), table_name="browsers")
    for column in ("ignored_fields", "proxy_simulated", "key_id"):
        op.drop_column("browsers", column)
    for column in ("max_browsers", "plan"):
        op.drop_column("projects", column)
    with op.batch_alter_table("api_keys") as batch:
        batch.drop_constraint(op.f("uq_api_keys_id"), type_="unique")
        for column in ("revoked_at", "last_used_at", "admin", "hint", "name", "id"):
            batch.drop_column(column)
