import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.training.prompt_batches import generate_texts


@given(st.lists(st.text("ab 我", max_size=6), max_size=20), st.integers(1, 7))
def test_order_is_kept_and_lengths_are_alike(prompts, batch_size):
    batches: list[list[str]] = []

    def generate(some: list[str]) -> list[str]:
        batches.append(some)
        return [text[::-1] + "!" for text in some]

    texts = generate_texts(generate, prompts, batch_size=batch_size)
    assert texts == [text[::-1] + "!" for text in prompts]
    lengths = [len(text.encode()) for batch in batches for text in batch]
    assert lengths == sorted(lengths, reverse=True)
    full, rest = divmod(len(prompts), batch_size)
    assert [len(batch) for batch in batches] == [batch_size] * full + [rest] * bool(rest)


def test_a_text_that_is_missing_is_not_passed_over():
    with pytest.raises(ValueError, match="shorter"):
        generate_texts(lambda some: some[1:], ["a", "b"])
