"""Let each fault of a schedule strike, and end it when its time is over.

`begin` lets a fault strike and returns how it ends. Both return at once: what takes its time, like the restart of a
server, is waited for by whoever needs it.
"""

import os
import signal
import time
from collections.abc import Callable

import psycopg
from psycopg import sql

from adapters.postgres import Connection, read_queries
from deploy.runtime.restart import EXIT_RESUME
from tests.chaos.ended import Ended
from tests.chaos.faults import Fault, Strike
from tests.chaos.lab import Lab, Server, state_of
from tests.chaos.orders import Order

End = Callable[[], str]
"""Ends a fault, and says in a few words what it did; raises `Missed` if that is nothing, `NotYet` to be asked again."""

HELD_WRITING_S = 12.0
"""How long a worker is held in the middle of a write at least: another has taken over after its session of 6 s, and has
written since."""
TAKEOVER_PATIENCE_S = 60.0
"""How long another may take to own the partitions, from when the broker works: without it no group gives them away."""
SPOOL_PATIENCE_S = 45.0
"""How long a gateway may take to come to a step of its spool, or to fill it, beyond the time of the outage."""
WRITING_PATIENCE_S = 120.0
"""How long the workers of a service may take to come to a step of a write, which is a second or so: they may be without
their server meanwhile, one after the other, and have to be started again."""


class Missed(Exception):
    """The fault found no victim, or struck without effect: it does not count."""


class Failed(Exception):
    """A worker ended otherwise than workers may: not asked to, and not to be started again."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.line)
        self.ended = ended


class NotYet(Exception):
    """The fault has not had its effect yet."""


class Injector:
    """Knows for each fault how it strikes."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._queries = read_queries("tests.chaos", "faults.sql")
        self._ways: dict[Fault, Callable[[Strike], End]] = {
            Fault.KILLED: self._kill,
            Fault.FROZEN: self._freeze,
            Fault.OUTLIVED: self._freeze,
            Fault.FROZEN_WRITING: self._freeze_writing,
            Fault.KILLED_WRITING: self._kill_writing,
            Fault.JOINS: lambda strike: self._join(strike),
            Fault.SECOND_OWNER: lambda strike: self._join(strike, "--second-owner"),
            Fault.RECORD_FAILS: lambda strike: self._join(strike, "--lossy"),
            Fault.CLOCK_JUMPS: lambda strike: self._join(strike, "--clock"),
            Fault.KILLED_SPOOLING: self._kill_at_spool_step,
            Fault.KILLED_REPLAYING: self._kill_at_spool_step,
            Fault.KILLED_FULL: self._kill_full,
            Fault.BROKER_KILLED: lambda _: self._take_away(lab.broker, signal.SIGKILL),
            Fault.BROKER_AWAY: lambda _: self._take_away(lab.broker, signal.SIGTERM),
            Fault.BROKER_HANGS: self._hang_broker,
            # Postgres: SIGQUIT is an immediate shutdown, SIGINT a fast one
            Fault.DATABASE_CRASHES: lambda _: self._take_away(lab.database, signal.SIGQUIT),
            Fault.DATABASE_AWAY: lambda _: self._take_away(lab.database, signal.SIGINT),
            Fault.CONNECTIONS_ENDED: self._end_connections,
            Fault.PARTITION_LOCKED: lambda _: self._lock("latest_partition", "lock_partition"),
            Fault.OFFSETS_LOCKED: lambda _: self._lock("lock_offsets"),
            Fault.READ_ONLY: self._refuse_writes,
            Fault.DISK_FULL: self._fill_disk,
        }

    def begin(self, strike: Strike) -> End:
        """Let a fault strike.

        Raises:
            Missed: it cannot now.
        """
        try:
            return self._ways[strike.fault](strike)
        except psycopg.Error as error:
            raise Missed(" ".join(str(error).split())) from error

    # --- processes

    def _kill(self, strike: Strike) -> End:
        pid = self._victim(strike)
        os.kill(pid, signal.SIGKILL)
        return lambda: f"pid {pid}"

    def _freeze(self, strike: Strike) -> End:
        pid = self._victim(strike)
        os.kill(pid, signal.SIGSTOP)
        return lambda: self._thaw(pid)

    def _thaw(self, pid: int) -> str:
        if state_of(pid) != "T" or not self._lab.owns(pid):
            return f"pid {pid}, ended meanwhile"
        os.kill(pid, signal.SIGCONT)
        return f"pid {pid}"

    def _victim(self, strike: Strike) -> int:
        """Return the process that was drawn, or another of its service if it does not run now."""
        pids = {name: pid for name, pid in self._lab.pids().items() if state_of(pid) != "T"}
        alike = (pid for name, pid in sorted(pids.items()) if name.partition("-")[0] == strike.role)
        pid = pids.get(strike.victim) or next(alike, None)
        if pid is None:
            raise Missed(f"no {strike.role} runs now")
        return pid

    # --- processes, at a step of their write

    def _kill_writing(self, strike: Strike) -> End:
        order = self._lab.orders.give(strike.role, strike.victim, signal.SIGKILL)
        ends_at = time.monotonic() + WRITING_PATIENCE_S
        return lambda: f"pid {self._taken(order, strike, ends_at)} at {strike.victim}"

    def _freeze_writing(self, strike: Strike) -> End:
        order = self._lab.orders.give(strike.role, strike.victim, signal.SIGSTOP)
        ends_at = time.monotonic() + WRITING_PATIENCE_S
        frozen_at = given_up_at = 0.0

        def end() -> str:
            nonlocal frozen_at, given_up_at
            pid, now, broker_works = self._taken(order, strike, ends_at), time.monotonic(), self._lab.broker.works
            frozen_at = frozen_at or now
            if not given_up_at or not broker_works:
                given_up_at = now + TAKEOVER_PATIENCE_S
            is_held = now < frozen_at + HELD_WRITING_S
            is_replaced = not is_held and broker_works and self._lab.groups.are_without(strike.role, pid)
            if not is_replaced and now < given_up_at and self._lab.is_up():
                raise NotYet
            # it goes on with its write, which is done or refused
            said = f"{self._thaw(pid)} at {strike.victim} for {now - frozen_at:.0f} s"
            if not is_replaced:
                raise Missed(f"{said}, and no other took over")
            return said

        return end

    def _taken(self, order: Order, strike: Strike, ends_at: float) -> int:
        """Return the pid of the process that took an order; `ends_at` is when it is withdrawn.

        Raises:
            NotYet, Missed: none did.
        """
        pid = order.taken_by
        if pid is not None:
            return pid
        if (time.monotonic() < ends_at and self._lab.is_up()) or not order.withdraw():
            raise NotYet
        raise Missed(f"{strike.victim} did not come")

    # --- workers of our own

    def _join(self, strike: Strike, *arguments: str) -> End:
        beside = self._lab.start_beside(strike.role, arguments)

        def leave() -> str:
            if beside.process.poll() is None:
                beside.process.terminate()
                return "left"
            if beside.process.returncode not in (0, EXIT_RESUME):
                raise Failed(beside.ended(f"one that {strike.fault}"))
            return f"ended with {beside.process.returncode}"

        return leave

    # --- the gateway's spool, which is used while the broker is away

    def _kill_at_spool_step(self, strike: Strike) -> End:
        order = self._lab.orders.give(strike.role, strike.victim, signal.SIGKILL)
        bring_back = self._take_away(self._lab.broker, signal.SIGTERM)
        back_at: list[float] = []

        def end() -> str:
            if not back_at:
                bring_back()
                back_at.append(time.monotonic())
            return f"pid {self._taken(order, strike, back_at[0] + SPOOL_PATIENCE_S)} at {strike.victim}"

        return end

    def _kill_full(self, strike: Strike) -> End:
        spool = self._lab.spool
        bring_back = self._take_away(self._lab.broker, signal.SIGTERM)
        ends_at = time.monotonic() + strike.lasts_s + SPOOL_PATIENCE_S

        def end() -> str:
            size, pid = spool.size, self._lab.pids().get(strike.victim)
            is_ready = spool.is_full and pid is not None
            if not is_ready and time.monotonic() < ends_at:
                raise NotYet
            if is_ready and pid is not None:
                os.kill(pid, signal.SIGKILL)
            bring_back()
            if not is_ready:
                raise Missed(f"{size} bytes of events on disk, which is not full")
            return f"pid {pid}, {size} bytes of events on disk"

        return end

    # --- the broker

    def _take_away(self, server: Server, number: signal.Signals) -> End:
        server.send(number)

        def bring_back() -> str:
            server.end(number)
            server.start()
            return "started again"

        return bring_back

    def _hang_broker(self, _strike: Strike) -> End:
        self._lab.broker.send(signal.SIGSTOP)

        def thaw() -> str:
            self._lab.broker.send(signal.SIGCONT)
            return "goes on"

        return thaw

    # --- the database

    def _end_connections(self, _strike: Strike) -> End:
        with self._lab.connect() as connection:
            ended = connection.execute(self._queries["end_connections"]).rowcount
        return lambda: f"{ended} connections"

    def _lock(self, *names: str) -> End:
        connection = self._lab.connect()
        try:
            connection.execute("BEGIN")
            said = self._locked(connection, *names)
        except BaseException:
            connection.close()
            raise

        def release() -> str:
            connection.close()
            return said

        return release

    def _locked(self, connection: Connection, first: str, then: str | None = None) -> str:
        row = connection.execute(self._queries[first]).fetchone()
        if row is None:
            raise Missed("there is nothing to lock yet")
        if then is not None:
            connection.execute(sql.SQL(self._queries[then].decode()).format(sql.Identifier(*row)))
        return " ".join(map(str, row))

    def _refuse_writes(self, _strike: Strike) -> End:
        self._set_read_only("on")

        def allow() -> str:
            self._set_read_only("off")
            return "writes again"

        return allow

    def _set_read_only(self, value: str) -> None:
        with self._lab.connect() as connection:
            connection.execute(
                sql.SQL("ALTER SYSTEM SET default_transaction_read_only = {}").format(sql.Literal(value))
            )
            connection.execute("SELECT pg_reload_conf()")

    def _fill_disk(self, strike: Strike) -> End:
        table = sql.Identifier("public", strike.victim)
        with self._lab.connect() as connection:
            connection.execute(self._queries["make_disk_full"])
            connection.execute(sql.SQL(self._queries["fill_disk"].decode()).format(table))

        def free() -> str:
            with self._lab.connect() as connection:
                connection.execute(sql.SQL(self._queries["free_disk"].decode()).format(table))
            return strike.victim

        return free
