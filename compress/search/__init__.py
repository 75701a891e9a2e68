"""Search: a study from its gates to its saved winner."""

from compress._callable import make_callable
from compress.search.bench import Bench, load_bench
from compress.search.config import SearchConfig
from compress.search.run import SearchResult, search

__all__ = ["Bench", "SearchConfig", "SearchResult", "load_bench", "search"]

make_callable(__name__)
