"""The report: all it says is computed from records, the files beside them, and their stores.

runs         which records there are, which of them belong together
comparisons  the rows of benchmarks, which of them took turns
blocks       what a report is made of: prose, tables, figures, galleries
summary, conformance, agreement, speed (with against), scaling, memory, costs, timings, learning (with saved), errors,
             calibration, pictures, extras: the sections; provenance: what ran, and where each table and figure is from
charts       plots written out as SVG; figures names their colours, and has matplotlib for the odd ones
numbers      every number as CSV
pages        the pages, made from the same sections
report       the task `report`: reads the records and writes the pages
"""
