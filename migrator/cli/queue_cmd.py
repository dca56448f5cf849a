"""``migrator queue``: the queues that stand for Kayako's departments."""

from __future__ import annotations

import click

from migrator.cli._common import ID, App, note, open_beside, pass_app, print_table
from migrator.errors import ConfigError


@click.group()
def queue() -> None:
    """Name the Tickiti queues that stand for Kayako's departments.

    A department without a queue keeps its own id and title. What [tickiti.queues] in the
    configuration says wins over `queue map`.
    """


@queue.command("list")
@pass_app
def list_(app: App) -> None:
    """List all departments with their queues."""
    _, archive = open_beside(app)
    with archive:
        rows = [
            (str(q.department_id), q.title, str(q.queue_id), q.name, f"{q.tickets:,}")
            for q in archive.access.queues()
        ]
    print_table(("DEPARTMENT", "TITLE", "QUEUE", "NAME", "TICKETS"), rows)


@queue.command("map")
@click.argument("department", type=ID)
@click.option("--id", "queue_id", type=ID, required=True, help="Id of the queue.")
@click.option("--name", required=True, help="Name of the queue.")
@pass_app
def map_(app: App, department: int, queue_id: int, name: str) -> None:
    """Let a queue stand for DEPARTMENT, a department id of Kayako.

    \b
    Example:
      migrator queue map 3 --id 12 --name Sales
    """
    if not name.strip() or not name.isprintable():
        raise click.BadParameter("must be one line of text", param_hint="--name")
    _refuse_configured(app, department)
    _, archive = open_beside(app)
    with archive:
        archive.access.map_queue(department, queue_id, name.strip())
    note(f"Department {department} is queue {queue_id}, {name.strip()}.")


@queue.command()
@click.argument("department", type=ID)
@pass_app
def unmap(app: App, department: int) -> None:
    """Let DEPARTMENT keep its own id and title again."""
    _refuse_configured(app, department)
    _, archive = open_beside(app)
    with archive:
        if not archive.access.unmap_queue(department):
            raise ConfigError(f"Department {department} has no queue; `migrator queue list`.")
    note(f"Department {department} keeps its own id and title.")


def _refuse_configured(app: App, department: int) -> None:
    config = app.load(need_source=False)
    if department in config.tickiti.queues:
        raise ConfigError(
            f"{config.path} maps department {department} in [tickiti.queues], and it wins. "
            "Change it there."
        )
