from pathlib import Path

import numpy as np

from tfllm import data, text, training

CONTEXT = "one two three four five six seven eight nine ten"


def test_the_best_window_says_the_answer(tmp_path: Path):
    tokenizer = text.train_wordpiece([CONTEXT] * 20, 200)
    encoder = data.QuestionEncoder(
        data.FastTokenizer.of(tokenizer), 9, overlap=1, max_question_tokens=1, answers=None
    )
    examples = [
        {"question": "one", "context": CONTEXT},
        {"question": "two", "context": "three"},
    ]
    store = data.build_array_store(examples, encoder, cache_dir=tmp_path)
    windows = np.asarray(store.values("window"))
    assert windows.tolist() == [0, 1, 2, 0]
    first_word = [int(np.flatnonzero(store.row("context_mask", row))[0]) for row in range(4)]
    outputs = {
        "score": np.array([1.0, 5.0, 2.0, 3.0]),
        "no_answer_score": np.array([9.0, 4.0, 7.0, 1.0]),
        "start": np.array(first_word),
        "end": np.array(first_word) + np.array([0, 1, 0, 0]),
    }
    found = training.best_answers(store, [e["context"] for e in examples], outputs)
    start = int(store.row("starts", 1)[first_word[1]])
    assert found.texts == [" ".join(CONTEXT[start:].split()[:2]), "three"]
    assert found.scores.tolist() == [5.0, 3.0] and found.margins.tolist() == [-1.0, -2.0]
