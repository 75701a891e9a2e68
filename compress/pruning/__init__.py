"""Making trained networks narrower: what can be cut, what should be, and proof that it was."""

from compress.pruning.cut import check_cut, copy_cut, cut, cut_groups, masked, widths
from compress.pruning.depgraph import Pruned, prune_ratio, prune_to
from compress.pruning.factory import load_pruned, load_weights, open_factory, save_pruned
from compress.pruning.groups import Group, Member, find_groups
from compress.pruning.importance import IMPORTANCES, scores

__all__ = [
    "IMPORTANCES",
    "Group",
    "Member",
    "Pruned",
    "check_cut",
    "copy_cut",
    "cut",
    "cut_groups",
    "find_groups",
    "load_pruned",
    "load_weights",
    "masked",
    "open_factory",
    "prune_ratio",
    "prune_to",
    "save_pruned",
    "scores",
    "widths",
]
