"""Agent sessions, tasks with their steps and files, shares."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_WORKING = sa.text("state IN ('started', 'paused', 'stopping')")


def upgrade() -> None:
    op.add_column("browsers", sa.Column("labels", sa.JSON(), nullable=True))
    op.add_column("browsers", sa.Column("agent_session_id", sa.Uuid(), nullable=True))
    op.create_index(op.f("ix_browsers_agent_session_id"), "browsers", ["agent_session_id"])
    op.create_table(
        "agent_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("browser_id", sa.Uuid(), nullable=False),
        sa.Column("start_url", sa.Text(), nullable=True),
        sa.Column("keep_alive", sa.Boolean(), nullable=False),
        sa.Column("persist_memory", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_agent_sessions_project_id_projects")
        ),
        sa.ForeignKeyConstraint(
            ["browser_id"], ["browsers.id"], name=op.f("fk_agent_sessions_browser_id_browsers")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_sessions")),
        sa.UniqueConstraint("browser_id", name=op.f("uq_agent_sessions_browser_id")),
    )
    op.create_index(
        op.f("ix_agent_sessions_project_id_created_at"), "agent_sessions", ["project_id", "created_at"]
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("llm", sa.String(length=200), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=True),
        sa.Column("secret_names", sa.JSON(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("end_reason", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("is_success", sa.Boolean(), nullable=True),
        sa.Column("browser_use_version", sa.String(length=40), nullable=True),
        sa.Column("log", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("body_hash", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_tasks_project_id_projects")),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["agent_sessions.id"],
            name=op.f("fk_tasks_session_id_agent_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint(
            "project_id", "idempotency_key", name=op.f("uq_tasks_project_id_idempotency_key")
        ),
    )
    op.create_index(op.f("ix_tasks_project_id_created_at"), "tasks", ["project_id", "created_at"])
    op.create_index(op.f("ix_tasks_session_id_created_at"), "tasks", ["session_id", "created_at"])
    op.create_index(
        "uq_tasks_working_session_id",
        "tasks",
        ["session_id"],
        unique=True,
        sqlite_where=_WORKING,
        postgresql_where=_WORKING,
    )
    op.create_table(
        "task_steps",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("memory", sa.Text(), nullable=False),
        sa.Column("evaluation_previous_goal", sa.Text(), nullable=False),
        sa.Column("next_goal", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("actions", sa.JSON(), nullable=False),
        sa.Column("screenshot", sa.Text(), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_task_steps_task_id_tasks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", "number", name=op.f("pk_task_steps")),
    )
    op.create_table(
        "task_files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_task_files_task_id_tasks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_files")),
    )
    op.create_index(op.f("ix_task_files_task_id"), "task_files", ["task_id"])
    op.create_table(
        "shares",
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("view_count", sa.BigInteger(), nullable=False),
        sa.Column("last_viewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["agent_sessions.id"],
            name=op.f("fk_shares_session_id_agent_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_shares")),
        sa.UniqueConstraint("session_id", name=op.f("uq_shares_session_id")),
    )


def downgrade() -> None:
    for table in ("shares", "task_files", "task_steps", "tasks", "agent_sessions"):
        op.drop_table(table)
    op.drop_index(op.f("ix_browsers_agent_session_id"), table_name="browsers")
    op.drop_column("browsers", "agent_session_id")
    op.drop_column("browsers", "labels")
