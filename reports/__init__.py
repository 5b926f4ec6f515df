"""The report, and the tables of README.md and docs/: all they say is computed from records and the files beside them.

runs         which records there are, which of them belong together, what they are called
comparisons  what took turns in benchmarks, repeats pooled
galaxies, quality, labels: the sections of report.html
frameworks, conformance, agreement: those of comparison.html
rosetta      the three implementations side by side; reasons says why they differ
html, charts, numbers: tables and pages, drawings, numbers in words
report       the task `report`, which writes the pages
publish      records into the repository
readme       the tables of README.md and docs/, by conclusions, examples, label_curves, pairs, posteriors, row, savings
"""
