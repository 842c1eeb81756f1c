"""A Qdrant server for tests: the vendor's engine and wire formats behind real gRPC and REST sockets.

No Qdrant server can be installed from a package index, but its engine can (qdrant-edge-py), and the client ships the
generated gRPC servicers and the REST models. This package joins the three, so that the vendor's unmodified client talks
to it as to a server, and adds what a real server lacks: faults on command and counts of requests.

Reading order: ``double`` (what tests use) -> ``__main__`` (the process) -> ``grpc_api`` and ``rest_api`` (the doors)
-> ``points`` (what an operation does) -> ``registry`` (collections on disk) -> ``engine`` (models to engine objects).
``refusals`` says no in the server's words; ``faults`` breaks things; ``settings`` fills in the server's defaults.

Not served, and answered with UNIMPLEMENTED / 501: snapshots, cluster and shard keys, strict mode, recommend, discover,
groups, distance matrices, formula and feedback queries, inference, the slice condition. Quantisation and HNSW settings
are recorded and returned, but nothing is optimised in the background, so a search is exact.
"""

from rag_migration_pipeline_tests.servers.qdrant_double.double import QdrantDouble

__all__ = ["QdrantDouble"]
