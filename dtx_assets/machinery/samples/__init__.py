"""Samples of a system's legacy tables: plausible rows by what its declarations say, and ugly ones that break each rule.

`rows` writes columns as expressions over a row's position, `verdict` asks the mapping files of single values, `columns`
chooses what a column holds, `ugly` breaks it, `sample` writes it all. What no declaration says is in `sample.yaml`.
"""
