"""Scoring: the figures are those of an independent computation under the same protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from compress.data import open_data
from compress.errors import CompressError
from compress.metrics import crop_mask
from compress.models import build, save
from compress.space import load_space
from compress.train import Scorer, evaluate, predict, train
from compress.train.images import read_image, write_depth, write_preview
from compress.train.size import fitted_size


@pytest.fixture(scope="module")
def model(tiny_space):
    return build(load_space(tiny_space).sample(3), seed=0).eval()


def by_hand(model, frames, *, flip=False, crop="none", cap_m=10.0):
    """d1 and RMSE of each image, with PIL and plain torch."""
    rows = []
    for sample in frames:
        height, width = model.size
        small = Image.fromarray(sample.rgb).resize((width, height), Image.Resampling.BILINEAR)
        x = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            depth = model(x)
            if flip:
                depth = (depth + model(x.flip(-1)).flip(-1)) / 2
        depth = F.interpolate(depth, sample.depth_m.shape, mode="bilinear", align_corners=False)
        pred, true = depth[0, 0].numpy().astype(np.float64), sample.depth_m
        ok = (true > 1e-3) & (true < cap_m) & crop_mask(crop, true.shape)
        p, t = pred[ok].clip(1e-3, cap_m), true[ok]
        rows.append([(np.maximum(p / t, t / p) < 1.25).mean(), np.sqrt(((p - t) ** 2).mean())])
    return np.mean(rows, axis=0)


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"crop": "garg"}])
def test_figures_equal_a_computation_by_hand(model, tiny_folder, options):
    dataset = open_data(f"folder:{tiny_folder}")
    scorer = Scorer.of(
        dataset,
        dataset.heldout,
        "heldout",
        model.size,
        crop=options.get("crop"),
        flip_average=options.get("flip", False),
    )
    got = scorer(model, precision="float32", batch=3)
    d1, rmse = by_hand(model, dataset.heldout, **options)
    assert got["delta1"] == pytest.approx(d1, abs=1e-4)
    assert got["rmse"] == pytest.approx(rmse, rel=1e-4)


def test_evaluate_names_its_protocol_and_leaves_the_model_as_it_was(model, tiny_folder):
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = evaluate(model, f"folder:{tiny_folder}")
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.eval()
    told = result.to_dict()
    assert told["images"] == 8
    assert told["protocol"]["split"] == "heldout"
    assert set("delta1 delta2 delta3 abs_rel sq_rel rmse rmse_log log10".split()) < set(told)
    assert evaluate(model, f"folder:{tiny_folder}", part="validation").protocol.images == 6


def test_predictions_have_the_images_own_size(model):
    rgb = np.random.default_rng(0).integers(0, 255, (77, 53, 3), dtype=np.uint8)
    depth_m = predict(model, rgb)
    assert depth_m.shape == (77, 53)
    assert np.isfinite(depth_m).all()
    assert (depth_m > 0).all()


def test_train_saves_what_it_measured_and_goes_on_from_its_checkpoint(
    tiny_space, tiny_folder, tmp_path
):
    genotype = load_space(tiny_space).sample(0)
    data = f"folder:{tiny_folder}"
    whole = train(genotype, data, epochs=2, out=tmp_path / "a.safetensors")
    again = evaluate(tmp_path / "a.safetensors", data)
    assert again.metrics == whole.heldout.metrics

    class Cut(Exception):
        pass

    def cut(epoch, _):
        raise Cut

    state = tmp_path / "state.pt"
    with pytest.raises(Cut):
        train(genotype, data, epochs=2, checkpoint=state, on_epoch=cut)
    epochs = []
    second = train(
        genotype, data, epochs=2, checkpoint=state, on_epoch=lambda e, _: epochs.append(e.number)
    )
    assert epochs == [2]
    assert second.heldout.metrics == whole.heldout.metrics
    assert not state.exists()


def test_train_goes_on_from_a_models_weights(tiny_space, tiny_folder, tmp_path):
    data = f"folder:{tiny_folder}"
    first = train(load_space(tiny_space).sample(0), data, epochs=12, out=tmp_path / "a.safetensors")
    losses = []
    train(first.path, data, epochs=1, on_epoch=lambda e, _: losses.append(e.loss))
    fresh = []
    train(
        load_space(tiny_space).sample(0), data, epochs=1, on_epoch=lambda e, _: fresh.append(e.loss)
    )
    assert losses[0] < 0.7 * fresh[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"part": "holdout"}, "did you mean heldout"),
        ({"crop": "gorg"}, "did you mean garg"),
        ({"averaging": "image"}, "per-image"),
        ({"model": "missing.safetensors"}, "no such model file"),
        ({"data": "folder:/nowhere"}, "/nowhere"),
    ],
)
def test_bad_words_are_answered(model, tiny_folder, given, said):
    arguments = {"model": model, "data": f"folder:{tiny_folder}"} | given
    with pytest.raises(CompressError, match=said):
        evaluate(**arguments)


def test_a_genotype_cannot_be_evaluated(tiny_space, tiny_folder):
    path = tiny_space.with_name("g.json")
    path.write_text(load_space(tiny_space).sample(0).to_json())
    with pytest.raises(CompressError, match="no weights"):
        evaluate(path, f"folder:{tiny_folder}")


class TestImages:
    """Images in, depth maps out."""

    def test_depth_round_trip(self, tmp_path):
        depth_m = np.array([[0.5, 1.2345], [3.0, 100.0]], np.float32)
        write_depth(tmp_path / "d.png", depth_m)
        back = np.asarray(Image.open(tmp_path / "d.png"))
        assert back.dtype == np.uint16
        np.testing.assert_array_equal(back, [[500, 1234], [3000, 65535]])
        write_depth(tmp_path / "d.npy", depth_m)
        np.testing.assert_array_equal(np.load(tmp_path / "d.npy"), depth_m)
        write_preview(tmp_path / "p.png", depth_m)
        assert Image.open(tmp_path / "p.png").size == (2, 2)

    @pytest.mark.parametrize("content", [b"", b"GIF89a", b"hello", b"\x89PNG\r\n\x1a\n\x00"])
    def test_what_is_no_image_is_named(self, tmp_path, content):
        path = tmp_path / "photo.jpg"
        path.write_bytes(content)
        with pytest.raises(CompressError, match=r"photo\.jpg: not an image"):
            read_image(path)
        with pytest.raises(CompressError, match=r"gone\.jpg: there is no"):
            read_image(tmp_path / "gone.jpg")
        with pytest.raises(CompressError, match="not an image"):
            read_image(tmp_path)

    def test_images_of_all_modes_are_read(self, tmp_path):
        for mode in ("L", "RGBA", "P", "I;16", "1", "CMYK"):
            path = tmp_path / f"{mode.replace(';', '')}.tiff"
            Image.new(mode, (5, 4)).save(path)
            assert read_image(path).shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("native", "size"),
    [((240, 320), (96, 128)), ((375, 1242), (64, 192)), ((640, 480), (128, 96))],
)
def test_fitted_size_keeps_the_shape(native, size):
    class One:
        def __getitem__(self, index):
            return type("S", (), {"rgb": np.zeros((*native, 3), np.uint8)})

    assert fitted_size(One(), (96, 128)) == size


def test_saved_model_keeps_its_input_size(tiny_space, tiny_folder, tmp_path):
    result = train(
        load_space(tiny_space).sample(0), f"folder:{tiny_folder}", epochs=1, size=(33, 49)
    )
    save(result.model, tmp_path / "m.safetensors")
    assert evaluate(tmp_path / "m.safetensors", f"folder:{tiny_folder}").protocol.size == (33, 49)
