"""What a network costs: parameters and multiply-adds."""

from compress.cost.count import Cost, cost, operators

__all__ = ["Cost", "cost", "operators"]
