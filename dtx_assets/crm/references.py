"""What the new system has already: users whom others made, and ids that earlier loads gave."""

import polars as pl

from dtx_assets.machinery.look_ups.assets import MappingContext, References
from dtx_assets.machinery.transforms.document_values import GIVEN

REFERENCES = References("core_entities")


@REFERENCES.register(("target", "Users"))
def existing_users(context: MappingContext) -> pl.LazyFrame:
    """The users of the new system whom this migration did not make: its team may have started.

    Frame: all columns of `Users`, as text.
    """
    return context.rows_of_others("Users")


@REFERENCES.register(("target", "Users"), is_crosswalk=True)
def given_ids(context: MappingContext) -> pl.LazyFrame:
    """The random ids that earlier loads gave; none where ids are a function of the ObjectId.

    Frame: GIVEN.
    """
    return context.given_keys() if context.chosen["ids"] == "uuid_v4" else pl.LazyFrame(schema=GIVEN)
