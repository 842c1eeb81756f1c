"""``python -m rag_migration_pipeline.cli`` is ``rag-migrate``."""

from rag_migration_pipeline.cli.app import main

if __name__ == "__main__":
    main()
