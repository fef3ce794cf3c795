"""A cluster of two nodes with one CPU each. The head node has Ray's HTTP proxy; tests may kill the second."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class TwoNodes:
    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        # a loopback address for each node; not 127.0.0.1, which Ray replaces with the machine's own address
        node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 2**27, "node_ip_address": "127.0.0.2"}
        self._node = {**node, "node_ip_address": "127.0.0.3"}
        self._cluster = Cluster(
            initialize_head=True, shutdown_at_exit=True, head_node_args={**node, "include_dashboard": False}
        )
        self.second: Any = None
        self.add_second()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def second_id(self) -> str:
        return str(self.second.node_id)

    @property
    def logs(self) -> Path:
        """Log files of Ray and its workers."""
        return Path(self._cluster.head_node.get_session_dir_path()) / "logs"

    def add_second(self) -> None:
        self.second = self._cluster.add_node(**self._node)

    def kill_second(self) -> None:
        """SIGKILL for the node's raylet, and with it its workers."""
        self._cluster.remove_node(self.second, allow_graceful=False)

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture
def two_nodes() -> Iterator[TwoNodes]:
    pytest.importorskip("ray", reason="Ray is not installed here: make ray-test")
    cluster = TwoNodes()
    try:
        yield cluster
    finally:
        cluster.stop()
