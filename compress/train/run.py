"""Training and scoring one network on a data set, from a user's words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.cost import cost
from compress.data import Dataset, cut_validation, open_data, resized
from compress.errors import CompressError, unknown
from compress.models import DepthNet, build, detachable, load, save, take_weights
from compress.models.pretrained import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    load_encoder_weights,
    pretrained_encoder,
)
from compress.models.shapes import identity
from compress.space import Genotype, parse_reference
from compress.train.device import default_device, threads_for
from compress.train.evaluate import Evaluation, Scorer
from compress.train.fit import Epoch, Trainer, centre
from compress.train.recipe import Recipe
from compress.train.size import fitted_size
from compress.train.teacher import Teacher

ENCODER_NORMS = {"half": (HALF, HALF), "imagenet": (IMAGENET_MEAN, IMAGENET_STD)}
PARTS = ("heldout", "validation")
Reading = Callable[[str], Callable[[int, int], None] | None]


@dataclass(frozen=True)
class Trained:
    """A trained network, where it was saved, and its figures on both parts.

    ``detached`` has the same of its smaller versions, by name, where decoders can be detached.
    """

    model: DepthNet
    path: Path | None
    validation: Evaluation
    heldout: Evaluation
    detached: dict[str, Trained] = field(default_factory=dict)


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


def classes_of(model: DepthNet | Genotype) -> int:
    """How many classes a network's segmentation head tells apart; 0 where it has none."""
    genotype = model if isinstance(model, Genotype) else model.genotype
    return int(genotype.spec.get("segmentation", 0))


def _opened(data: Dataset | str, options: dict[str, Any]) -> Dataset:
    return data if isinstance(data, Dataset) else open_data(data, **options)


def train(
    model: DepthNet | Genotype | str | Path,
    data: Dataset | str = "scenes",
    *,
    out: str | Path | None = None,
    size: tuple[int, int] | None = None,
    recipe: Recipe | Mapping[str, Any] | None = None,
    init: DepthNet | str | Path | None = None,
    encoder_weights: str | Path | None = None,
    encoder_norm: str = "half",
    teacher: DepthNet | str | Path | None = None,
    compensate: bool = False,
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
        out: where to save the result, as one safetensors file. A network whose decoders can be
            detached leaves its smaller versions beside it.
        size: network input (height, width); default: the model's, or one that fits the data.
        recipe: how to train; or some of a ``Recipe``'s fields, in place of its defaults and the
            data set's customs.
        init: a model whose weights a genotype starts from, where they fit: training goes on over
            another data set, or from a network that differs in some layers.
        encoder_weights: a file of encoder weights in timm's layout, or "pretrained" to have timm
            fetch its own.
        encoder_norm: what images the weights in that file expect: "half" (x / 127.5 - 1, as all
            networks here) or "imagenet" (mean and deviation of ImageNet, as most of timm's and
            torchvision's), which is folded into the first layers.
        teacher: a network to learn from beside the truth (distillation).
        compensate: first measure the teacher's mean error by distance, and take it out.
        epochs: where ``recipe`` does not say.
        checkpoint: where the state is kept after every epoch, and taken up again from.
        on_epoch: is told each epoch and given the averaged network.
        should_stop: asked before each step; ends training with ``StoppedError``.
        reading: is told what is read; returns a callback for (done, of), or None.

    Raises:
        CompressError: anything wrong with model, data or recipe.
    """
    told = reading or (lambda what: None)
    if encoder_norm not in ENCODER_NORMS:
        raise unknown("encoder norm", encoder_norm, ENCODER_NORMS)
    opened = open_model(model)
    chosen = {} if isinstance(recipe, Recipe) else {"epochs": epochs, **(recipe or {})}
    Recipe.from_dict(chosen, "training")  # a mistake shows before any image is read
    if isinstance(opened, DepthNet) and (init or encoder_weights):
        raise CompressError(
            f"{model}: a trained model starts from its own weights; give init or encoder weights "
            "with SPACE@REFERENCE or a genotype"
        )
    master = load(teacher) if isinstance(teacher, str | Path) else teacher
    joint = classes_of(opened) > 0
    dataset = _opened(data, data_options | ({"labels": True} if joint else {}))
    if dataset.train is None:
        raise CompressError(f"{dataset.name}: has no training list, only held-out frames")
    if not isinstance(recipe, Recipe):
        recipe = Recipe.for_data(dataset, chosen)
    frames, held = cut_validation(dataset.train, seed=recipe.seed)
    started: dict[str, Any] = {}
    if isinstance(opened, Genotype):
        size = size or fitted_size(dataset.train, opened.size)
        network = build(dataclasses.replace(opened, size=size), seed=recipe.seed)
    else:
        network = opened
        network.size = size = size or opened.size
    arrays = resized(frames, size, progress=told("training images"))
    if isinstance(opened, Genotype):
        centre(network, arrays, dataset.cap_m)
        started = _start(network, init, encoder_weights, encoder_norm)
    counted = cost(network, size)  # before training adds its intermediate heads
    taught = Teacher(master.to(default_device())) if master is not None else None
    if taught and compensate:
        taught = taught.compensated(arrays, dataset.cap_m)
    trainer = Trainer(
        network, arrays, recipe, dataset.cap_m, relative=dataset.relative, teacher=taught
    )
    state = Path(checkpoint) if checkpoint else None
    if state:
        trainer.load_state(state)

    def after(epoch: Epoch) -> None:
        if state:
            trainer.save_state(state)
        if on_epoch:
            on_epoch(epoch, trainer.averaged)

    with threads_for(counted.macs):
        trainer.run(None, after, should_stop)
    result = trainer.averaged
    smaller = detachable(result)
    result.drop_auxiliary()
    known = {"data": dataset.name, "epochs": recipe.epochs, "recipe": recipe.to_dict(), **started}
    if isinstance(opened, DepthNet) and "pruned" in opened.info:
        known["pruned"] = opened.info["pruned"]
    if master is not None:
        known["teacher"] = {"network": identity(master), "compensated": compensate}

    def finished(network: DepthNet, path: str | Path | None) -> Trained:
        size = network.size
        counted = cost(network, size)
        scorer = Scorer.of(dataset, held, "validation", size, progress=told("validation images"))
        validation = scorer(network)
        heldout = evaluate(network, dataset, size=size, reading=reading)
        network.info = known | {
            "params": counted.params,
            "macs": counted.macs,
            "validation": validation.to_dict(),
            "heldout": heldout.to_dict(),
        }
        return Trained(network, save(network, path) if path else None, validation, heldout)

    done = finished(result, out)
    for name, part in smaller.items():
        beside = Path(out).with_name(f"{Path(out).stem}-{name}.safetensors") if out else None
        done.detached[name] = finished(part, beside)
    if state:
        state.unlink(missing_ok=True)
    return done


def _start(
    network: DepthNet,
    init: DepthNet | str | Path | None,
    encoder_weights: str | Path | None,
    encoder_norm: str,
) -> dict[str, Any]:
    """Put given weights into a fresh network; what was done, for the model's header."""
    started: dict[str, Any] = {}
    if init is not None:
        source = load(init) if isinstance(init, str | Path) else init
        taken = take_weights(network, source)
        started["init"] = {"network": identity(source), **taken}
    if encoder_weights is not None:
        if str(encoder_weights) == "pretrained":
            loaded = pretrained_encoder(network)
        else:
            mean, std = ENCODER_NORMS[encoder_norm]
            loaded = load_encoder_weights(network, Path(encoder_weights), mean=mean, std=std)
        started["encoder_weights"] = loaded.describe()
    return started


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
    joint = classes_of(network) > 0
    dataset = _opened(data, data_options | ({"labels": True} if joint else {}))
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
