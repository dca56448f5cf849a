"""Kayako Classic: everything that knows its REST API.

``source`` implements the contract of :mod:`migrator.sources.base`. ``client`` makes the calls, over
``transport`` and ``connections``; ``signing`` signs them and hides keys. ``replies`` classifies
replies, ``outages`` sorts statuses and failed connections by what they mean for a run, ``lists``
and ``contents`` read documents, ``cleaning`` cleans their texts. ``walk`` goes through pages,
``listing`` lists all tickets, the recent ones or those with files, and ``tickets`` requests single
ones. ``articles`` reads what belongs to no ticket: the knowledge base and the troubleshooter.
"""
