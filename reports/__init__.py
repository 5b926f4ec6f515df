"""The report: all it says is computed from records, the files beside them, and their stores.

runs      which records there are, which of them belong together
blocks    what a report is made of: prose, tables, figures, galleries
answer, errors, learning, timings, agreement, pictures    the sections
figures   every drawing, as SVG
pages     the two pages, made from the same sections
report    the door
"""
