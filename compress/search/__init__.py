"""Search: a study from its gates to its saved winner."""

from compress._callable import make_callable
from compress.search.config import SearchConfig
from compress.search.run import SearchResult, search

__all__ = ["SearchConfig", "SearchResult", "search"]

make_callable(__name__)
