"""What a network costs: parameters and multiply-adds."""

from compress._callable import make_callable
from compress.cost.count import Cost, cost, operators

__all__ = ["Cost", "cost", "operators"]

make_callable(__name__)
