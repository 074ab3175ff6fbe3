"""What users see of bad inputs: a table of cases, grouped by where they enter. `test_bad_inputs` runs all of them."""
