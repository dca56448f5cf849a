"""The pull: every attachment of a source into an archive. It names no helpdesk and no store.

One attachment passes through seven records, each for another part of the program:

- ``sources.base.Attachment``: a row of a list, in the words of the source.
- ``archive.Listed``: the same as the ledger writes it; the archive knows no source.
- ``archive.Recorded``: the result of recording a list, above all what is to be fetched.
- ``archive.Work``: one that is to be fetched, with what the ledger knows of it, also from earlier
  runs: so leftovers, repairs and audits need no list.
- ``sources.base.Contents``: what the reply said, without the bytes; a sink gets it at the end.
- ``sources.base.Fetched``: the contents with the sink that got the bytes and the tries it took.
- ``archive.Outcome``: what became of it, which is recorded after a fetch.

:mod:`~migrator.pull.run` opens a run, hands the workers to the source's listing, and closes the
run. :mod:`~migrator.pull.workers` list and fetch side by side; :mod:`~migrator.pull.fetch` decides
whether bytes are accepted; :mod:`~migrator.pull.recorder` writes the checkpoint, many operations to
a transaction; :mod:`~migrator.pull.reconcile` asks for what no list named.
"""
