"""The functions that mapping files of DTX name: what a table of columns cannot say. They register themselves here."""

from dtx_assets.machinery.mapping.functions import Functions

FUNCTIONS = Functions()
