"""The functions that a causal language model's bundle serves, and example requests for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfllm.generation.beam import Beam
from tfllm.generation.sampling import Sampling
from tfllm.generation.stop_strings import StopStrings
from tfllm.models.generation_prompts import begun_ids, text_of, with_start
from tfllm.models.generation_request import GenerationRequest

__all__ = ["GenerationSignatures", "generation_probes"]

_TEXT = tf.TensorSpec([None], tf.string, name="text")
_IDS = tf.TensorSpec([None, None], tf.int32, name="input_ids")
_STOP = tf.TensorSpec([None, None], tf.string, name="stop")
_ASKED = [
    _TEXT,
    tf.TensorSpec([None], tf.int32, name="max_new_tokens"),
    tf.TensorSpec([None], tf.float32, name="temperature"),
    tf.TensorSpec([None], tf.int32, name="top_k"),
    tf.TensorSpec([None], tf.float32, name="top_p"),
    tf.TensorSpec([None], tf.int32, name="seed"),
]


class GenerationSignatures(NamedTuple):
    """What `CausalLM.signatures` was asked for; see there.

    The functions are closures and no methods: of a method, TensorFlow would forget the object.

    Attributes:
        model: a `CausalLM`.
        tokenizer: of its vocabulary.
        most: new tokens of `serving_default`, and the most that `generate` gives.
        sampling: of `serving_default` and `tokens`; None for the likeliest token.
        beam: of these two, in place of `sampling`.
    """

    model: Any
    tokenizer: Any
    most: int
    sampling: Sampling | None
    beam: Beam | None

    def functions(self) -> dict[str, Any]:
        """Give all of them by name."""
        return {
            "serving_default": self._default(),
            "generate": self._generate(),
            "score": self._score(),
            "tokenize": self._tokenize(),
            "tokens": self._tokens(),
        }

    @property
    def _room(self) -> int:
        """Tokens that a prompt may have."""
        return self.model.max_positions - self.most + 1

    def _complete(
        self,
        text: tf.Tensor,
        new_tokens: int | tf.Tensor,
        sampling: Sampling | None,
        stop: StopStrings | None = None,
        beam: Beam | None = None,
    ) -> dict[str, tf.Tensor]:
        # The last tokens of each, at least one.
        prompts = with_start(self.tokenizer.tokenize(text)[:, -self._room :], self.tokenizer)
        request = GenerationRequest(
            prompts, new_tokens, sampling, beam=beam, stop=stop, eos_id=self.tokenizer.eos_id
        )
        return {"text": text_of(self.tokenizer, request.run(self.model), stop)}

    def _default(self) -> Any:
        @tf.function(input_signature=[_TEXT], autograph=False)
        def serving_default(text: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._complete(text, self.most, self.sampling, beam=self.beam)

        return serving_default

    def _generate(self) -> Any:
        words = getattr(self.tokenizer, "word_bytes", None)

        def complete(
            text: tf.Tensor, new_tokens: tf.Tensor, chance: Sampling, stop: StopStrings | None
        ) -> dict[str, tf.Tensor]:
            new_tokens = tf.clip_by_value(new_tokens, 0, self.most)
            return self._complete(text, new_tokens, chance, stop)

        # Two forms, because an input that may be left out would be one of the signature all the
        # same. Their parameters are the inputs' names.
        @tf.function(input_signature=_ASKED, autograph=False)
        def generate(
            text: tf.Tensor,
            max_new_tokens: tf.Tensor,
            temperature: tf.Tensor,
            top_k: tf.Tensor,
            top_p: tf.Tensor,
            seed: tf.Tensor,
        ) -> dict[str, tf.Tensor]:
            return complete(text, max_new_tokens, Sampling(temperature, top_k, top_p, seed), None)

        @tf.function(input_signature=[*_ASKED, _STOP], autograph=False)
        def generate_with_stops(
            text: tf.Tensor,
            max_new_tokens: tf.Tensor,
            temperature: tf.Tensor,
            top_k: tf.Tensor,
            top_p: tf.Tensor,
            seed: tf.Tensor,
            stop: tf.Tensor,
        ) -> dict[str, tf.Tensor]:
            chance = Sampling(temperature, top_k, top_p, seed)
            return complete(text, max_new_tokens, chance, StopStrings(words, stop))

        return generate if words is None else generate_with_stops

    def _score(self) -> Any:
        @tf.function(input_signature=[_TEXT], autograph=False)
        def score(text: tf.Tensor) -> dict[str, tf.Tensor]:
            ids = begun_ids(self.tokenizer, text)[:, : self.model.max_positions]
            lengths = tf.cast(ids.row_lengths(), tf.int32)
            dense = ids.to_tensor()
            dense = tf.pad(dense, [[0, 0], [0, tf.cast(tf.shape(dense)[1] == 0, tf.int32)]])
            likelihoods = self.model.token_log_likelihoods(dense, lengths)
            return {
                "log_likelihood": tf.reduce_sum(likelihoods, axis=1),
                "tokens": tf.maximum(lengths - 1, 0),
            }

        return score

    def _tokenize(self) -> Any:
        @tf.function(input_signature=[_TEXT], autograph=False)
        def tokenize(text: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"input_ids": _dense(self.tokenizer.tokenize(text))}

        return tokenize

    def _tokens(self) -> Any:
        @tf.function(input_signature=[_IDS], autograph=False)
        def tokens(input_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            ids = tf.ragged.boolean_mask(input_ids, input_ids >= 0)[:, -self._room :]
            request = GenerationRequest(
                with_start(ids, self.tokenizer),
                self.most,
                self.sampling,
                beam=self.beam,
                eos_id=self.tokenizer.eos_id,
            )
            return {"output_ids": _dense(request.run(self.model))}

        return tokens


def generation_probes(tokenizer: Any = None) -> dict[str, dict[str, list[Any]]]:
    """Give example requests for the signatures that take more than text; see `CausalLM.probes`."""
    texts: list[str | bytes] = [
        "The quick brown fox",
        "",
        "a",
        "日本語 🙂",
        b"\xff\x00",
        "b " * 500,
    ]
    rows = [[1, 2, 3, -1], [0, -1, -1, -1], [-1, -1, -1, -1]]
    prompts = {"text": texts}
    default = {}
    if tokenizer is not None and tokenizer.bos_id is None:
        lengths = tokenizer.tokenize(tf.constant(texts)).row_lengths().numpy()
        prompts = {"text": [text for text, n in zip(texts, lengths, strict=True) if n]}
        default = {"serving_default": prompts}
        del rows[-1]
    generate: dict[str, list[Any]] = {
        **prompts,
        "max_new_tokens": [8, 1, 4, 0],
        "temperature": [0.0, 1.0, 0.5, 1e-40, float("nan")],
        "top_k": [0, 5],
        "top_p": [1.0, 0.9, 0.3],
        "seed": [7, 0, 123456],
    }
    if tokenizer is None or getattr(tokenizer, "word_bytes", None) is not None:
        generate["stop"] = [["e", ""], ["", ""], ["a b", "\n"]]
    return {
        **default,
        "generate": generate,
        "score": {"text": texts},
        "tokenize": {"text": texts},
        "tokens": {"input_ids": rows},
    }


def _dense(ids: tf.RaggedTensor) -> tf.Tensor:
    """`<int32>[batch, (positions)]` → `[batch, longest]`, -1 behind a row's end."""
    return ids.to_tensor(default_value=-1)
