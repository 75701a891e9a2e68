"""Training and scoring one network on a data set, from a user's words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.cost import cost
from compress.data import Dataset, cut_validation, open_data, resized
from compress.errors import CompressError, unknown
from compress.models import DepthNet, build, load, save
from compress.space import Genotype, parse_reference
from compress.train.device import default_device, threads_for
from compress.train.evaluate import Evaluation, Scorer
from compress.train.fit import Epoch, Trainer, centre
from compress.train.recipe import Recipe
from compress.train.size import fitted_size

PARTS = ("heldout", "validation")
Reading = Callable[[str], Callable[[int, int], None] | None]


@dataclass(frozen=True)
class Trained:
    """A trained network, where it was saved, and its figures on both parts."""

    model: DepthNet
    path: Path | None
    validation: Evaluation
    heldout: Evaluation


def open_model(model: DepthNet | Genotype | str | Path) -> DepthNet | Genotype:
    """Open what a user names: a model file, ``SPACE@REFERENCE`` or a genotype's ``.json``."""
    if isinstance(model, DepthNet | Genotype):
        return model
    text = str(model)
    if text.endswith(".json"):
        return Genotype.read(text)
    if "@" in text and not Path(text).exists():
        return parse_reference(text)
    return load(text)


def _opened(data: Dataset | str, options: dict[str, Any]) -> Dataset:
    return data if isinstance(data, Dataset) else open_data(data, **options)


def train(
    model: DepthNet | Genotype | str | Path,
    data: Dataset | str = "scenes",
    *,
    out: str | Path | None = None,
    size: tuple[int, int] | None = None,
    recipe: Recipe | Mapping[str, Any] | None = None,
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Epoch, DepthNet], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    reading: Reading | None = None,
    epochs: int = 30,
    **data_options: Any,
) -> Trained:
    """Train a network, score it on the validation part and once on the held-out list.

    The validation part is cut from the training list as ``search`` cuts it. A genotype starts from
    fresh weights, a model from its own.

    Args:
        model: a network, a genotype, a model file, ``SPACE@REFERENCE`` or a genotype's JSON file.
        data: as ``open_data`` takes it; ``data_options`` are its options.
        out: where to save the result, as one safetensors file.
        size: network input (height, width); default: the model's, or one that fits the data.
        recipe: how to train; or some of a ``Recipe``'s fields, in place of its defaults and the
            data set's customs.
        epochs: where ``recipe`` does not say.
        checkpoint: where the state is kept after every epoch, and taken up again from.
        on_epoch: is told each epoch and given the averaged network.
        should_stop: asked before each step; ends training with ``StoppedError``.
        reading: is told what is read; returns a callback for (done, of), or None.

    Raises:
        CompressError: anything wrong with model, data or recipe.
    """
    told = reading or (lambda what: None)
    opened = open_model(model)
    chosen = {} if isinstance(recipe, Recipe) else {"epochs": epochs, **(recipe or {})}
    Recipe.from_dict(chosen, "training")  # a mistake shows before any image is read
    dataset = _opened(data, data_options)
    if dataset.train is None:
        raise CompressError(f"{dataset.name}: has no training list, only held-out frames")
    if not isinstance(recipe, Recipe):
        recipe = Recipe.for_data(dataset, chosen)
    frames, held = cut_validation(dataset.train, seed=recipe.seed)
    if isinstance(opened, Genotype):
        size = size or fitted_size(dataset.train, opened.size)
        network = build(dataclasses.replace(opened, size=size), seed=recipe.seed)
    else:
        network = opened
        network.size = size = size or opened.size
    arrays = resized(frames, size, progress=told("training images"))
    if isinstance(opened, Genotype):
        centre(network, arrays, dataset.cap_m)
    trainer = Trainer(network, arrays, recipe, dataset.cap_m)
    state = Path(checkpoint) if checkpoint else None
    if state:
        trainer.load_state(state)

    def after(epoch: Epoch) -> None:
        if state:
            trainer.save_state(state)
        if on_epoch:
            on_epoch(epoch, trainer.averaged)

    counted = cost(network, size)
    with threads_for(counted.macs):
        trainer.run(None, after, should_stop)
    result = trainer.averaged
    scorer = Scorer.of(dataset, held, "validation", size, progress=told("validation images"))
    validation = scorer(result)
    heldout = evaluate(result, dataset, size=size, reading=reading)
    result.info = {
        "data": dataset.name,
        "params": counted.params,
        "macs": counted.macs,
        "epochs": recipe.epochs,
        "recipe": recipe.to_dict(),
        "validation": validation.to_dict(),
        "heldout": heldout.to_dict(),
    }
    path = save(result, out) if out else None
    if state:
        state.unlink(missing_ok=True)
    return Trained(result, path, validation, heldout)


def evaluate(
    model: DepthNet | str | Path,
    data: Dataset | str = "scenes",
    *,
    part: str = "heldout",
    size: tuple[int, int] | None = None,
    crop: str | None = None,
    flip_average: bool = False,
    averaging: str = "per-image",
    alignment: str = "none",
    seed: int = 0,
    reading: Reading | None = None,
    **data_options: Any,
) -> Evaluation:
    """Score a network under the data set's protocol, or one changed as asked.

    Args:
        model: a network or a model file.
        data: as ``open_data`` takes it; ``data_options`` are its options.
        part: "heldout", or "validation" for the part that ``search`` and ``train`` cut off with
            the same ``seed``.
        size: network input (height, width); default: the model's own.
        crop: a name of ``compress.metrics.CROPS``; default: the data set's custom.
        flip_average: average with the prediction of the mirrored image.
        averaging: "per-image" or "pooled".
        alignment: "none" or "median".
        reading: is told what is read; returns a callback for (done, of), or None.

    Returns:
        metrics, as in ``evaluation["delta1"]``, and the protocol they were taken under.
    """
    told = reading or (lambda what: None)
    network = open_model(model)
    if isinstance(network, Genotype):
        raise CompressError(f"{model}: a genotype has no weights to evaluate; train it first")
    dataset = _opened(data, data_options)
    frames = dataset.heldout
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    if part == "validation":
        if dataset.train is None:
            raise CompressError(f"{dataset.name}: has no training list to cut a validation part of")
        frames = cut_validation(dataset.train, seed=seed)[1]
    scorer = Scorer.of(
        dataset,
        frames,
        part,
        size or network.size,
        crop=crop,
        flip_average=flip_average,
        averaging=averaging,
        alignment=alignment,
        progress=told(f"{part} images"),
    )
    return scorer(network.to(default_device()), progress=told("predictions"))
