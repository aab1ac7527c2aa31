"""The table of compatibility: each documented name of Celery, and what has become of it in Umbel.

``names`` reads the lists of documented names (facts: name, kind, parameters, default), ``places`` finds each in Umbel,
``parameters`` compares how it is called, ``modules`` and ``surfaces`` judge, with the reasons of ``differences.txt``
for what is missing, and ``page`` writes ``docs/reference/celery-compatibility.md``. A test writes the page again and
compares, so nothing is called implemented that cannot be found where a Celery project looks for it.
"""
