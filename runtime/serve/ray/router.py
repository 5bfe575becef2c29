"""Which replica gets a request: the one that its conversation belongs to, unless that is overrun.

Rendezvous hashing: every replica has a weight for every key, and a key belongs to the replica with
the largest. Routers agree on it without talking to each other or remembering anything, and a
replica that comes or goes moves only the keys that it gets or had.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

# How far above the replicas' mean load one may be before its keys go elsewhere.
_UNEVEN = 1.25


def in_order(key: str, loads: Mapping[str, int], places: int) -> list[str]:
    """Replicas in the order in which to try them; `loads` has each one's requests.

    A replica keeps its keys while one of its `places` (what it runs at a time) is free, and with
    none free anywhere while its load is about the others'. Past that its keys go to the next by
    weight, the same one for all requests of a key.
    """
    most = max(places, math.ceil(_UNEVEN * (sum(loads.values()) + 1) / max(1, len(loads))))
    ranked = sorted(loads, key=lambda replica: _weight(key, replica), reverse=True)
    return sorted(ranked, key=lambda replica: loads[replica] if loads[replica] >= most else -1)


def _weight(key: str, replica: str) -> bytes:
    return hashlib.blake2b(f"{key}/{replica}".encode(), digest_size=8).digest()


class PrefixRouter(RequestRouter):
    """Routes by the session id, for which the ingress gives the conversation's key.

    Requests without one go to the replica with the fewest.
    """

    def initialize_state(self, *, places: int) -> None:
        """`places` is how many sequences a replica runs at a time."""
        self._places = places

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Candidates in ranks: the first rank with room for the request gets it."""
        if pending_request is None or not pending_request.metadata.session_id:
            ranks = [list(candidate_replicas)]
        else:
            by_id = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
            loads = {name: self._load(replica) for name, replica in by_id.items()}
            key = pending_request.metadata.session_id
            ranks = [[by_id[name]] for name in in_order(key, loads, self._places)]
        if pending_request is not None:
            # Without it Ray asks again at once, and for ever, while all are full.
            pending_request.routing_context.should_backoff = True
        return ranks

    def _load(self, replica: RunningReplica) -> int:
        """The replica's requests as last heard; 0 of one not heard of for a while, which then tells
        with the request that it gets."""
        return self.replica_queue_len_cache.get(replica.replica_id) or 0
