"""Why deletion and repair are held back now. The rules are in `garbage.safe_modes`; this gathers their facts."""

from dfs.protocol.clock import Clock
from dfs_namenode.garbage import safe_modes
from dfs_namenode.liveness import Liveness
from dfs_namenode.store import meta, replicas
from dfs_namenode.store.sqlite import SqliteStore


class Safety:
    """Asked by every duty before each turn, and by status."""

    def __init__(self, store: SqliteStore, liveness: Liveness, clock: Clock, *, settle_s: float) -> None:
        self._store = store
        self._liveness = liveness
        self._clock = clock
        self._settle_s = settle_s
        # A new cluster has nothing that could be misjudged.
        self._settled = not liveness.view().datanodes
        self._complete_s: float | None = None

    def modes(self) -> list[str]:
        """Sentences; empty: nothing is held back."""
        view = self._liveness.view()
        unheard = self._liveness.unheard()
        if not self._settled and not unheard:
            now_s = self._clock.monotonic_s()
            if self._complete_s is None:
                self._complete_s = now_s
            self._settled = now_s - self._complete_s >= self._settle_s
        # Those that are gone for good must not hold the living back for ever, nor those that had nothing to lose.
        given_up = self._liveness.given_up()
        retired = {node.id for node in view.datanodes.values() if node.admin_state == "decommissioned"} | given_up
        waited_for = [node for node in view.dead() if node.id not in retired]
        with self._store.read() as snapshot:
            latched = meta.latch(snapshot) is not None
            by_operator = meta.safe_mode(snapshot)
            missed = [node for node in waited_for if replicas.has_any(snapshot, node.num)]
        return safe_modes(
            known=len(view.datanodes) - len(retired) - (len(waited_for) - len(missed)),
            unheard=unheard,
            dead=sum(node.admin_state != "maintenance" for node in missed),
            settled=self._settled,
            latched=latched,
            by_operator=by_operator,
        )
