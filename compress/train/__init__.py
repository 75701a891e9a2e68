"""Training and evaluating networks."""

from compress._callable import make_callable
from compress.train.evaluate import Evaluation, Scorer, predict
from compress.train.fit import DivergedError, Epoch, StoppedError, Trainer
from compress.train.recipe import Recipe
from compress.train.run import Trained, evaluate, open_model, train

__all__ = [
    "DivergedError",
    "Epoch",
    "Evaluation",
    "Recipe",
    "Scorer",
    "StoppedError",
    "Trained",
    "Trainer",
    "evaluate",
    "open_model",
    "predict",
    "train",
]

make_callable(__name__)
