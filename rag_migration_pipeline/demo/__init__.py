"""The demo: a real collection on the way Chroma -> Qdrant -> Milvus -> Chroma, and the proof that it came home.

Belongs here: the built-in corpus (``corpus``), its local embedding (``embedding``), filling an embedded Chroma with
both (``fill``), the comparison of what left with what came home (``compare``), and the command that runs the three
migrations. Does not belong here: anything that a migration needs; the pipeline never imports the demo.

``compare`` imports nothing of this project, on purpose: a proof that shares code with what it proves shares its bugs.
"""
