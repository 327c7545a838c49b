"""What keeps a database from being copied on its server and swapped, asked before anybody notices anything."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.config.login import Login
from migrator.plans.obstacles import Obstacle
from migrator.postgres import disk
from migrator.postgres import obstacles as swap_obstacles
from migrator.postgres.connect import ServerInfo
from migrator.postgres.session import Session

_REMEDY = "mend it, or take another way: way = 'stepwise'"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The database that would be copied, and how it is reached."""

    admin: Session
    login: Login  # to the database itself
    server: ServerInfo
    copies: int = 1  # of the database that have to fit beside it


def hindrances(target: Target, *, maintenance: str, by_itself: bool) -> list[Obstacle]:
    """Everything that is in the way; empty where the database can be copied and swapped.

    `by_itself`: nobody asked for a copy outright, so room that is not known counts as none.
    Raises: StepFailed.
    """
    if maintenance != "offline":
        return [
            Obstacle(
                what=f"maintenance.database is {maintenance}, and a swap would lose what others write meanwhile",
                remedy="set maintenance.database = 'offline'",
            )
        ]
    database = target.login.database
    found = [Obstacle(what=one, remedy=_REMEDY) for one in swap_obstacles.to_swap(target.admin, database)]
    needed = disk.size_bytes(target.admin, database) * target.copies
    free = disk.free_bytes(target.admin, database, login=target.login, server=target.server)
    if free is None and by_itself:
        found.append(
            Obstacle(
                what="the free disk of the server is not known",
                remedy=f"see that {needed / 1e6:.0f} MB are free there, and set way = 'bluegreen'",
            )
        )
    if free is not None and free < needed:
        found.append(
            Obstacle(
                what=f"the server has {free / 1e6:.0f} MB free, and the copy needs {needed / 1e6:.0f} MB",
                remedy="make room on the server, or take another way: way = 'stepwise'",
            )
        )
    return found
