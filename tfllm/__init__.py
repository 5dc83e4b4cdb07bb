"""tfllm: from raw text to a language model that TensorFlow Serving runs.

Importing this package imports nothing else. The rooms are its subpackages: `tfllm.text`,
`tfllm.data`, `tfllm.models`, `tfllm.training`, `tfllm.generation`, `tfllm.export`,
`tfllm.serving`.
"""

__version__ = "0.1.0"
