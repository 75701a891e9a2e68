"""Search spaces, genotypes and their closed-form size; nothing here needs torch."""

from compress.space.families import FAMILIES, Family, family
from compress.space.genotype import Genotype, input_size
from compress.space.load import load_space, parse_reference, shipped, space_from_dict, space_names
from compress.space.operators import Operator, Totals, totals
from compress.space.space import Reference, SearchSpace

__all__ = [
    "FAMILIES",
    "Family",
    "Genotype",
    "Operator",
    "Reference",
    "SearchSpace",
    "Totals",
    "family",
    "input_size",
    "load_space",
    "parse_reference",
    "shipped",
    "space_from_dict",
    "space_names",
    "totals",
]
