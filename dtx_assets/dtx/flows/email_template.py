"""letter → EmailTemplate (Area 8 decision 4): one template for each language that a letter is written in."""

import polars as pl

from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.machinery.system.flow import FlowInputs


@FUNCTIONS.register
def bilingual_rows(letters: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row for each language a letter is written in: `:language` bilingual is `es`, or `en` and `es`."""
    both = ["en", "es"] if inputs.decision("bilingual_letters") == "both_languages" else ["es"]
    languages = pl.when(pl.col(":language") == "bilingual").then(pl.lit(both)).otherwise(pl.concat_list(":language"))
    return letters.with_columns(languages.alias(":language")).explode(":language")
