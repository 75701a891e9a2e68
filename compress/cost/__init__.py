"""What a network costs: parameters and multiply-adds counted, latency and energy measured."""

from compress._callable import make_callable
from compress.cost.count import Cost, cost, operators
from compress.cost.latency import Comparison, Latency, compare_latency, measure_latency

__all__ = [
    "Comparison",
    "Cost",
    "Latency",
    "compare_latency",
    "cost",
    "measure_latency",
    "operators",
]

make_callable(__name__)
