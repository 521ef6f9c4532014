from __future__ import annotations

import numpy as np
import pytest

from wsistore.errors import SourceNotFoundError
from wsistore.tissue import make_segmenter

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="4.56")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write a tiny SAM 2 with random weights."""
    from wsistore.torchvision_cure import ensure_torchvision

    ensure_torchvision()
    from transformers import Sam2Config, Sam2Model

    torch.manual_seed(0)
    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 8,
                "num_attention_heads": 1,
                "image_size": [128, 128],
                "blocks_per_stage": [1, 2, 2, 1],
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [8, 4, 4, 4],
                "global_attention_blocks": [4],
                "window_positional_embedding_background_size": [7, 7],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 128, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "iou_head_hidden_dim": 32,
        },
    )
    folder = tmp_path_factory.mktemp("sam2") / "tiny"
    Sam2Model(config).save_pretrained(folder)
    return folder


def test_masks_have_the_shapes_of_the_thumbnails(weights, ordinary):
    segmenter = make_segmenter("sam2", weights=str(weights), batch_size=2, local_only=True)
    thumbnails = [ordinary.pixels, ordinary.pixels[:200, :100], ordinary.pixels[::2, ::2]]
    masks = segmenter.segment(thumbnails)
    assert [m.shape for m in masks] == [t.shape[:2] for t in thumbnails]
    assert all(m.dtype == np.bool_ for m in masks)
    assert segmenter.thumbnail_side == 1024


def test_batches_give_what_single_calls_give_and_the_threshold_counts(weights, ordinary):
    thumbnails = [ordinary.pixels, ordinary.pixels[::2, ::3]]
    single = make_segmenter("sam2", weights=str(weights), local_only=True)
    logits = single._logits(np.stack([single._prepared(t) for t in thumbnails]))
    middle = float(np.median(logits))
    for threshold in (middle, float(logits.max()) + 1):
        settings = {"weights": str(weights), "threshold": threshold, "local_only": True}
        one = make_segmenter("sam2", **settings).segment(thumbnails)
        two = make_segmenter("sam2", batch_size=2, **settings).segment(thumbnails)
        for a, b in zip(one, two, strict=True):
            assert np.mean(a != b) < 0.01  # sums of floats in another order
        assert [m.any() for m in one] == [threshold == middle] * 2


def test_the_whole_frame_is_the_prompt(weights, ordinary, monkeypatch):
    segmenter = make_segmenter("sam2", weights=str(weights), local_only=True)
    seen = {}
    model = segmenter._model

    def spy(**inputs):
        seen.update(inputs)
        return model(**inputs)

    monkeypatch.setitem(segmenter.__dict__, "_model", spy)
    monkeypatch.setitem(segmenter.__dict__, "_side", 128)
    segmenter.segment([ordinary.pixels])
    assert seen["input_boxes"].tolist() == [[[0, 0, 128, 128]]]
    assert seen["multimask_output"] is False
    assert tuple(seen["pixel_values"].shape) == (1, 3, 128, 128)
    white = segmenter._prepared(np.full((9, 9, 3), 255, np.uint8))
    expected = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert white[:, 0, 0] == pytest.approx(expected)


def test_the_mask_tells_of_the_weights(weights, tmp_path):
    told = make_segmenter("sam2", weights=str(weights)).parameters
    assert told["weights"] == "tiny"
    assert len(told["sha256"]) == 64
    hub = make_segmenter("sam2", weights="some/model", revision="abc").parameters
    assert (hub["weights"], hub["revision"]) == ("some/model", "abc")


def test_absent_weights_and_pickles_are_refused(weights, tmp_path, ordinary):
    absent = make_segmenter("sam2", weights=str(tmp_path / "absent"), local_only=True)
    with pytest.raises(SourceNotFoundError, match="safetensors"):
        absent.segment([ordinary.pixels])
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((weights / "config.json").read_bytes())
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(SourceNotFoundError, match="safetensors"):
        make_segmenter("sam2", weights=str(pickled), local_only=True).segment([ordinary.pixels])
