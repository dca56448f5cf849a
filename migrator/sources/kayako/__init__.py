"""Kayako Classic: everything that knows its REST API.

``source`` is the door: it keeps the contract of :mod:`migrator.sources.base`. ``client`` makes the
calls, over ``transport`` and ``connections``; ``signing`` signs them and hides keys. ``replies``
tells what a reply is, ``lists`` and ``contents`` read it, ``cleaning`` makes it fit to be kept.
``walk`` goes through pages, ``listing`` meets all tickets, the recent ones or those with files, and
``tickets`` asks for single ones.
"""
