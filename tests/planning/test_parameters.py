"""Counts from config.json equal what Keras counts of the real models."""

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.errors import InputError
from tfllm.models import CausalLM, MaskedLM, QuestionAnswerer, TextClassifier, TokenClassifier
from tfllm.planning import ModelSizes, check_task, count_parameters
from tfllm.planning.model_sizes import FAMILIES

WORDS, POSITIONS = 37, 11


def bert_like(heads, dim, layers, inner):
    return {
        "vocab_size": WORDS,
        "max_position_embeddings": POSITIONS,
        "hidden_size": heads * dim,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
    }


def config_of(family, heads, dim, layers, inner, embedding):
    common = bert_like(heads, dim, layers, inner)
    if family == "gpt2":
        return transformers.GPT2Config(
            vocab_size=WORDS,
            n_positions=POSITIONS,
            n_embd=heads * dim,
            n_head=heads,
            n_layer=layers,
            n_inner=inner,
        )
    if family == "distilbert":
        return transformers.DistilBertConfig(
            vocab_size=WORDS,
            max_position_embeddings=POSITIONS,
            dim=heads * dim,
            n_heads=heads,
            n_layers=layers,
            hidden_dim=inner,
        )
    if family == "xlnet":
        return transformers.XLNetConfig(
            vocab_size=WORDS, d_model=heads * dim, n_head=heads, n_layer=layers, d_inner=inner
        )
    if family == "albert":
        return transformers.AlbertConfig(
            **common, embedding_size=embedding, num_hidden_groups=1, inner_group_num=1
        )
    if family == "electra":
        return transformers.ElectraConfig(**common, embedding_size=embedding)
    kind = {
        "bert": transformers.BertConfig,
        "roberta": transformers.RobertaConfig,
        "xlm-roberta": transformers.XLMRobertaConfig,
    }[family]
    return kind(**common, type_vocab_size=3, pad_token_id=1)


drawn = {
    "heads": st.integers(1, 3),
    "dim": st.sampled_from([2, 4]),
    "layers": st.integers(1, 2),
    "inner": st.integers(3, 9),
    "embedding": st.sampled_from([4, 5]),
    "labels": st.integers(2, 5),
}


@pytest.mark.parametrize("family", FAMILIES)
@given(**drawn)
@settings(max_examples=2, derandomize=True)
def test_a_classifier_has_as_many_parameters(family, labels, **numbers):
    config = config_of(family, **numbers)
    model = TextClassifier.from_config(config, labels=[str(i) for i in range(labels)])
    sizes = ModelSizes.from_config(config.to_dict(), family)
    assert count_parameters(sizes, "text_classifier", labels).total == model.count_params()


@pytest.mark.parametrize("family", ["bert", "albert", "roberta"])
def test_a_tagger_and_an_answerer_have_as_many_parameters(family):
    config = config_of(family, heads=2, dim=4, layers=2, inner=9, embedding=5)
    sizes = ModelSizes.from_config(config.to_dict(), family)
    tagger = TokenClassifier.from_config(config, labels=["O", "B-X", "I-X"])
    assert count_parameters(sizes, "token_classifier", 3).total == tagger.count_params()
    answerer = QuestionAnswerer.from_config(config)
    assert count_parameters(sizes, "question_answerer").total == answerer.count_params()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "albert", "electra"])
def test_a_masked_language_model_has_as_many_parameters(family):
    config = config_of(family, heads=2, dim=4, layers=1, inner=9, embedding=5)
    sizes = ModelSizes.from_config(config.to_dict(), family)
    check_task(sizes, "masked_lm", family)
    model = MaskedLM.from_config(config)
    assert count_parameters(sizes, "masked_lm").total == model.count_params()


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_has_as_many_parameters(tied):
    config = config_of("gpt2", heads=2, dim=4, layers=3, inner=None, embedding=0)
    config.tie_word_embeddings = tied
    sizes = ModelSizes.from_config(config.to_dict(), "gpt2")
    model = CausalLM.from_config(config)
    assert count_parameters(sizes, "causal_lm").total == model.count_params()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_config_does_not_say_is_what_transformers_takes(family):
    whole = transformers.AutoConfig.for_model(family).to_dict()
    assert ModelSizes.from_config({"model_type": family}, "bare") == ModelSizes.from_config(
        whole, "whole"
    )


def test_published_models_have_their_published_size():
    base = ModelSizes.from_config({"model_type": "bert"}, "bert-base-uncased")
    # 109,482,240 with pooler, as the model card's "110M".
    assert count_parameters(base, "text_classifier", 2).total - (768 * 2 + 2) == 109_482_240
    gpt2 = ModelSizes.from_config({"model_type": "gpt2"}, "gpt2")
    assert count_parameters(gpt2, "causal_lm").total == 124_439_808


def test_a_block_that_is_shared_is_counted_once_and_run_often():
    sizes = ModelSizes.from_config({"model_type": "albert", "num_hidden_groups": 2}, "albert")
    assert (sizes.blocks_of_its_own, sizes.num_layers) == (2, 12)
    parameters = count_parameters(sizes, "text_classifier")
    assert parameters.blocks == 2 * parameters.block


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "t5"}, "'t5'"),
        ({}, "None"),
        ({"model_type": "gpt2", "n_embd": 100, "n_head": 3}, "hidden_dim=100, num_heads=3"),
        ({"model_type": "bert", "hidden_size": "wide"}, "hidden_size"),
        ({"model_type": "bert", "num_hidden_layers": 0}, "num_layers"),
        ({"model_type": "bert", "vocab_size": True}, "vocab_size"),
        ({"model_type": "roberta", "max_position_embeddings": 2}, "no positions"),
    ],
)
def test_a_config_that_can_not_be_is_refused(config, said):
    with pytest.raises(InputError, match=said) as caught:
        ModelSizes.from_config(config, "some/folder")
    assert "some/folder" in str(caught.value)


def test_a_task_that_a_family_can_not_do_is_refused():
    bert = ModelSizes.from_config({"model_type": "bert"}, "my-bert")
    with pytest.raises(InputError, match="my-bert.*causal_lm"):
        check_task(bert, "causal_lm", "my-bert")
    gpt2 = ModelSizes.from_config({"model_type": "gpt2"}, "my-gpt2")
    with pytest.raises(InputError, match="my-gpt2.*masked_lm"):
        check_task(gpt2, "masked_lm", "my-gpt2")
    check_task(gpt2, "causal_lm", "my-gpt2")
