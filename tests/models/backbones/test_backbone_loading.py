"""Folders of every kind → backbones with the same weights."""

import json
import sys

import numpy as np
import pytest
import safetensors.numpy
import transformers
from transformers import TFBertForSequenceClassification, TFPreTrainedModel

from tfllm.errors import InputError
from tfllm.models.backbones import (
    classification_head,
    create_backbone,
    hidden_states,
    load_backbone,
    load_heads,
    pretrained_tensors,
    save_folder,
)


@pytest.fixture
def bert(bert_config, shake) -> TFPreTrainedModel:
    found = create_backbone(bert_config)
    shake(found)
    return found


@pytest.fixture
def folder(bert, tmp_path):
    save_folder(tmp_path / "model", bert, {})
    return tmp_path / "model"


def same_weights(a: TFPreTrainedModel, b: TFPreTrainedModel) -> None:
    for ours, theirs in zip(a.weights, b.weights, strict=True):
        assert ours.name == theirs.name
        np.testing.assert_array_equal(ours, theirs)


def rewrite(folder, change) -> None:
    """Write the weights again, each name and array changed or, for None, left out."""
    path = folder / "model.safetensors"
    changed = [change(*pair) for pair in safetensors.numpy.load_file(path).items()]
    tensors = {n: np.ascontiguousarray(a) for n, a in filter(None, changed)}
    safetensors.numpy.save_file(tensors, path)


def test_there_and_back(backbone, tmp_path):
    save_folder(tmp_path / "model", backbone, {})
    again = load_backbone(tmp_path / "model")
    same_weights(again, backbone)
    assert again.config.to_dict() | {"architectures": None} == backbone.config.to_dict()


@pytest.mark.parametrize("prefix", ["", "bert.", "ernie."])
def test_names_with_and_without_prefix_and_of_old(bert, folder, prefix):
    old = {"weight": "gamma", "bias": "beta"}

    def rename(name, array):
        stem, _, last = name.rpartition(".")
        return f"{prefix}{stem}.{old[last] if 'LayerNorm' in stem else last}", array

    rewrite(folder, rename)
    same_weights(load_backbone(folder), bert)


def test_half_precision_and_other_tensors_are_read(bert, folder):
    rewrite(folder, lambda name, array: (name, array.astype(np.float16)))
    rewrite(folder, lambda name, array: (f"bert.{name}", array))
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors["cls.predictions.bias"] = np.zeros([50], np.float32)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    for a, b in zip(load_backbone(folder).weights, bert.weights, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b).astype(np.float16))


def test_a_checkpoint_without_a_pooler_keeps_a_fresh_one(bert, folder):
    rewrite(folder, lambda name, array: None if "pooler" in name else (name, array))
    found = load_backbone(folder)
    np.testing.assert_array_equal(
        found.bert.encoder.layer[1].bert_output.dense.kernel,
        bert.bert.encoder.layer[1].bert_output.dense.kernel,
    )
    assert np.std(found.bert.pooler.dense.kernel) > 0


def test_shards(bert, folder):
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, part in parts.items():
        safetensors.numpy.save_file({name: tensors[name] for name in part}, folder / file)
    places = {name: file for file, part in parts.items() for name in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    same_weights(load_backbone(folder), bert)
    (folder / "b.safetensors").unlink()
    with pytest.raises(InputError, match="names b.safetensors, which is not there"):
        load_backbone(folder)


@pytest.mark.filterwarnings("ignore:.*TFSharedEmbeddings:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The initializer:UserWarning")
def test_keras_files(config, shake, tmp_path, batch, close):
    """Weights, head and logits of transformers' own class, from the file that it writes."""
    family = type(create_backbone(config)).__name__.removesuffix("Model")
    config.num_labels = 3
    theirs = getattr(transformers, f"{family}ForSequenceClassification")(config)
    theirs.build_in_name_scope()
    shake(theirs)
    theirs.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    backbone = load_backbone(tmp_path)
    head = classification_head(backbone, 3)
    assert load_heads(tmp_path, head.heads) == set(head.heads)
    features = batch(backbone, 7)
    mask = features["attention_mask"]
    if config.model_type == "xlnet":  # whose TF class reads the last column
        features = {name: array[:1] for name, array in features.items()}
        mask = mask[:1]
    logits = theirs(features, training=False).logits
    close(head(hidden_states(backbone, features), mask), logits)


def test_pickles_are_read_only_when_wished(bert_config, tmp_path):
    bert_config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds no weights: none of model.safetensors"):
        load_backbone(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="pickle alone .*give --allow_pickle$"):
        load_backbone(tmp_path)
    message = "can't be read" if "torch" in sys.modules else "needs torch|can't be read"
    with pytest.raises(InputError, match=message):
        load_backbone(tmp_path, pickle=True)


def test_changes_of_the_configuration(folder):
    assert load_backbone(folder, hidden_dropout_prob=0.5).config.hidden_dropout_prob == 0.5
    with pytest.raises(ValueError, match="BertConfig has no setting 'hidden_dropout'"):
        load_backbone(folder, hidden_dropout=0.5)


def change_config(folder, **settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_ernie_is_a_bert(bert, folder):
    change_config(folder, model_type="ernie", use_task_id=False, task_type_vocab_size=3)
    found = load_backbone(folder)
    assert found.config.model_type == "bert"
    same_weights(found, bert)
    change_config(folder, model_type="ernie", use_task_id=True)
    with pytest.raises(InputError, match="asks for task ids"):
        load_backbone(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "t5"}, "of the type 't5', which is not supported. Known are: bert, "),
        ({"model_type": None}, "of the type None"),
        ({"hidden_size": 12}, r"embeddings.weight in .*shape \[50, 8\], .* asks for \[50, 12\]"),
        ({"num_hidden_layers": 3}, "lacks 16 of 55 weights .* are encoder.layer.2.attention.self."),
        ({"num_attention_heads": 3}, "multiple of the number of heads"),
    ],
)
def test_configurations_that_do_not_fit(folder, settings, message):
    change_config(folder, **settings)
    with pytest.raises(InputError, match=message) as caught:
        load_backbone(folder)
    assert "\n" not in str(caught.value)


def test_a_runs_folder_is_not_its_model(folder):
    (folder.parent / "run").mkdir()
    (folder.parent / "run" / "config.json").write_text('{"seed": 0}')
    with pytest.raises(InputError, match="of the type None"):
        load_backbone(folder.parent / "run")
    folder.rename(folder.parent / "run" / "model")
    with pytest.raises(InputError, match=r"Did you mean .*run/model\?$"):
        load_backbone(folder.parent / "run")


def test_damaged_files(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(InputError, match="model.safetensors can't be read as safetensors"):
        load_backbone(folder)
    weights.unlink()
    (folder / "tf_model.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="tf_model.h5 can't be read as Keras's HDF5"):
        load_backbone(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json can't be read as JSON"):
        load_backbone(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="holds no config.json"):
        load_backbone(folder)
    with pytest.raises(InputError, match="there is no folder"):
        load_backbone(folder / "nowhere" / "at" / "all")


def test_heads_of_another_width_are_left_alone(bert, tmp_path):
    two, three = (classification_head(bert, labels) for labels in (2, 3))
    save_folder(tmp_path / "a", bert, two.heads, task="SequenceClassification")
    before = three.out.kernel.numpy()
    assert load_heads(tmp_path / "a", three.heads) == set()
    np.testing.assert_array_equal(three.out.kernel, before)
    other = classification_head(bert, 2)
    assert load_heads(pretrained_tensors(bert, two.heads), other.heads) == {"classifier"}
    np.testing.assert_array_equal(other.out.kernel, two.out.kernel)


def test_transformers_reads_what_is_written(bert, tmp_path, batch, close):
    """In TensorFlow; PyTorch's names are compared one by one in `test_saving.py`."""
    head = classification_head(bert, 2)
    save_folder(tmp_path / "a", bert, head.heads, task="SequenceClassification")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    model = TFBertForSequenceClassification(bert.config)
    model.build_in_name_scope()
    from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model

    tensors = safetensors.numpy.load_file(tmp_path / "a" / "model.safetensors")
    _, info = load_pytorch_state_dict_in_tf2_model(model, tensors, output_loading_info=True)
    assert info == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}
    features = batch(bert, 7)
    logits = head(hidden_states(bert, features), features["attention_mask"])
    close(model(features, training=False).logits, logits)
