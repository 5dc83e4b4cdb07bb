"""A text model's serving functions, with the template applied in graph."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from tfllm.data.templates.example_template import ExampleTemplate

__all__ = ["with_template", "with_template_probes"]

_KIND = inspect.Parameter.POSITIONAL_OR_KEYWORD


def with_template(signatures: Mapping[str, Any], template: ExampleTemplate) -> dict[str, Any]:
    """Let serving functions take a template's inputs in place of a prompt.

    Args:
        signatures: name → `tf.function` with an input signature. Those with an input `text`
            `<string>[batch]` are changed; white space around an output `text` is stripped.
        template: of the model's training.

    Returns:
        name → function. An input `text` becomes `template.inputs`, `<string>[batch]` each.
    """
    return {name: _templated(function, template) for name, function in signatures.items()}


def with_template_probes(
    probes: Mapping[str, Mapping[str, Sequence[Any]]],
    template: ExampleTemplate,
    texts: Sequence[str | bytes],
    tokenizer: Any = None,
) -> dict[str, dict[str, Sequence[Any]]]:
    """Put a template's inputs into probes, see `tfllm.export.export_bundle`.

    Args:
        probes: of the functions before `with_template`.
        template: the same.
        texts: what the default signature is asked, for each input.
        tokenizer: the functions'. Where it has no start token, requests whose prompt has no tokens
            are left out: no model can answer them. None for one that has.
    """
    everything = {**probes, "serving_default": {"text": texts}}
    return {
        name: {
            key: rows
            for column, rows in columns.items()
            for key, rows in (
                _filled(template, rows, tokenizer) if column == "text" else {column: rows}
            ).items()
        }
        for name, columns in everything.items()
    }


def _filled(
    template: ExampleTemplate, rows: Sequence[Any], tokenizer: Any
) -> dict[str, Sequence[Any]]:
    """The same rows for each input, begun elsewhere, so that a request's fields differ."""
    turned: dict[str, Sequence[Any]] = {
        name: [*rows[i:], *rows[:i]] for i, name in enumerate(template.inputs)
    }
    if tokenizer is None or tokenizer.bos_id is not None:
        return turned
    import tensorflow as tf

    prompts = template.prompt_in_graph({key: tf.constant(row) for key, row in turned.items()})
    lengths = tokenizer.tokenize(prompts).row_lengths().numpy()
    return {
        name: [value for value, length in zip(values, lengths, strict=True) if length]
        for name, values in turned.items()
    }


def _templated(function: Any, template: ExampleTemplate) -> Any:
    import tensorflow as tf

    positional, named = function.get_concrete_function().structured_input_signature
    specs = {spec.name: spec for spec in (*positional, *named.values())}
    if "text" not in specs:
        return function
    inputs = {name: tf.TensorSpec([None], tf.string, name=name) for name in template.inputs}
    others = {name: spec for name, spec in specs.items() if name != "text"}

    def answer(*values: tf.Tensor) -> dict[str, tf.Tensor]:
        given = dict(zip((*inputs, *others), values, strict=True))
        prompt = template.prompt_in_graph({name: given[name] for name in inputs})
        outputs = function(text=prompt, **{name: given[name] for name in others})
        return {
            name: tf.strings.strip(value) if name == "text" else value
            for name, value in outputs.items()
        }

    # The inputs' names, for who calls it by keyword.
    answer.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, _KIND) for name in (*inputs, *others)]
    )
    return tf.function(
        answer, input_signature=[*inputs.values(), *others.values()], autograph=False
    )
