"""The command ``rag-migrate``: the engine, the plan, verification and upkeep from a shell.

app.py          the commands with their own options
commands.py     what they do
launching.py    what they do with a running Dagster: launch, status --dagster
following.py    a run of Dagster as its events tell it
session.py      one call: what it is about, where it prints, how errors become exit codes
exit_codes.py   the codes and their meanings
table.py        one entry per option of a migration
signatures.py   Typer options made of the table
merging.py      flag over environment over file; what is shown of the result
showing.py      tables, JSON and YAML on standard output; everything else on standard error
dagster_client.py   Dagster's webserver, asked through GraphQL
instance_status.py  how far a migration is, as an instance of Dagster knows it
template.py     the commented file of ``init``
"""
