"""The one table of families: where each layer sits, and what sets a family apart."""

from __future__ import annotations

from typing import Any

from tfllm.errors import InputError
from tfllm.models.backbones import causal, post_norm, xlnet
from tfllm.models.backbones.family import Family, Fields, HeadNames, Part

__all__ = ["FAMILIES", "family_of"]

_BERT_OUTER = (
    Part("embeddings.word_embeddings.weight", "embeddings.weight"),
    Part("embeddings.position_embeddings.weight", "embeddings.position_embeddings"),
    Part("embeddings.token_type_embeddings.weight", "embeddings.token_type_embeddings"),
    Part("embeddings.LayerNorm", "embeddings.LayerNorm"),
)
_BERT_POOLER = Part("pooler.dense", "pooler.dense")
_BERT_PARTS = {
    "query": Part("attention.self.query", "attention.self_attention.query"),
    "key": Part("attention.self.key", "attention.self_attention.key"),
    "value": Part("attention.self.value", "attention.self_attention.value"),
    "attended": Part("attention.output.dense", "attention.dense_output.dense"),
    "attention_norm": Part("attention.output.LayerNorm", "attention.dense_output.LayerNorm"),
    "widen": Part("intermediate.dense", "intermediate.dense"),
    "narrow": Part("output.dense", "bert_output.dense"),
    "output_norm": Part("output.LayerNorm", "bert_output.LayerNorm"),
}
_BERT_FIELDS = Fields("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob")
_CLASSIFIER_DROPOUT = ("classifier_dropout", "hidden_dropout_prob")

_BERT = Family(
    name="BERT",
    model="TFBertModel",
    create=post_norm.create,
    forward=post_norm.encode,
    words="embeddings.weight",
    embeddings=("embeddings",),
    outer=(*_BERT_OUTER, _BERT_POOLER),
    blocks=("encoder.layer",),
    parts=_BERT_PARTS,
    fields=_BERT_FIELDS,
    head=HeadNames(None, "tanh", "classifier", _CLASSIFIER_DROPOUT),
    pooler=_BERT_POOLER,
    token_types=True,
)
_ROBERTA = _BERT._replace(
    name="RoBERTa",
    model="TFRobertaModel",
    outer=_BERT_OUTER,
    head=HeadNames(
        "classifier.dense", "tanh", "classifier.out_proj", _CLASSIFIER_DROPOUT, dropout_first=True
    ),
    pooler=None,
    from_padding=True,
)
_ALBERT_POOLER = Part("pooler", "pooler")
_XLNET_BIASES = ("r_r_bias", "r_s_bias", "r_w_bias")

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA._replace(name="XLM-RoBERTa", model="TFXLMRobertaModel"),
    "distilbert": Family(
        name="DistilBERT",
        model="TFDistilBertModel",
        create=post_norm.create,
        forward=post_norm.encode,
        words="embeddings.weight",
        embeddings=("embeddings",),
        outer=_BERT_OUTER,
        blocks=("transformer.layer",),
        parts={
            "query": Part("attention.q_lin", "attention.q_lin"),
            "key": Part("attention.k_lin", "attention.k_lin"),
            "value": Part("attention.v_lin", "attention.v_lin"),
            "attended": Part("attention.out_lin", "attention.out_lin"),
            "attention_norm": Part("sa_layer_norm", "sa_layer_norm"),
            "widen": Part("ffn.lin1", "ffn.lin1"),
            "narrow": Part("ffn.lin2", "ffn.lin2"),
            "output_norm": Part("output_layer_norm", "output_layer_norm"),
        },
        fields=Fields("activation", "dropout", "attention_dropout"),
        head=HeadNames("pre_classifier", "relu", "classifier", ("seq_classif_dropout",)),
        attended_dropout=False,
    ),
    "albert": Family(
        name="ALBERT",
        model="TFAlbertModel",
        create=post_norm.create,
        forward=post_norm.encode,
        words="embeddings.weight",
        embeddings=("embeddings", "encoder.embedding_hidden_mapping_in"),
        outer=(
            *_BERT_OUTER,
            Part("encoder.embedding_hidden_mapping_in", "encoder.embedding_hidden_mapping_in"),
            _ALBERT_POOLER,
        ),
        blocks=("encoder.albert_layer_groups", "albert_layers"),
        parts={
            "query": Part("attention.query", "attention.query"),
            "key": Part("attention.key", "attention.key"),
            "value": Part("attention.value", "attention.value"),
            "attended": Part("attention.dense", "attention.dense"),
            "attention_norm": Part("attention.LayerNorm", "attention.LayerNorm"),
            "widen": Part("ffn", "ffn"),
            "narrow": Part("ffn_output", "ffn_output"),
            "output_norm": Part("full_layer_layer_norm", "full_layer_layer_norm"),
        },
        fields=_BERT_FIELDS,
        head=HeadNames(None, "tanh", "classifier", ("classifier_dropout_prob",)),
        pooler=_ALBERT_POOLER,
        token_types=True,
        shared=True,
    ),
    "electra": _BERT._replace(
        name="ELECTRA",
        model="TFElectraModel",
        embeddings=("embeddings", "embeddings_project"),
        outer=(*_BERT_OUTER, Part("embeddings_project", "embeddings_project")),
        head=HeadNames(
            "classifier.dense",
            "gelu",
            "classifier.out_proj",
            _CLASSIFIER_DROPOUT,
            dropout_first=True,
        ),
        pooler=None,
    ),
    "gpt2": Family(
        name="GPT-2",
        model="TFGPT2Model",
        create=causal.create,
        forward=causal.encode,
        words="wte.embeddings",
        embeddings=("wte", "wpe"),
        outer=(
            Part("wte.weight", "wte.embeddings"),
            Part("wpe.weight", "wpe.embeddings"),
            Part("ln_f", "ln_f"),
        ),
        blocks=("h",),
        parts={
            "attention_norm": Part("ln_1", "ln_1"),
            "query_key_value": Part("attn.c_attn", "attn.c_attn"),
            "attended": Part("attn.c_proj", "attn.c_proj"),
            "output_norm": Part("ln_2", "ln_2"),
            "widen": Part("mlp.c_fc", "mlp.c_fc"),
            "narrow": Part("mlp.c_proj", "mlp.c_proj"),
        },
        fields=Fields("activation_function", "resid_pdrop", "attn_pdrop"),
        head=HeadNames(None, None, "score", (), out_bias=False),
        causal=True,
        summary="last",
        input_first=True,
        projections=("query_key_value", "attended", "widen", "narrow"),
    ),
    "xlnet": Family(
        name="XLNet",
        model="TFXLNetModel",
        create=xlnet.create,
        forward=xlnet.encode,
        words="word_embedding.weight",
        embeddings=("word_embedding",),
        outer=(
            Part("mask_emb", "mask_emb"),
            Part("word_embedding.weight", "word_embedding.weight"),
        ),
        blocks=("layer",),
        parts={
            **{
                name: Part(f"rel_attn.{name}", f"rel_attn.{name}")
                for name in ("q", "k", "v", "o", "r", *_XLNET_BIASES, "seg_embed")
            },
            "attention_norm": Part("rel_attn.layer_norm", "rel_attn.layer_norm"),
            "output_norm": Part("ff.layer_norm", "ff.layer_norm"),
            "widen": Part("ff.layer_1", "ff.layer_1"),
            "narrow": Part("ff.layer_2", "ff.layer_2"),
        },
        fields=Fields("ff_activation", "dropout", "dropout"),
        head=HeadNames(
            "sequence_summary.summary", "tanh", "logits_proj", ("summary_last_dropout",)
        ),
        token_types=True,
        summary="last",
        projections=("widen", "narrow"),
    ),
}


def family_of(backbone: Any) -> Family:
    """Say how a backbone is built.

    Args:
        backbone: a TF model of transformers, or its configuration.

    Raises:
        InputError: if it is of no family that is known here.
    """
    config = getattr(backbone, "config", backbone)
    family = FAMILIES.get(getattr(config, "model_type", ""))
    if family is None:
        raise InputError(
            f"backbones of the type {getattr(config, 'model_type', None)!r} are not supported. "
            f"Known are: {', '.join(FAMILIES)}"
        )
    return family
