"""What happens to a range, in order: plain functions over batches, without an orchestrator.

    planning   lists the source, cuts it into ranges, once, and stores the manifest
    manifest   what was planned, taken up again
    extract    reads a range as its store holds it and unpacks it
    filter     keeps the records that the migration takes
    transform  changes records on the way (passes them through for now)
    load       packs records for the target and writes them, acknowledged
    validate   reads them back, compares, and leaves a receipt
    report     proves the whole collection against the receipts

extract, filter, transform and load each map an iterator of batches to an iterator of batches.
"""
